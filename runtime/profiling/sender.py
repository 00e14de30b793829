"""The cheapest way to have many unary calls in flight: grpcio's own completion queue.

At load one call costs 25 to 40 us of CPU here, and two to three times that through the public API. The
binding is private and answers misuse by aborting the process, so a generator runs :func:`trial` before it
says that it is ready; the engine starts one with ``sender_public`` in its place if that fails, whatever the
way of failing.

Rules of the C library that are kept here:

1. Operations that hold a state per batch (message, received data, metadata that is not empty) are made for
   each call; those without any are shared by all.
2. The six operations share one batch, so that each call is one event.
3. Closing a channel cancels its calls and then waits until somebody has taken their events: it is never
   called by the thread that takes them.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any, Final, Protocol

from grpc._cython import cygrpc

from runtime.profiling.target import INFER, LIVE, Target

Tag = tuple[int, int, int]
"""What comes back with an answer: intended send, actual send, which payload."""

Answer = tuple[Tag, int]
"""The tag of a call that ended, and the number of its gRPC status."""

CANCELLED: Final = 1
_DEADLINE_EXCEEDED: Final = 4
_UNAVAILABLE: Final = 14
_WAIT_FOR_READY: Final[int] = (
    cygrpc.InitialMetadataFlags.wait_for_ready | cygrpc.InitialMetadataFlags.wait_for_ready_explicitly_set
)
_QUIET: Final = (("grpc.enable_retries", 0), ("grpc.enable_channelz", 0))
"""Retries would hide what the server did; both cost CPU on each call."""


class Sender(Protocol):
    """Sends unary calls to one method over one connection.

    Concurrency: any thread may send; one thread takes the answers; ``close`` belongs to another than that
    one.
    """

    def connect(self, timeout_s: float) -> None:
        """Wait until the server takes calls.

        Raises:
            ConnectionError: it did not within the timeout.
        """

    def send(self, message: bytes, tag: Tag, timeout_s: float | None) -> None:
        """Start a call; its end comes out of ``take``.

        Raises:
            RuntimeError, ValueError: the sender was closed.
        """

    def take(self) -> Answer:
        """Wait for the next call that ends; blocks for ever when none is in flight."""

    def close(self) -> None:
        """Cancel what is in flight, which then comes out of ``take`` as CANCELLED."""


class CoreSender:
    """See :class:`Sender`."""

    def __init__(self, target: Target) -> None:
        credentials = target.credentials()
        self._channel: Any = cygrpc.Channel(
            target.url.encode(),
            target.arguments + _QUIET,
            None if credentials is None else credentials._credentials,
        )
        self._metadata = target.metadata or None
        self._infer: Any = self._channel.get_registered_call_handle(INFER.encode())
        self._call: Any = self._channel.integrated_call
        self._next: Any = self._channel.next_call_event

    def connect(self, timeout_s: float) -> None:
        """Ask whether the server lives, until it answers anything."""
        self.ask(timeout_s)
        _, code = self.take()
        if code in {_DEADLINE_EXCEEDED, _UNAVAILABLE}:
            raise ConnectionError(f"no answer within {timeout_s:g} s (status {code})")

    def send(self, message: bytes, tag: Tag, timeout_s: float | None) -> None:
        """Start a call."""
        metadata = self._metadata
        operations = (
            _NO_INITIAL if metadata is None else _Initial(metadata, 0),
            _Message(message, 0),
            _CLOSE,
            _ReceiveInitial(0),
            _ReceiveMessage(0),
            _ReceiveStatus(0),
        )
        deadline = None if timeout_s is None else _unix() + timeout_s
        self._call(0, _INFER, None, deadline, metadata, None, ((operations, tag),), None, self._infer)

    def take(self) -> Answer:
        """Wait for the next call that ends."""
        event = self._next()
        while event.tag is None:  # a time-out of the queue, when grpcio's support for fork is switched on
            event = self._next()
        return event.tag, event.batch_operations[_STATUS].code()

    def close(self) -> None:
        """Cancel what is in flight."""
        self._channel.close(cygrpc.StatusCode.cancelled, "the run is over")

    def ask(self, timeout_s: float) -> None:
        """Start a call of ServerLive that waits for a connection."""
        operations = (
            _Initial(self._metadata, _WAIT_FOR_READY), _Message(b"", 0), _CLOSE,
            _ReceiveInitial(0), _ReceiveMessage(0), _ReceiveStatus(0),
        )  # fmt: skip
        batch = ((operations, (0, 0, 0)),)
        self._call(0, LIVE.encode(), None, _unix() + timeout_s, self._metadata, None, batch, None, None)


def trial(timeout_s: float = 5.0) -> None:
    """Try what a run against a live server may never need: a deadline that passes, and a close in mid-call.

    Raises:
        RuntimeError: the installed grpcio does not behave as this module expects. It may also die of it.
    """
    sender = CoreSender(Target(url=f"unix-abstract:runtime-nobody-{secrets.token_hex(16)}"))
    sender.ask(0.001)
    _demand(sender.take() == ((0, 0, 0), _DEADLINE_EXCEEDED), "a deadline")
    sender.ask(timeout_s)
    closing = threading.Thread(target=sender.close, daemon=True)
    closing.start()
    _demand(sender.take() == ((0, 0, 0), CANCELLED), "a cancelled call")
    closing.join(timeout_s)
    _demand(not closing.is_alive(), "a close")


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise RuntimeError(f"{what} does not end as expected")


def _unix() -> float:
    """Now as gRPC counts deadlines: in seconds of Unix time."""
    return time.clock_gettime(time.CLOCK_REALTIME)


_INFER: Final = INFER.encode()
_STATUS: Final = 5
_Initial: Any = cygrpc.SendInitialMetadataOperation
_Message: Any = cygrpc.SendMessageOperation
_ReceiveInitial: Any = cygrpc.ReceiveInitialMetadataOperation
_ReceiveMessage: Any = cygrpc.ReceiveMessageOperation
_ReceiveStatus: Any = cygrpc.ReceiveStatusOnClientOperation
_NO_INITIAL: Any = _Initial(None, 0)
_CLOSE: Any = cygrpc.SendCloseFromClientOperation(0)
