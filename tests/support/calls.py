"""Calls without a transport: what the layer above does to them is kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from runtime.transport.interface import DoneCallback, MessageCallback, Metadata


class FakeCall:
    """A unary call. ``answers`` has what ``respond`` and ``fail`` sent: one entry, if all is well."""

    def __init__(
        self,
        request: bytes = b"",
        *,
        deadline: float = math.inf,
        metadata: Metadata = (),
        method: str = "/s/M",
    ) -> None:
        self.request = request
        self.deadline = deadline
        self.metadata = metadata
        self.method = method
        self.user: Any = None
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: dict[str, str | bytes] = {}
        self.message: bytes | None = None
        self.answers = 0
        self.on_done_callbacks: list[DoneCallback] = []

    def time_remaining(self) -> float:
        return math.inf

    def is_active(self) -> bool:
        return not self.answers

    def peer(self) -> str:
        return "unix:"

    def auth_context(self) -> dict[bytes, list[bytes]]:
        return {}

    def set_initial_metadata(self, metadata: Metadata) -> None:
        raise NotImplementedError

    def on_done(self, callback: DoneCallback) -> None:
        self.on_done_callbacks.append(callback)

    def on_cancelled(self, callback: Callable[[], None]) -> None:
        self.on_done_callbacks.append(lambda cancelled: callback() if cancelled else None)

    def post(self, function: Callable[[], object]) -> bool:
        return False

    def respond(self, message: bytes, trailing: Metadata | None = None) -> bool:
        self._end(grpc.StatusCode.OK, "", trailing)
        self.message = message
        return True

    def fail(self, code: int | grpc.StatusCode, details: str, trailing: Metadata | None = None) -> bool:
        assert isinstance(code, grpc.StatusCode)
        self._end(code, details, trailing)
        return True

    def cancel(self) -> None:
        self.end(cancelled=True)

    def end(self, *, cancelled: bool) -> None:
        """What the transport does when the RPC is over."""
        for callback in self.on_done_callbacks:
            callback(cancelled)

    def _end(self, code: grpc.StatusCode, details: str, trailing: Metadata | None) -> None:
        self.answers += 1
        self.code = code
        self.details = details
        self.trailing = dict(trailing or ())


class FakeStream(FakeCall):
    """A stream. The client's messages wait until they are read; ``sent`` has the answers.

    Attributes:
        pending: as if so many answers had not left yet.
    """

    def __init__(self, *, metadata: Metadata = ()) -> None:
        super().__init__(metadata=metadata)
        self.on_message: MessageCallback | None = None
        self.on_drained: Any = None
        self.sent: list[bytes] = []
        self.pending = 0
        self.reads = 0
        self._inbox: deque[bytes | None] = deque()

    def read(self) -> None:
        self.reads += 1

    def client(self, *messages: bytes | None) -> None:
        """The client sends messages (None: it has sent its last); those that were asked for arrive."""
        self._inbox.extend(messages)
        self.deliver()

    def deliver(self) -> None:
        while self._inbox and self.reads:
            self.reads -= 1
            assert self.on_message is not None
            self.on_message(self._inbox.popleft())

    def send(self, message: bytes) -> bool:
        if self.answers:
            return False
        self.sent.append(message)
        return True

    def send_initial_metadata(self) -> None:
        raise NotImplementedError

    def finish(self, trailing: Metadata | None = None) -> bool:
        if self.answers:
            return False
        self._end(grpc.StatusCode.OK, "", trailing)
        return True
