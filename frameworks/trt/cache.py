"""Plans that were built on this machine for models that came with another machine's plan, or with none.

Layout below ``$RUNTIME_HOME/cache/tensorrt``::

    <graph and settings>/<library, version, card, driver>.plan
    <graph and settings>/<library, version, card, driver>.json    its record, with the digest
    <graph and settings>/<library, version, card, driver>.lock    held by flock while somebody builds it

Invariants: files appear by one rename. A plan counts only with a record that has its digest; everything else
is as if it were not there, and is replaced by the next one who builds it. Deleting the folder is always safe.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from frameworks.errors import InvalidModel
from frameworks.trt.files import replace
from frameworks.trt.plan import PlanInfo, Platform, digest
from store.store import DEFAULT_HOME, HOME_VARIABLE

FOLDER: Final = "cache/tensorrt"

_logger = logging.getLogger(__name__)


def root() -> Path:
    """Return the cache's folder; the variable is read now, default ``~/.runtime``."""
    return Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser() / FOLDER


def look_up(info: PlanInfo, here: Platform) -> bytes | None:
    """Return the plan of a graph with its settings for a platform; None when there is no sound one."""
    plan_path = _path(info, here, "plan")
    try:
        found = PlanInfo.read(_path(info, here, "json"))
        plan = plan_path.read_bytes()
    except FileNotFoundError:
        return None
    except InvalidModel as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            _logger.warning("tensorrt_cache_damaged path=%s error=%s", plan_path, error.message)
        return None
    except OSError as error:
        _logger.warning("tensorrt_cache_unreadable path=%s error=%s", plan_path, error)
        return None
    if digest(plan) != found.plan_digest or found.platform != here:
        _logger.warning("tensorrt_cache_damaged path=%s error=digest differs", plan_path)
        return None
    return plan


def publish(info: PlanInfo, here: Platform, plan: bytes) -> Path:
    """Put a plan into the cache and return its path.

    Raises:
        OSError: it cannot be written.
    """
    path = _path(info, here, "plan")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, plan)
    replace(_path(info, here, "json"), info.built(here, plan).to_json())
    return path


@contextmanager
def building(info: PlanInfo, here: Platform, *, wait: bool = True) -> Iterator[bool]:
    """Hold the right to build a plan; yields whether it was got.

    Args:
        info: what is built.
        here: for which platform.
        wait: until somebody else who is at it has finished; else that is False at once.

    Raises:
        OSError: the folder cannot be written.
    """
    path = _path(info, here, "lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:  # closing it gives the lock back
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def _path(info: PlanInfo, here: Platform, suffix: str) -> Path:
    return root() / info.cache_digest() / f"{here.key()}.{suffix}"
