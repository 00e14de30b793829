"""Runs one function in a process of its own, within limits of time and memory.

Converters crash, hang and eat memory; none of that may reach the caller or the other steps. The function is
named by text and takes plain arguments; what it returns comes back through a file. Everything that the
process prints goes to a log.

Concurrency: the calling thread waits; when it is interrupted, the process and its children are killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import psutil

from frameworks.convert.formats import Status
from frameworks.convert.records import Outcome
from frameworks.errors import FrameworkError
from store.plain import Plain

JOB: Final = "job.json"
RESULT: Final = "result.json"

_CHILD: Final = "frameworks.convert.child"
_POLL_SECONDS: Final = 0.05
"""Between two looks at the process: how far beyond its memory it may get."""

_SHARE_OF_MEMORY: Final = 0.8
"""Of the machine's memory, when no limit is given: before the kernel chooses somebody to kill."""

_LOG_TAIL: Final = 4096
"""Bytes of the log in which the last words of a process that died are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one step may use.

    Args:
        seconds: wall-clock time, above 0; default 15 minutes.
        memory_bytes: resident memory of the process and its children; None is 80 % of the machine's.
    """

    seconds: float = 900.0
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise FrameworkError(f"a step needs a time above 0 seconds, not {self.seconds}", field="timeout")
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise FrameworkError("a step needs memory above 0 bytes", field="memory_limit")

    @property
    def memory(self) -> int:
        """Bytes in force."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        return int(psutil.virtual_memory().total * _SHARE_OF_MEMORY)


def isolated(function: str, arguments: Mapping[str, Plain], limits: Limits, log: Path) -> Outcome:
    """Call ``module:function`` with keyword arguments in a new process and return how it ended.

    Args:
        function: importable there; modules are found as they are here.
        arguments: what JSON can hold.
        limits: of time and memory.
        log: file to which the output of the process is appended.

    Returns:
        ``ok`` with the function's value in ``facts``; ``skipped`` where something it needs is missing;
        ``fail`` with the reason ``crashed``, ``timed_out``, ``out_of_memory``, or that of its error.

    Raises:
        OSError: no process can be started.
        BaseException: what interrupts the waiting, such as KeyboardInterrupt; the process is dead by then.
    """
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        job = Path(folder)
        (job / JOB).write_text(json.dumps({"function": function, "arguments": dict(arguments)}))
        with log.open("ab") as output, _started(job, output) as process:
            broken = _watch(process, limits, begin)
        outcome = broken or _result(job, process.returncode, log)
    outcome.seconds = time.monotonic() - begin
    return outcome


@contextlib.contextmanager
def _started(job: Path, output: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process in a group of its own; at the end the whole group is gone."""
    process = subprocess.Popen(
        [sys.executable, "-m", _CHILD, str(job), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={
            "ORT_DISABLE_TELEMETRY": "1",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        },
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _watch(process: subprocess.Popen[bytes], limits: Limits, begin: float) -> Outcome | None:
    """Wait for the end of the process; say which limit it broke, if it did."""
    while True:
        try:
            process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        else:
            return None
        if time.monotonic() - begin > limits.seconds:
            return _failed("timed_out", f"stopped after {limits.seconds:g} s, its limit of time")
        used = _memory(process.pid)
        if used > limits.memory:
            return _failed(
                "out_of_memory",
                f"stopped at {used / 2**30:.2f} GiB of memory; its limit is {limits.memory / 2**30:.2f} GiB",
            )


def _memory(pid: int) -> int:
    """Resident bytes of a process and its descendants."""
    used = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                used += process.memory_info().rss
    return used


def _result(job: Path, code: int, log: Path) -> Outcome:
    try:
        result = json.loads((job / RESULT).read_text())
    except FileNotFoundError:
        return _died(code, log)
    return Outcome(
        status=Status(result["status"]),
        reason=result["reason"],
        message=result["message"],
        facts=result["facts"],
    )


def _died(code: int, log: Path) -> Outcome:
    """Describe a process that ended without a word."""
    if code >= 0:
        how = f"the process ended with status {code}"
    elif -code == signal.SIGKILL:
        how = "the process was killed, perhaps by the kernel for lack of memory"
    else:
        how = f"the process died of {signal.Signals(-code).name}"
    said = _last_line(log)
    return _failed("crashed", f"{how}; it last said: {said}" if said else how)


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _failed(reason: str, message: str) -> Outcome:
    return Outcome(status=Status.FAIL, reason=reason, message=message)
