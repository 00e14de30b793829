"""The process that ``isolate`` starts: ``python -m frameworks.convert.child JOB_FOLDER PARENT_PID``.

Calls one function and writes how it ended; an error of ours is told with its reason, any other with its type,
and the traceback goes to the log. Dies with its parent. The first victim if the machine runs out of memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from frameworks.convert.formats import Status
from frameworks.convert.isolate import JOB, RESULT
from frameworks.convert.work import MissingTool
from frameworks.errors import FrameworkError, MissingFramework
from store import StoreError

_PR_SET_PDEATHSIG: Final = 1
"""Source: ``linux/prctl.h``."""

_FIRST_TO_DIE: Final = "1000"
"""Source: ``proc(5)``, ``/proc/pid/oom_score_adj``."""

_MAX_MESSAGE: Final = 2000


def main(job: Path, parent: int) -> None:
    """Do the job in a folder and leave the result there."""
    _die_with(parent)
    document = json.loads((job / JOB).read_text())
    result = _call(document["function"], document["arguments"])
    unfinished = job / f"{RESULT}.unfinished"
    unfinished.write_text(json.dumps(result))
    unfinished.rename(job / RESULT)


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        module, _, function = name.partition(":")
        facts = getattr(importlib.import_module(module), function)(**arguments)
        json.dumps(facts)
    except (MissingTool, MissingFramework) as error:
        return _result(Status.SKIPPED, MissingTool.reason, error.message)
    except (FrameworkError, StoreError) as error:
        traceback.print_exc()
        return _result(Status.FAIL, error.reason, error.message)
    except MemoryError as error:
        traceback.print_exc()
        return _result(Status.FAIL, "out_of_memory", f"no memory is left: {error}")
    except Exception as error:  # noqa: BLE001 -- whatever a converter raises is the result
        traceback.print_exc()
        return _result(Status.FAIL, "raised", _say(error))
    return _result(Status.OK, facts=facts)


def _result(status: Status, reason: str = "", message: str = "", facts: object = None) -> dict[str, Any]:
    return {"status": status.value, "reason": reason, "message": message[:_MAX_MESSAGE], "facts": facts or {}}


def _say(error: Exception) -> str:
    """Return the type and the first words of an error; exporters like to tell whole stories."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:4])}" if lines else type(error).__name__


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_DIE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
