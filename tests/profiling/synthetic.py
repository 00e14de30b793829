"""A server that does what each request says: ``python -m tests.profiling.synthetic`` prints its port.

Requests are text, no tensors: ``delay MS`` is answered that long after it arrived, ``fail CODE`` at once with
that status, ``hold`` never, anything else at once with its own bytes.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any

from runtime.profiling.recording import Deck, Payload
from runtime.profiling.target import INFER, Target
from runtime.transport.completion_queue import Server
from runtime.transport.options import TransportOptions

PR_SET_TIMERSLACK = 29


class Delays:
    """Answers calls at set instants, on a thread of its own."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, Any]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, call: Any, delay_ms: float) -> None:
        due = time.monotonic_ns() + round(delay_ms * 1e6)
        with self._changed:
            heapq.heappush(self._due, (due, next(self._numbers), call))
            if self._due[0][0] == due:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or (left := self._due[0][0] - time.monotonic_ns()) > 0:
                    self._changed.wait(left / 1e9 if self._due else None)
                call = heapq.heappop(self._due)[2]
            call.respond(b"")


def serve() -> None:
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    delays, held = Delays(), []

    def handle(call: Any) -> None:
        match call.request.decode(errors="replace").split():
            case ["delay", text, *_]:
                delays.add(call, float(text))
            case ["fail", text]:
                call.fail(int(text), "as asked")
            case ["hold"]:
                held.append(call)
            case _:
                call.respond(call.request)

    server = Server(TransportOptions())
    server.add_unary(INFER, handle)
    port = server.add_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()  # until the test lets go
    os._exit(0)


class Synthetic:
    """The server in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.profiling.synthetic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.target = Target(url=f"127.0.0.1:{int(self._process.stdout.readline())}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def __enter__(self) -> Synthetic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def deck(*requests: str, rows: int = 1) -> Deck:
    """Requests in turn."""
    payloads = tuple(Payload(data=text.encode(), rows=rows) for text in requests)
    return Deck(payloads, tuple(range(len(payloads))))


if __name__ == "__main__":
    serve()
