"""Settings of the C library that are read from the environment when grpc is first imported.

Call ``prepare_environment`` first thing in a service process. Only switches that the installed
grpcio knows are set, and only those whose effect was measured.
"""

from __future__ import annotations

import logging
import mmap
import os
import sys
from importlib.util import find_spec
from pathlib import Path

log = logging.getLogger(__name__)

_VARIABLE = "GRPC_EXPERIMENTS"
_EXPERIMENTS = {
    # without it the thread that polls the queue reads and writes the sockets itself: no hand-over
    # between threads per event. CPU per unary echo fell from about 45 to 29 us at 64 in flight and
    # from 66 to 42 us at 1 (grpcio 1.85), and by a quarter for messages of 600 kB.
    "event_engine_listener": "-event_engine_listener",
}


def prepare_environment() -> tuple[str, ...]:
    """Switch the C library to what suits a server whose one thread polls the completion queue.

    A switch that the user has set already, either way, is left alone.

    Returns:
        The switches that were added; empty if grpc was imported before, when it is too late.

    Concurrency: call it before any other thread is started, as it writes ``os.environ``.
    """
    if "grpc._cython.cygrpc" in sys.modules:
        log.warning("grpc_environment_too_late")
        return ()
    given = [name for name in os.environ.get(_VARIABLE, "").split(",") if name]
    known = {name.lstrip("-") for name in given}
    added = tuple(switch for name, switch in _EXPERIMENTS.items() if name not in known and _exists(name))
    if added:
        os.environ[_VARIABLE] = ",".join((*given, *added))
    return added


def _exists(experiment: str) -> bool:
    """Whether the installed C library has an experiment of this name, found without loading it."""
    spec = find_spec("grpc")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else ()
    wanted = b"\0" + experiment.encode() + b"\0"
    for folder in folders:
        for library in Path(folder, "_cython").glob("cygrpc*.so"):
            with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if data.find(wanted) >= 0:
                    return True
    return False
