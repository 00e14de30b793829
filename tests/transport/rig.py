"""A server with toy methods under ``/t.T/`` and what they saw; used by the whole conformance suite."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from runtime.transport.interface import Call, ServerFactory, StreamCall
from runtime.transport.options import TransportOptions

WAIT_S = 15.0
ROOT = Path(__file__).resolve().parents[2]
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


def eventually(condition: Callable[[], Any], seconds: float = WAIT_S) -> None:
    """Wait for what nothing announces, such as a counter that falls to zero."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        pause.wait(0.005)


class Rig:
    """A started server; ``calls`` gets what Hold, Stream and Open got, ``done`` how their calls ended."""

    def __init__(
        self,
        factory: ServerFactory,
        *,
        credentials: grpc.ServerCredentials | None = None,
        address: str = "127.0.0.1:0",
        **options: Any,
    ) -> None:
        self.calls: queue.Queue[Any] = queue.Queue()
        self.done: queue.Queue[bool] = queue.Queue()
        self.server = factory(TransportOptions(**options))
        self.server.add_unary("/t.T/Echo", lambda call: call.respond(call.request))
        self.server.add_unary("/t.T/Hold", self._hold)
        self.server.add_stream("/t.T/Stream", self._stream)
        self.server.add_stream("/t.T/Open", self._open)
        self.port = self.server.add_port(address, credentials)
        self.target = address if address.startswith("unix:") else f"127.0.0.1:{self.port}"
        self.server.start()

    def channel(self, *options: tuple[str, Any]) -> grpc.Channel:
        return grpc.insecure_channel(self.target, options=(*UNLIMITED, OWN_CONNECTION, *options))

    def next_call(self) -> Any:
        return self.calls.get(timeout=WAIT_S)

    def next_end(self) -> bool:
        """Whether the next call that ended was cancelled."""
        return self.done.get(timeout=WAIT_S)

    def _hold(self, call: Call) -> None:
        call.on_done(self.done.put)
        self.calls.put(call)

    def _open(self, call: StreamCall) -> None:
        """Echo until somebody else ends the stream."""

        def message(data: bytes | None) -> None:
            if data is not None:
                call.send(data)
                call.read()

        call.on_message = message
        call.on_done(self.done.put)
        self.calls.put(call)
        call.read()

    def _stream(self, call: StreamCall) -> None:
        def message(data: bytes | None) -> None:
            if data is None:
                call.finish((("x-end", "1"),))
            else:
                call.send(data)
                call.read()

        call.on_message = message
        call.on_done(self.done.put)
        self.calls.put(call)
        call.read()


class Child:
    """A Python process that talks by lines; killed at the end, whatever happened."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()


HOLDING_CLIENT = """
import sys, threading
import grpc
channel = grpc.insecure_channel(sys.argv[1])
kept = [channel.unary_unary("/t.T/Hold").future(b"x") for _ in range(int(sys.argv[2]))]
threading.Event().wait()
"""
