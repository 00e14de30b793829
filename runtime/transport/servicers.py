"""Serve ordinary generated servicers on a transport server.

After ``server.use_servicers(adapter(pool))`` the generated ``add_XServicer_to_server(servicer,
server)`` works unchanged. Methods run in the given thread pool, one thread per call for as long as the
method runs, so it is meant for control methods and user-defined services, not for inference. A method
marked ``experimental_non_blocking`` gives its thread back when it returns.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from runtime.transport.interface import StreamCall, StreamHandler
from runtime.transport.servicer_context import Aborted, Context

log = logging.getLogger(__name__)

OUTBOX_LIMIT = 16
"""Messages that a response iterator may be ahead of the client before it is made to wait."""


def adapter(pool: Executor) -> Callable[[grpc.RpcMethodHandler], StreamHandler]:
    """Return a function that turns a generated method handler into a stream handler.

    Malformed requests get INVALID_ARGUMENT, exceptions UNKNOWN as grpc's own server answers them, and
    calls that the pool does not take any more UNAVAILABLE.
    """

    def adapt(method: grpc.RpcMethodHandler) -> StreamHandler:
        return _Method(pool, method).opened

    return adapt


class _Method:
    """One method of a servicer; stateless between calls."""

    def __init__(self, pool: Executor, method: Any) -> None:
        self._pool = pool
        self._behaviour: Callable[..., Any] = (
            method.unary_unary or method.unary_stream or method.stream_unary or method.stream_stream
        )
        self._streams_in: bool = method.request_streaming
        self._streams_out: bool = method.response_streaming
        self._decode: Callable[[bytes], Any] = method.request_deserializer or bytes
        self._encode: Callable[[Any], bytes] = method.response_serializer or bytes
        is_marked = getattr(self._behaviour, "experimental_non_blocking", False)
        self._is_non_blocking = bool(is_marked) and not self._streams_in

    def opened(self, call: StreamCall) -> None:
        """Take a new call (transport thread)."""
        if self._streams_in:
            self._submit(call, _Requests(call, self._decode))
            return

        def first(message: bytes | None) -> None:
            if message is None:
                call.fail(grpc.StatusCode.UNIMPLEMENTED, f"{call.method} takes exactly one message")
                return
            try:
                request = self._decode(message)
            except DecodeError:
                call.fail(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a valid message")
                return
            self._submit(call, request)

        call.on_message = first
        call.read()

    def _submit(self, call: StreamCall, argument: object) -> None:
        try:
            self._pool.submit(self._run, call, Context(call), argument)
        except RuntimeError:  # the pool was shut down
            call.fail(grpc.StatusCode.UNAVAILABLE, "the server is stopping")

    def _run(self, call: StreamCall, context: Context, argument: object) -> None:
        try:
            if self._is_non_blocking:
                self._behaviour(argument, context, lambda reply: self._reply(call, context, reply))
                return
            self._answer(call, context, self._behaviour(argument, context))
            context.end(grpc.StatusCode.OK)
        except Aborted:
            context.end(grpc.StatusCode.UNKNOWN)
        except DecodeError:
            context.end(grpc.StatusCode.INVALID_ARGUMENT, "a request is not a valid message")
        except BaseException as error:
            log.exception("servicer_failed", extra={"method": call.method})
            context.end(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")

    def _answer(self, call: StreamCall, context: Context, result: Any) -> None:
        if self._streams_out:
            _send_all(call, map(self._encode, result))
        elif result is not None:
            call.send(self._encode(result))
        elif context.code() is None:
            raise TypeError(f"{call.method} returned None")

    def _reply(self, call: StreamCall, context: Context, reply: object | None) -> None:
        """The callback of a non-blocking method; None ends the call."""
        if reply is None:
            context.end(grpc.StatusCode.OK)
        else:
            call.send(self._encode(reply))


class _Requests(Iterator[Any]):
    """The request iterator of a method that takes a stream; reads one message per ``next``."""

    def __init__(self, call: StreamCall, decode: Callable[[bytes], Any]) -> None:
        self._call = call
        self._decode = decode
        self._box: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._is_over = False
        call.on_message = self._box.put

    def __next__(self) -> Any:
        if self._is_over:
            raise StopIteration
        self._call.read()
        message = self._box.get()  # None comes at the latest when the RPC is over
        if message is None:
            self._is_over = True
            raise StopIteration
        return self._decode(message)


def _send_all(call: StreamCall, replies: Iterable[bytes]) -> None:
    """Send an iterator's messages, no faster than the client takes them (pool thread)."""
    room = threading.Event()
    call.on_drained = room.set
    for reply in replies:
        room.clear()
        if not call.send(reply):
            break
        if call.pending > OUTBOX_LIMIT and call.is_active():
            room.wait()  # set when the outbox ran empty, or when the RPC is over
