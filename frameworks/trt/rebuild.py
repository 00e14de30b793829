"""Building a plan aside: ``python -m frameworks.trt.rebuild FOLDER PLAN_NAME CARD LIBRARY PARENT_PID``.

Started by an instance that found a plan for another card, and answers with ONNX Runtime meanwhile. The plan
goes into the cache, where the next start finds it. One process per plan builds; the others end at once. The
process dies with the instance.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import ModuleType
from typing import Final

from frameworks.errors import FrameworkError, MissingFramework
from frameworks.gpu import NO_GPU, Gpu, find_gpu
from frameworks.trt import cache as tensorrt_cache
from frameworks.trt import module as tensorrt_module
from frameworks.trt.build import build, prepare
from frameworks.trt.files import Contents
from frameworks.trt.plan import Platform

_CHILD: Final = "frameworks.trt.rebuild"
_NICENESS: Final = 10
"""Building must not slow down the instance that answers meanwhile. Source: ``nice(2)``."""
_PR_SET_PDEATHSIG: Final = 1
"""Source: ``linux/prctl.h``."""

_logger = logging.getLogger(__name__)


def build_here(contents: Contents, module: ModuleType, gpu: Gpu | None) -> bytes:
    """Return the plan of a graph for this machine: the cached one, or a new one, which is then cached.

    Waits where somebody else is building it already. A cache that cannot be written is done without.

    Raises:
        InvalidModel: there is no graph, or TensorRT refuses it.
        MissingFramework: something that building needs is not installed.
    """
    here = Platform.here(module, gpu)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(tensorrt_cache.building(contents.info, here))
        except OSError as error:
            _logger.warning("tensorrt_cache_unwritable error=%s", error)
            return _build(contents, module, gpu)
        plan = tensorrt_cache.look_up(contents.info, here)
        return plan if plan is not None else _build_and_publish(contents, module, gpu)


def build_once(contents: Contents, module: ModuleType, gpu: Gpu | None) -> bool:
    """Build the plan for the cache; return False when somebody else is at it or it is there already.

    Raises:
        InvalidModel: there is no graph, or TensorRT refuses it.
        MissingFramework: something that building needs is not installed.
        OSError: the cache cannot be written.
    """
    here = Platform.here(module, gpu)
    with tensorrt_cache.building(contents.info, here, wait=False) as mine:
        if not mine or tensorrt_cache.look_up(contents.info, here) is not None:
            return False
        _build_and_publish(contents, module, gpu)
        return True


def start(contents: Contents, gpu: Gpu, library: str, name: str) -> threading.Thread:
    """Start a process that builds the plan; return the thread that waits for it and logs how it ended.

    Args:
        contents: the model's folder.
        gpu: the card to build for.
        library: the one to build with.
        name: of the model, for the log.
    """
    what = (str(contents.folder), contents.plan_name, str(gpu.index), library, str(os.getpid()))

    def run() -> None:
        # Started here, since the process dies with the thread that started it.
        try:
            code = subprocess.run(
                [sys.executable, "-m", _CHILD, *what],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
                },
                check=False,
            ).returncode
        except OSError as error:
            _logger.warning("tensorrt_rebuild_failed model=%s error=%s", name, error)
            return
        if code:
            _logger.warning("tensorrt_rebuild_failed model=%s code=%d", name, code)
        else:
            _logger.info("tensorrt_rebuilt model=%s; it is used from the next start on", name)

    thread = threading.Thread(target=run, name="tensorrt-rebuild", daemon=True)
    thread.start()
    return thread


def main(folder: Path, plan_name: str, index: int, library: str) -> None:
    """Build the plan unless somebody else does, or has.

    Raises:
        MissingFramework: a library or the card is not there.
        InvalidModel: the graph cannot be built.
    """
    os.nice(_NICENESS)
    contents = Contents.read(folder, plan_name)
    gpu = find_gpu(index)
    if gpu is None:
        raise MissingFramework(NO_GPU, field="device")
    build_once(contents, tensorrt_module.find(library), gpu)


def _build_and_publish(contents: Contents, module: ModuleType, gpu: Gpu | None) -> bytes:
    plan = _build(contents, module, gpu)
    try:
        tensorrt_cache.publish(contents.info, Platform.here(module, gpu), plan)
    except OSError as error:  # the plan is good all the same
        _logger.warning("tensorrt_cache_unwritable error=%s", error)
    return plan


def _build(contents: Contents, module: ModuleType, gpu: Gpu | None) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tensorrt-") as folder:
        graph, settings = prepare(contents.graph(), contents.info.settings, module, (), Path(folder))
        return build(graph, settings, module, gpu).plan


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


if __name__ == "__main__":
    _die_with(int(sys.argv[5]))
    try:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
    except FrameworkError as error:
        sys.exit(f"tensorrt_rebuild_failed reason={error.reason} message={error.message}")
