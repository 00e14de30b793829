"""Calls of the grpc.aio server; same contract as ``call`` and ``stream``, on public API only.

An answer given on any thread is stored under the call's lock and the loop is woken; the coroutine of
the RPC, which waits on the loop, sends it. Errors in an answer are found where it is given, because
grpc.aio would leave the client waiting.

One thing is weaker than in the other implementation: grpc.aio tells of a client that leaves by an end
of messages first, so a stream that is finished there and then reports ``on_done(False)``.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio

from runtime.transport.fence import guarded
from runtime.transport.interface import (
    UNSENDABLE,
    DoneCallback,
    MessageCallback,
    Metadata,
    code_number,
    too_large,
)
from runtime.transport.metadata import checked

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Answer(NamedTuple):
    """How a call ends: a message (unary calls only) and a status."""

    message: bytes | None
    code: int
    details: str
    trailing: tuple[tuple[str, str | bytes], ...]


class Owner(Protocol):
    """What a call needs of its server."""

    max_message_bytes: int

    def post(self, function: Callable[[], object]) -> None:
        """Run a function on the loop."""

    def run_hooks_soon(self) -> None:
        """Run the ``after_drain`` hooks (loop)."""


class BaseCall:
    """What a handler may ask of any call, and the bookkeeping of its end."""

    def __init__(self, owner: Owner, method: str, context: Any, request: bytes) -> None:
        self.method = method
        self.metadata: Metadata = tuple(context.invocation_metadata() or ())
        self.request = request
        self.user: Any = None
        left = context.time_remaining()
        self.deadline: float = math.inf if left is None else time.time() + left
        self._context = context
        self._owner = owner
        self._lock = threading.Lock()
        self._open = True
        self._is_over = False
        self._cancelled = False
        self._callbacks: list[DoneCallback] = []
        self._initial: Metadata = ()
        self._answer: Answer | None = None
        self._wake = asyncio.Event()

    def time_remaining(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(self.deadline - time.time(), 0.0)

    def is_active(self) -> bool:
        """Whether an answer would still be sent."""
        return self._open

    def peer(self) -> str:
        """The client's address."""
        return str(self._context.peer())

    def auth_context(self) -> dict[bytes, list[bytes]]:
        """What TLS knows of the peer."""
        found = self._context.auth_context()
        return {key if isinstance(key, bytes) else key.encode(): list(value) for key, value in found.items()}

    def set_initial_metadata(self, metadata: Metadata) -> None:
        """Set what goes out ahead of the first message."""
        self._initial = checked(metadata)

    def on_done(self, callback: DoneCallback) -> None:
        """Have ``callback(cancelled)`` called at the end."""
        with self._lock:
            if not self._is_over:
                self._callbacks.append(callback)
                return
        callback(self._cancelled)

    def fail(self, code: int | grpc.StatusCode, details: str, trailing: Metadata | None = None) -> bool:
        """Answer with an error status."""
        return self._conclude(Answer(None, code_number(code), details, self._checked(trailing)))

    def on_cancelled(self, callback: Callable[[], None]) -> None:
        """Have ``callback()`` called at the end, if that comes before the answer."""
        self.on_done(lambda cancelled: callback() if cancelled else None)

    def post(self, function: Callable[[], object]) -> bool:
        """Answers that are given on other threads reach the loop in groups as it is."""
        return False

    def cancel(self) -> None:
        """Break the RPC off."""
        self.fail(grpc.StatusCode.CANCELLED, "cancelled by the server")

    def close(self, *, cancelled: bool) -> None:
        """Book that the RPC is over (loop)."""
        with self._lock:
            self._open = False
            self._is_over = True
            self._cancelled = cancelled
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            guarded(callback, cancelled)

    def _checked(self, trailing: Metadata | None) -> tuple[tuple[str, str | bytes], ...]:
        """Check metadata; if it cannot be sent the call fails, as the client must not be left waiting."""
        try:
            return checked(trailing or ())
        except (TypeError, ValueError):
            self.fail(grpc.StatusCode.INTERNAL, UNSENDABLE)
            raise

    def _conclude(self, answer: Answer) -> bool:
        with self._lock:
            if not self._open:
                return False
            self._open = False
            self._answer = answer
        self._owner.post(self._wake.set)
        return True

    def _oversize(self, message: bytes) -> str | None:
        """Why the message may not be sent.

        Raises:
            TypeError: it is no bytes.
        """
        if not isinstance(message, bytes):
            self.fail(grpc.StatusCode.INTERNAL, UNSENDABLE)
            raise TypeError(f"a message must be bytes, not {type(message).__name__}")
        limit = self._owner.max_message_bytes
        return too_large(len(message), limit) if len(message) > limit else None

    async def _send_status(self, answer: Answer) -> None:
        if answer.code:
            await self._context.abort(_CODES[answer.code], answer.details, answer.trailing)
        if answer.trailing:
            self._context.set_trailing_metadata(answer.trailing)


class UnaryCall(BaseCall):
    """One request, one response; see ``interface.Call``."""

    def respond(self, message: bytes, trailing: Metadata | None = None) -> bool:
        """Answer with one message and status OK."""
        pairs = self._checked(trailing)
        problem = self._oversize(message)
        if problem:
            return self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, problem)
        return self._conclude(Answer(message, 0, "", pairs))

    async def run(self) -> bytes | None:
        """Wait for the answer and send what must precede the message (loop)."""
        while (answer := self._answer) is None:
            await self._wake.wait()
        if self._initial:
            await self._context.send_initial_metadata(self._initial)
        await self._send_status(answer)
        return answer.message


class StreamCall(BaseCall):
    """Any number of messages each way; see ``interface.StreamCall``."""

    def __init__(self, owner: Owner, method: str, context: Any) -> None:
        super().__init__(owner, method, context, b"")
        self.on_message: MessageCallback | None = None
        self.on_drained: Callable[[], None] | None = None
        self._outbox: deque[bytes] = deque()
        self._writing = False
        self._begin_now = False
        self._owed = 0
        self._read_wake = asyncio.Event()

    @property
    def pending(self) -> int:
        """Messages given to ``send`` that have not left yet."""
        return len(self._outbox) + self._writing

    def read(self) -> None:
        """Ask for one more message."""
        with self._lock:
            self._owed += 1
        self._owner.post(self._read_wake.set)

    def send(self, message: bytes) -> bool:
        """Queue a message."""
        problem = self._oversize(message)
        if problem:
            self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, problem)
            return False
        with self._lock:
            if not self._open:
                return False
            self._outbox.append(message)
        self._owner.post(self._wake.set)
        return True

    def send_initial_metadata(self) -> None:
        """Send now what ``set_initial_metadata`` set."""
        self._begin_now = True
        self._owner.post(self._wake.set)

    def respond(self, message: bytes, trailing: Metadata | None = None) -> bool:
        """Send one message and end with OK."""
        return self.send(message) and self.finish(trailing)

    def finish(self, trailing: Metadata | None = None) -> bool:
        """End with OK, after what is queued."""
        return self._conclude(Answer(None, 0, "", self._checked(trailing)))

    async def run(self) -> None:
        """Write what is sent until the end was asked for (loop)."""
        reader = asyncio.ensure_future(self._read_all())
        try:
            while not await self._write_all():
                await self._wake.wait()
                self._wake.clear()
        finally:
            reader.cancel()

    def close(self, *, cancelled: bool) -> None:
        """Book the end, and tell whoever waits to read or to write."""
        super().close(cancelled=cancelled)
        self._outbox.clear()
        self._deliver(None)
        drained, self.on_drained = self.on_drained, None
        if drained is not None:
            guarded(drained)

    async def _write_all(self) -> bool:
        """Write what is queued; returns whether the stream has ended."""
        answer = self._answer  # before the outbox: nothing is queued after an answer
        if self._initial and (self._begin_now or self._outbox or answer):
            initial, self._initial = self._initial, ()
            await self._context.send_initial_metadata(initial)
        while self._outbox:
            self._writing = True
            await self._context.write(self._outbox.popleft())
            self._writing = False
            if not self._outbox and self.on_drained is not None and self._open:
                guarded(self.on_drained)
        if answer is None:
            return False
        await self._send_status(answer)
        return True

    async def _read_all(self) -> None:
        while True:
            while not self._owed:
                self._read_wake.clear()
                await self._read_wake.wait()
            with self._lock:
                self._owed -= 1
            message = await self._context.read()
            if message is grpc.aio.EOF:
                self._deliver(None)
                return
            self._deliver(message)

    def _deliver(self, message: bytes | None) -> None:
        callback = self.on_message
        if message is None:
            self.on_message = None  # the end is told once
        if callback is not None:
            if not guarded(callback, message):
                self.fail(grpc.StatusCode.INTERNAL, "the handler failed")
            self._owner.run_hooks_soon()
