"""Which TensorRT library is used, and what it says: the one place that imports it.

Two libraries have the same interface: ``tensorrt``, for all cards, and ``tensorrt_rtx``, for workstation
cards, which also builds plans on machines without a card. Everything else takes the module as a parameter.

Both report failure by None, -1 or False and tell the reason to a logger. Only the first logger of a process
is ever heard, so that there is one per library, which remembers the last messages.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from collections import deque
from importlib import metadata
from types import ModuleType
from typing import Any, Final

from frameworks.base import DISTRIBUTION
from frameworks.errors import MissingFramework

FULL: Final = "tensorrt"
RTX: Final = "tensorrt_rtx"
LIBRARIES: Final = (FULL, RTX)
"""Names of the modules, which are also their distributions' names; the first one that is there is used."""

_MAX_MESSAGES: Final = 50

_logger = logging.getLogger(__name__)


def find(library: str = "") -> ModuleType:
    """Import TensorRT.

    Args:
        library: the one of ``LIBRARIES`` that is wanted; empty means the first that is there.

    Raises:
        MissingFramework: it is not installed, or lacks its own shared libraries; the extras are named.
    """
    wanted = (library,) if library else LIBRARIES
    broken = ""
    for name in wanted:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            return importlib.import_module(name)
        except (
            ImportError,
            OSError,
        ) as error:  # the wheels' shared libraries come from packages of their own
            broken = f"; {name} is installed, but cannot be imported: {error}"
    extras = " or ".join(f"pip install '{DISTRIBUTION}[{name.replace('_', '-')}]'" for name in wanted)
    raise MissingFramework(f"{' or '.join(wanted)} is not installed{broken}; run: {extras}", field=wanted[0])


def library(module: ModuleType) -> str:
    """Return the library's name, one of ``LIBRARIES``."""
    return module.__name__.partition(".")[0]


def installed_versions() -> dict[str, str]:
    """Return the version of each library that is installed, without importing it."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def is_strongly_typed(module: ModuleType) -> bool:
    """Return whether precision comes from the graph alone; older versions choose it by flags."""
    return not hasattr(module.BuilderFlag, "FP16")


class Messages:
    """The last warnings and errors of one library."""

    def __init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=_MAX_MESSAGES)

    def add(self, text: str) -> None:
        """Keep an error."""
        self._kept.append(text.strip())

    def forget(self) -> None:
        """Drop what was said of earlier work."""
        self._kept.clear()

    def text(self) -> str:
        """Return what was said since ``forget``, each message once."""
        return "; ".join(dict.fromkeys(self._kept)) or "it gave no reason"


@functools.cache
def logger(module: ModuleType) -> tuple[Any, Messages]:
    """Return the process's logger for a library, and the errors that it has heard.

    Warnings and less go to this module's own logger at DEBUG.
    """
    messages = Messages()
    grave = (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR)

    class Listener(module.ILogger):  # type: ignore[misc, name-defined]  # the base has no type
        def __init__(self) -> None:
            module.ILogger.__init__(self)  # as its documentation demands

        def log(self, severity: Any, message: str) -> None:
            if severity in grave:
                messages.add(message)
            _logger.debug("tensorrt_says severity=%s text=%s", severity, message)

    return Listener(), messages
