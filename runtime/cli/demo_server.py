"""Starts ``runtime serve`` in a process of its own, and ends it."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import runtime
from runtime.clock import SECOND, now_ns
from runtime.errors import LoadFailed

READY_S: Final = 60.0
STOP_S: Final = 20.0
LOG_LINES: Final = 15

_READY: Final = re.compile(rb"ready grpc=(\S+) http=(\S+) models=\d+\n")


class ServerProcess:
    """A server with one store, started by ``with``; SIGTERM ends it, and SIGKILL if that does not help.

    It reads no configuration but its flags, and sits in a session of its own: a ctrl-C at the terminal
    reaches it through us.

    Args:
        folder: where it runs and logs; an existing folder.
        store: the model store.
        flags: further flags of ``runtime serve``.

    Attributes:
        url: of gRPC, once it is ready.
        http: of health and metrics.
    """

    def __init__(self, folder: Path, store: Path, flags: Sequence[str] = ()) -> None:
        self._folder = folder
        self._arguments = ["serve", "--store", str(store), *flags]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.http = ""

    @property
    def log(self) -> Path:
        """The file with the server's log."""
        return self._folder / "server.log"

    def __enter__(self) -> ServerProcess:
        """Start the server and wait until it is ready.

        Raises:
            LoadFailed: it ended, or was not ready in time; the message has the end of its log.
        """
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runtime.cli.main", *self._arguments],
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.url, self.http = self._wait_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self) -> int:
        """Wait until the server ends; returns its exit code."""
        return 0 if self._process is None else self._process.wait()

    def stop(self) -> int:
        """End the server and return its exit code; again, it returns 0."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with process:
            process.send_signal(signal.SIGTERM)
            try:
                return process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return process.wait()

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> tuple[str, str]:
        if process.stdout is None:
            raise LoadFailed("the server has no output")
        line = _read_line(process.stdout, READY_S)
        match = _READY.fullmatch(line)
        if match is None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise LoadFailed(f"the server did not get ready; the end of its log:\n{tail}")
        return match[1].decode(), match[2].decode()


def _read_line(stream: IO[bytes], timeout_s: float) -> bytes:
    """Read up to a line's end, the stream's end, or the end of patience."""
    deadline = now_ns() + int(timeout_s * SECOND)
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n") and (left := deadline - now_ns()) > 0:
            if selector.select(left / SECOND):
                byte = os.read(stream.fileno(), 1)
                if not byte:
                    break
                line += byte
    return line


def _environment() -> dict[str, str]:
    """Return our environment without options of other servers, and with this very package importable."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_")}
    here = str(Path(runtime.__file__).parent.parent)
    paths = [here, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment
