"""The contract of the transport: what a handler is given and what a server promises.

Two implementations keep it, ``completion_queue`` (fast) and ``aio`` (public API only), and one
conformance suite runs on both. ``runtime.rpc`` is written against this module alone.

Threads: handlers, ``on_done``, ``on_message``, ``on_drained`` and the ``after_drain`` hooks run on the
server's one thread and must not block. ``respond``, ``fail``, ``send``, ``finish``, ``read`` and
``cancel`` may be called from any thread.

Every RPC ends exactly once. Messages are opaque bytes; decoding belongs to the layer above.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc

from runtime.transport.options import TransportOptions

Metadata = Sequence[tuple[str, str | bytes]]
DoneCallback = Callable[[bool], None]
MessageCallback = Callable[[bytes | None], None]

OK = 0
UNSENDABLE = "the answer could not be sent"
"""Details of INTERNAL for an answer that is no bytes or whose metadata gRPC cannot carry."""

DRAIN_LIMIT = 128
"""Most events that are handled before the ``after_drain`` hooks run, even if more are ready."""


class Call(Protocol):
    """One RPC, from its arrival to its status.

    ::

        open --respond / fail--> answered --> over           on_done(False)
        open --client gone, deadline or stop--> over         on_done(True)
    """

    user: Any
    """For whoever handles the call; the transport never looks at it."""

    @property
    def method(self) -> str:
        """Full name, ``/package.Service/Method``."""

    @property
    def metadata(self) -> Metadata:
        """What the client sent; values of keys that end in ``-bin`` are bytes."""

    @property
    def request(self) -> bytes:
        """The request message; empty for a stream."""

    @property
    def deadline(self) -> float:
        """Unix time in seconds at which the client gives up; ``math.inf`` if it never does."""

    def time_remaining(self) -> float:
        """Seconds until the deadline, never negative, ``math.inf`` without one."""

    def is_active(self) -> bool:
        """Whether an answer would still be sent."""

    def peer(self) -> str:
        """The client's address, such as ``ipv4:127.0.0.1:40000`` or ``unix:``."""

    def auth_context(self) -> dict[bytes, list[bytes]]:
        """What TLS knows of the peer; empty on a plain-text port."""

    def set_initial_metadata(self, metadata: Metadata) -> None:
        """Set the metadata that goes out ahead of the first message.

        Raises:
            TypeError, ValueError: metadata that gRPC cannot carry.
        """

    def on_done(self, callback: DoneCallback) -> None:
        """Have ``callback(cancelled)`` called once, when the RPC is over.

        ``cancelled`` is true if the RPC ended before its answer: the client cancelled or vanished, the
        deadline passed, or the server was stopped. Every callback that was given is called; on a call
        that is over already it runs at once, on the caller's thread.
        """

    def on_cancelled(self, callback: Callable[[], None]) -> None:
        """Have ``callback()`` called when the RPC is over, but only if it ended before its answer.

        One callback a call, to be given by the handler on the server's thread: what ``on_done`` costs a
        call that ends well is saved.
        """

    def respond(self, message: bytes, trailing: Metadata | None = None) -> bool:
        """Answer with one message and status OK.

        Returns:
            True if this was the answer, False if another answer was first or the client is gone.

        Raises:
            TypeError, ValueError: the message is no bytes or the metadata cannot be carried; the
                client, which must not be left waiting, gets INTERNAL.

        A message over the size limit ends the call with RESOURCE_EXHAUSTED and returns True.
        """

    def fail(self, code: int | grpc.StatusCode, details: str, trailing: Metadata | None = None) -> bool:
        """Answer with an error status; returns and raises as ``respond`` does."""

    def cancel(self) -> None:
        """Break the RPC off; the client sees CANCELLED. Nothing happens on an answered call."""

    def post(self, function: Callable[[], object]) -> bool:
        """Have the server's thread run ``function`` soon, and the ``after_drain`` hooks after it.

        For whoever has many answers to give: given on the server's own thread they cost about a fifth
        less. Until the function runs, nobody else may answer this call.

        Returns:
            False, and nothing is run, if the call was answered or is over, or where it would not pay:
            for streams, and in the ``aio`` implementation.
        """


class StreamCall(Call, Protocol):
    """An RPC with any number of messages each way; its handler runs before any message has come.

    The handler sets ``on_message`` and calls ``read`` once for each message that it wants. Messages
    and the status leave in the order in which they were given.
    """

    on_message: MessageCallback | None
    """Gets each message that was read, then None once: the client has sent its last, or it is over.
    If it raises, the stream ends with INTERNAL."""

    on_drained: Callable[[], None] | None
    """Called whenever all that was sent has left, and once more when the RPC is over."""

    @property
    def pending(self) -> int:
        """Messages that were given to ``send`` and have not left yet."""

    def read(self) -> None:
        """Ask for one more message; nothing happens once the stream is over."""

    def send(self, message: bytes) -> bool:
        """Queue a message.

        Returns:
            False if the stream is over or its end was asked for.

        Raises:
            TypeError: the message is no bytes; the stream ends with INTERNAL.

        A message over the size limit ends the stream with RESOURCE_EXHAUSTED and returns False.
        """

    def finish(self, trailing: Metadata | None = None) -> bool:
        """End the stream with OK, after what is queued; returns as ``respond`` does."""

    def send_initial_metadata(self) -> None:
        """Send now, ahead of any message, what ``set_initial_metadata`` set."""


Handler = Callable[[Call], object]
"""Takes a call, answers it at once or keeps it. If it raises, the client gets INTERNAL."""
StreamHandler = Callable[[StreamCall], object]


class Server(Protocol):
    """Listens, hands calls to handlers by full method name, stops in order.

    Constructed with one ``TransportOptions``. A call of an unknown method gets UNIMPLEMENTED, one
    above ``max_concurrent_calls`` RESOURCE_EXHAUSTED; neither reaches a handler.
    """

    after_drain: list[Callable[[], None]]
    """Called on the server's thread after each group of at most ``DRAIN_LIMIT`` events."""

    before_stop: list[Callable[[], None]]
    """Called once, by the thread that calls ``stop`` first: end what would only hold up the drain."""

    @property
    def active(self) -> int:
        """Calls accepted and not over."""

    def add_unary(self, path: str, handler: Handler) -> None:
        """Serve a method of one request and one response; allowed after ``start``."""

    def add_stream(self, path: str, handler: StreamHandler) -> None:
        """Serve a method of any shape; allowed after ``start``."""

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Bind ``host:port`` or ``unix:path`` before ``start``; returns the port.

        Raises:
            OSError: the address cannot be bound.
        """

    def use_servicers(self, adapt: Callable[[grpc.RpcMethodHandler], StreamHandler]) -> None:
        """Serve also what the two methods below register; ``adapt`` is ``servicers.adapter(pool)``."""

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """The half of ``grpc.Server`` that generated ``add_XServicer_to_server`` functions call."""

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Called by generated code with what ``add_generic_rpc_handlers`` gets too; does nothing."""

    def start(self) -> None:
        """Begin to serve; once."""

    def stop(self, grace: float | None) -> threading.Event:
        """Refuse new calls, let accepted ones end, cancel what is left after ``grace`` seconds.

        None or 0 cancels at once. A second call may shorten the grace. Returns an event that is set
        when every call is over and the server has let go of its ports.
        """


ServerFactory = Callable[[TransportOptions], Server]
"""What ``selfcheck.choose`` returns."""


class HandlerCallDetails(grpc.HandlerCallDetails):  # type: ignore[misc]
    """What a generic handler is asked with: the method's name; metadata plays no part."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


def code_number(code: int | grpc.StatusCode) -> int:
    """The wire number of a status code."""
    return code if isinstance(code, int) else int(code.value[0])


def too_large(size_bytes: int, limit_bytes: int) -> str:
    """Details of the status for an answer over the limit; names the option to raise."""
    return f"the answer has {size_bytes} bytes, more than max_message_bytes = {limit_bytes} allows"
