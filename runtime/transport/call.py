"""Calls of the completion-queue server: what all share, and the unary call.

How a unary RPC moves::

    arrived --> ReceiveClose batch   --> _closed -----------------------+--> over, exactly once
            +-> ReceiveMessage batch --> _received --> handler          |
    respond / fail, any thread       --> answer batch --> _sent --------+

A unary call has no lock. Whoever pops its claim, which is atomic, may send the answer: a responder,
or ``_closed``, which thereby knows that no batch of the call can be started any more. If a responder
was first, the call is over only when the answer's batch has come back as well.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from runtime.transport.core import (
    NO_DEADLINE,
    NO_INITIAL,
    STATUS_OK,
    Event,
    Initial,
    Message,
    Owner,
    ReceiveClose,
    ReceiveMessage,
    Status,
    auth_context,
    begin,
)
from runtime.transport.fence import guarded
from runtime.transport.interface import UNSENDABLE, DoneCallback, Metadata, code_number, too_large
from runtime.transport.metadata import checked

log = logging.getLogger(__name__)

_INTERNAL = grpc.StatusCode.INTERNAL.value[0]
_RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED.value[0]


class BaseCall:
    """What a handler may ask of any call, and the bookkeeping of its end."""

    __slots__ = (
        "_callbacks",
        "_cancelled",
        "_core",
        "_event",
        "_handler",
        "_initial",
        "_is_over",
        "_on_cancelled",
        "_owner",
        "method",
        "request",
        "user",
    )

    def __init__(self, owner: Owner, event: Event, method: str, handler: Any) -> None:
        self.method = method
        self.request = b""
        self.user: Any = None
        self._event = event
        self._core = event.call
        self._owner = owner
        self._handler = handler
        self._initial = NO_INITIAL
        self._callbacks: list[DoneCallback] | None = None
        self._on_cancelled: Callable[[], None] | None = None
        self._is_over = False
        self._cancelled = False

    @property
    def metadata(self) -> Metadata:
        """What the client sent."""
        metadata: Metadata = self._event.invocation_metadata
        return metadata

    @property
    def deadline(self) -> float:
        """Unix time in seconds at which the client gives up; ``math.inf`` if it never does."""
        at: float = self._event.call_details.deadline
        return at if at < NO_DEADLINE else math.inf

    def time_remaining(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(self.deadline - time.time(), 0.0)

    def peer(self) -> str:
        """The client's address."""
        return str(self._core.peer().decode())

    def auth_context(self) -> dict[bytes, list[bytes]]:
        """What TLS knows of the peer."""
        return auth_context(self._core) or {}

    def set_initial_metadata(self, metadata: Metadata) -> None:
        """Set what goes out ahead of the first message."""
        self._initial = Initial(checked(metadata), 0)

    def on_done(self, callback: DoneCallback) -> None:
        """Have ``callback(cancelled)`` called at the end.

        The append comes before the look at ``_is_over`` and ``_end`` does it the other way round, so
        one of the two sees the callback; popping decides which.
        """
        if self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)
        if self._is_over:
            self._run_callbacks()

    def on_cancelled(self, callback: Callable[[], None]) -> None:
        """Have ``callback()`` called at the end, if that comes before the answer (queue thread)."""
        self._on_cancelled = callback
        if self._is_over and self._cancelled:
            guarded(callback)

    def _end(self) -> None:
        self._is_over = True
        self._owner.call_over()
        if self._cancelled and self._on_cancelled is not None:
            guarded(self._on_cancelled)
        self._on_cancelled = None  # it usually refers to us
        if self._callbacks:
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:  # the other side took it
                return
            guarded(callback, self._cancelled)


class UnaryCall(BaseCall):
    """One request, one response; see ``interface.Call``."""

    __slots__ = ("_claim", "_half_over")

    def __init__(self, owner: Owner, event: Event, method: str, handler: Any) -> None:
        super().__init__(owner, event, method, handler)
        self._claim = [None]  # popped by whoever may send the answer
        self._half_over = False  # one of _closed and _sent has come (queue thread)
        begin(self._core, (ReceiveClose(0),), self._closed)
        if self._core.start_server_batch((ReceiveMessage(0),), self._received):
            self._core.cancel()  # the end is told to _closed

    def is_active(self) -> bool:
        """Whether an answer would still be sent."""
        return bool(self._claim)

    def respond(self, message: bytes, trailing: Metadata | None = None) -> bool:
        """Answer with one message and status OK."""
        try:
            size = len(message)
            status = STATUS_OK if trailing is None else Status(checked(trailing), 0, b"", 0)
            answer = (self._initial, Message(message, 0), status)
        except (TypeError, ValueError):
            self.fail(_INTERNAL, UNSENDABLE)
            raise
        if size > (limit := self._owner.max_message_bytes):
            return self.fail(_RESOURCE_EXHAUSTED, too_large(size, limit))
        try:
            self._claim.pop()
        except IndexError:
            return False
        self._send(answer)
        return True

    def fail(self, code: int | grpc.StatusCode, details: str, trailing: Metadata | None = None) -> bool:
        """Answer with an error status."""
        try:
            pairs = None if trailing is None else checked(trailing)
        except (TypeError, ValueError):
            self.fail(_INTERNAL, UNSENDABLE)
            raise
        try:
            self._claim.pop()
        except IndexError:
            return False
        self._send((self._initial, Status(pairs, code_number(code), details.encode(), 0)))
        return True

    def cancel(self) -> None:
        """Break the RPC off."""
        if self._claim:
            self._core.cancel()

    def post(self, function: Callable[[], object]) -> bool:
        """Have the queue's thread run a function: an empty batch comes back at once.

        The claim is held meanwhile, so that the call cannot be over and the queue cannot be shut down.
        """
        try:
            self._claim.pop()
        except IndexError:
            return False
        begin(self._core, (), partial(self._posted, function))
        return True

    def _posted(self, function: Callable[[], object], _event: Event) -> None:
        if self._half_over:  # closed meanwhile, when nobody could end it
            self._end()
        else:
            self._claim.append(None)
        guarded(function)

    def _send(self, operations: tuple[Any, ...]) -> None:
        """Start the answer's batch; the caller holds the claim, and ``_sent`` must come."""
        try:
            begin(self._core, operations, self._sent)
        except BaseException:
            begin(self._core, (NO_INITIAL, Status(None, _INTERNAL, UNSENDABLE.encode(), 0)), self._sent)
            raise

    def _received(self, event: Event) -> None:
        request = event.batch_operations[0].message()
        if request is None:  # half-closed without a message, or gone
            self.fail(_UNIMPLEMENTED, f"{self.method} takes exactly one message")
        elif self._claim:
            self.request = request
            try:
                self._handler(self)
            except BaseException:
                log.exception("transport_handler_failed", extra={"method": self.method})
                self.fail(_INTERNAL, "the handler failed")

    def _sent(self, _event: Event) -> None:
        if self._half_over:
            self._end()
        self._half_over = True

    def _closed(self, event: Event) -> None:
        self._cancelled = event.batch_operations[0].cancelled()
        if self._claim:
            try:
                self._claim.pop()
            except IndexError:  # a responder was first after all
                pass
            else:
                self._end()
                return
        if self._half_over:
            self._end()
        self._half_over = True
