"""The fence around other people's code that runs on a transport's one thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def guarded(callback: Callable[..., object], *args: object) -> bool:
    """Call and log whatever is raised: the thread that serves every client must survive it.

    Returns:
        Whether the callback returned.
    """
    try:
        callback(*args)
    except BaseException:
        log.exception("transport_callback_failed")
        return False
    return True
