"""The names of grpcio's C binding that the completion-queue transport uses, in one place.

The binding is private to grpcio and answers misuse by aborting the process; ``selfcheck`` tries it in
a child process before a server relies on it. Rules of the C library that the callers keep, each of
which was seen to matter:

1. A batch completes when its slowest operation does, so ReceiveClose, which ends with the RPC, has a
   batch of its own; the answer's initial metadata, message and status share one.
2. No batch may be started on a queue that was shut down: the library aborts. A queue is shut down
   only once the server has shut down, every call is over and every request for a call came back; and
   a call is over only once no thread can start a batch of it any more.
3. One ReceiveMessage and one SendMessage may be outstanding per call, hence a stream's outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from grpc._cython import cygrpc

Event = Any
Tag = Callable[[Event], object]

CoreServer: Any = cygrpc.Server
CompletionQueue: Any = cygrpc.CompletionQueue
Initial: Any = cygrpc.SendInitialMetadataOperation
Message: Any = cygrpc.SendMessageOperation
Status: Any = cygrpc.SendStatusFromServerOperation
ReceiveMessage: Any = cygrpc.ReceiveMessageOperation
ReceiveClose: Any = cygrpc.ReceiveCloseOnServerOperation
QUEUE_SHUTDOWN: Any = cygrpc.CompletionType.queue_shutdown
auth_context: Callable[[Any], dict[bytes, list[bytes]] | None] = cygrpc.auth_context

NO_INITIAL: Any = Initial(None, 0)
STATUS_OK: Any = Status(None, 0, b"", 0)
"""Operations without metadata or text hold no state per batch, so that all calls share these two."""

NO_DEADLINE = 1e11
"""The library's "never" comes out as about 9.2e12 seconds after the epoch."""

NEEDED: dict[str, tuple[str, ...]] = {
    "Server": (
        "request_call",
        "register_completion_queue",
        "add_http2_port",
        "start",
        "shutdown",
        "cancel_all_calls",
        "destroy",
    ),
    "CompletionQueue": ("poll", "shutdown"),
    "Call": ("start_server_batch", "cancel", "peer"),
    "RequestCallEvent": ("call", "call_details", "invocation_metadata", "success", "tag"),
    "BatchOperationEvent": ("batch_operations", "tag"),
    "ConnectivityEvent": ("completion_type", "tag"),
    "CallDetails": ("method", "deadline"),
    "ReceiveMessageOperation": ("message",),
    "ReceiveCloseOnServerOperation": ("cancelled",),
}
"""Attributes that must exist, by class; the operations above fail at import if they are missing."""


class CoreRefused(RuntimeError):
    """The C library did not accept a batch; its tag will never come back."""


class Owner(Protocol):
    """What a call needs of its server."""

    max_message_bytes: int

    def call_over(self) -> None:
        """Book the end of a call (queue thread)."""


def ignore(event: Event) -> None:
    """Tag of batches whose end interests nobody: ReceiveClose tells the end of the call."""


def begin(core_call: Any, operations: tuple[Any, ...], tag: Tag) -> None:
    """Start a batch.

    Raises:
        CoreRefused: the library said no.
        TypeError, ValueError: an operation holds what cannot be sent.
    """
    error = core_call.start_server_batch(operations, tag)
    if error:
        raise CoreRefused(f"the C library refused a batch with error {error}")


def refuse(core_call: Any, code: int, details: str) -> None:
    """Answer a call that gets no call object."""
    begin(core_call, (ReceiveClose(0), NO_INITIAL, Status(None, code, details.encode(), 0)), ignore)
