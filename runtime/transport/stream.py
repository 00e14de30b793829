"""The streaming call of the completion-queue server.

The C library takes one message at a time in each direction. ``send`` therefore fills an outbox, from
which ``_advance`` starts the next batch when the last has come back; the last message travels with
the status. ``read`` counts, and ``_received`` starts the next receive while reads are owed.

Every batch is started under the call's lock and only while ``_open``; ``_closed`` clears ``_open``
under the same lock, so that no batch is started once the call is over.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from runtime.transport.call import BaseCall
from runtime.transport.core import (
    Event,
    Message,
    Owner,
    ReceiveClose,
    ReceiveMessage,
    Status,
    begin,
    ignore,
)
from runtime.transport.fence import guarded
from runtime.transport.interface import UNSENDABLE, MessageCallback, Metadata, code_number, too_large
from runtime.transport.metadata import checked

log = logging.getLogger(__name__)


class StreamCall(BaseCall):
    """Any number of messages each way; see ``interface.StreamCall``."""

    __slots__ = (
        "_begun",
        "_lock",
        "_open",
        "_outbox",
        "_owed",
        "_receiving",
        "_sending",
        "_status",
        "on_drained",
        "on_message",
    )

    def __init__(self, owner: Owner, event: Event, method: str, handler: Any) -> None:
        super().__init__(owner, event, method, handler)
        self.on_message: MessageCallback | None = None
        self.on_drained: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._open = True  # batches may be started
        self._outbox: deque[Any] = deque()  # message operations
        self._sending = False
        self._begun = False  # initial metadata is on its way
        self._status: Any = None  # the status operation, once the end was asked for
        self._owed = 0  # reads asked for and not started
        self._receiving = False
        begin(self._core, (ReceiveClose(0),), self._closed)
        try:
            handler(self)
        except BaseException:
            log.exception("transport_handler_failed", extra={"method": method})
            self.fail(grpc.StatusCode.INTERNAL, "the handler failed")

    @property
    def pending(self) -> int:
        """Messages given to ``send`` that have not left yet."""
        return len(self._outbox) + self._sending

    def is_active(self) -> bool:
        """Whether an answer would still be sent."""
        return self._open and self._status is None

    def read(self) -> None:
        """Ask for one more message."""
        with self._lock:
            self._owed += 1
            self._receive()

    def send(self, message: bytes) -> bool:
        """Queue a message."""
        if not isinstance(message, bytes):
            self.fail(grpc.StatusCode.INTERNAL, UNSENDABLE)
            raise TypeError(f"a message must be bytes, not {type(message).__name__}")
        size, limit = len(message), self._owner.max_message_bytes
        if size > limit:
            self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, too_large(size, limit))
            return False
        with self._lock:
            if not self._open or self._status is not None:
                return False
            self._outbox.append(Message(message, 0))
            self._advance()
        return True

    def send_initial_metadata(self) -> None:
        """Send now what ``set_initial_metadata`` set."""
        with self._lock:
            if self._open and not self._begun:
                begin(self._core, (self._initial,), ignore)
                self._begun = True

    def respond(self, message: bytes, trailing: Metadata | None = None) -> bool:
        """Send one message and end with OK."""
        return self.send(message) and self.finish(trailing)

    def finish(self, trailing: Metadata | None = None) -> bool:
        """End with OK, after what is queued."""
        return self._conclude(0, b"", trailing)

    def fail(self, code: int | grpc.StatusCode, details: str, trailing: Metadata | None = None) -> bool:
        """End with an error, after what is queued."""
        return self._conclude(code_number(code), details.encode(), trailing)

    def post(self, function: Callable[[], object]) -> bool:
        """Streams are answered from any thread at the same price."""
        return False

    def cancel(self) -> None:
        """Break the RPC off, with what is queued."""
        if self._open:
            self._core.cancel()

    def _conclude(self, code: int, details: bytes, trailing: Metadata | None) -> bool:
        try:
            pairs = None if trailing is None else checked(trailing)
        except (TypeError, ValueError):
            self.fail(grpc.StatusCode.INTERNAL, UNSENDABLE)
            raise
        status = Status(pairs, code, details, 0)
        with self._lock:
            if not self._open or self._status is not None:
                return False
            self._status = status
            self._advance()
        return True

    def _advance(self) -> None:
        """Start the next send unless one is under way; the caller holds the lock and saw ``_open``."""
        if self._sending or not (self._outbox or self._status):
            return
        operations = [] if self._begun else [self._initial]
        if self._outbox:
            operations.append(self._outbox.popleft())
        is_last = self._status is not None and not self._outbox
        if is_last:
            operations.append(self._status)
        try:
            begin(self._core, tuple(operations), self._sent)
        except BaseException:  # nothing can be said to the client any more
            self._core.cancel()
            raise
        self._begun = self._sending = True
        self._open = not is_last

    def _receive(self) -> None:
        """Start a receive if one is owed and none is under way; the caller holds the lock."""
        if self._open and self._owed and not self._receiving:
            begin(self._core, (ReceiveMessage(0),), self._received)
            self._owed -= 1
            self._receiving = True

    def _received(self, event: Event) -> None:
        message = event.batch_operations[0].message()
        with self._lock:
            if message is not None:
                self._receiving = False  # after the last message no receive is started any more
                self._receive()
        self._deliver(message)

    def _deliver(self, message: bytes | None) -> None:
        callback = self.on_message
        if message is None:
            self.on_message = None  # the end is told once
        if callback is not None and not guarded(callback, message):
            self.fail(grpc.StatusCode.INTERNAL, "the handler failed")

    def _sent(self, _event: Event) -> None:
        with self._lock:
            self._sending = False
            if self._open:
                self._advance()
            drained = None if self._sending or not self._open else self.on_drained
        if drained is not None:
            guarded(drained)

    def _closed(self, event: Event) -> None:
        with self._lock:
            self._open = False
            self._outbox.clear()
        self._cancelled = event.batch_operations[0].cancelled()
        self._end()
        self._deliver(None)  # whoever waits to read, or to write, learns that it is over
        drained, self.on_drained = self.on_drained, None
        if drained is not None:
            guarded(drained)
