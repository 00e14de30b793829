"""The fallback server, over the public grpc.aio API: several times the cost, supported everywhere.

Choose it through ``selfcheck.choose``. A loop of its own runs in one thread; on it run the handlers,
the callbacks and the ``after_drain`` hooks. Answers given on other threads reach it in groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import grpc
import grpc.aio

from runtime.transport.aio_calls import BaseCall, StreamCall, UnaryCall
from runtime.transport.fence import guarded
from runtime.transport.interface import Handler, HandlerCallDetails, StreamHandler
from runtime.transport.options import TransportOptions, channel_arguments

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Entry = tuple[type[BaseCall], Any]


class Server:
    """See ``interface.Server``."""

    def __init__(self, options: TransportOptions) -> None:
        self.after_drain: list[Callable[[], None]] = []
        self.before_stop: list[Callable[[], None]] = []
        self.max_message_bytes = options.max_message_bytes
        self._max_calls = options.max_concurrent_calls
        self._methods: dict[str, _Entry] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._adapt: Callable[[grpc.RpcMethodHandler], StreamHandler] | None = None
        self._active = 0
        self._posted: deque[Callable[[], object]] = deque()
        self._is_posting = False
        self._hooks_due = False
        self._idle = asyncio.Event()  # no call is active
        self._idle.set()
        self._over = asyncio.Event()  # the loop has no more to do
        self._endings: list[asyncio.Task[None]] = []
        self._stopping = False
        self._life = threading.Lock()  # stop and the end of the loop exclude each other
        self._stopped = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="grpc-loop", daemon=True)
        self._thread.start()
        self._server = self._await(self._make(channel_arguments(options)))

    # -- set-up -------------------------------------------------------------------------------------

    def add_unary(self, path: str, handler: Handler) -> None:
        """Serve a method of one request and one response."""
        self._methods[path] = (UnaryCall, handler)

    def add_stream(self, path: str, handler: StreamHandler) -> None:
        """Serve a method of any shape."""
        self._methods[path] = (StreamCall, handler)

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Bind ``host:port`` or ``unix:path``; returns the port."""

        async def bind() -> int:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))

        try:
            port = self._await(bind())
        except RuntimeError as error:
            raise OSError(f"cannot bind {address}: {error}") from error
        if not port:
            raise OSError(f"cannot bind {address}")
        return port

    def use_servicers(self, adapt: Callable[[grpc.RpcMethodHandler], StreamHandler]) -> None:
        """Serve also what generated code registers."""
        self._adapt = adapt

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Remember handlers of generated code."""
        self._generic.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Nothing: ``add_generic_rpc_handlers`` gets the same."""

    @property
    def active(self) -> int:
        """Calls accepted and not over."""
        return self._active

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve."""
        self._await(self._server.start())

    def stop(self, grace: float | None) -> threading.Event:
        """Drain, and cancel what is left after the grace."""
        with self._life:
            is_first, self._stopping = not self._stopping, True
        if is_first:
            for hook in self.before_stop:
                guarded(hook)
        with self._life:
            if self._stopped.is_set():
                return self._stopped
            begun = asyncio.run_coroutine_threadsafe(self._begin_stop(grace or None), self._loop)
        if threading.current_thread() is not self._thread:
            with contextlib.suppress(CancelledError):  # the loop was at its end already
                begun.result()
        return self._stopped

    async def _begin_stop(self, grace: float | None) -> None:
        """Return once new calls are refused, which is the first thing that the stop does."""
        self._endings.append(asyncio.ensure_future(self._stop(grace)))
        await asyncio.sleep(0)

    async def _stop(self, grace: float | None) -> None:
        await self._server.stop(grace)
        await self._idle.wait()
        self._over.set()

    def post(self, function: Callable[[], object]) -> None:
        """Run on the loop; all that is posted before the loop wakes costs one wake-up."""
        self._posted.append(function)
        if not self._is_posting:
            self._is_posting = True
            try:
                self._loop.call_soon_threadsafe(self._run_posted)
            except RuntimeError:  # the loop is closed: every call is over
                self._posted.clear()

    def _run_posted(self) -> None:
        self._is_posting = False  # before the look: what comes later posts again
        while self._posted:
            guarded(self._posted.popleft())
        self._run_hooks()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._over.wait())
        with self._life:
            self._loop.run_until_complete(asyncio.sleep(0))  # what was posted becomes a task
            while pending := asyncio.all_tasks(self._loop):
                for task in pending:
                    task.cancel()
                self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            self._loop.close()
            self._stopped.set()

    def _await(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _make(self, arguments: Sequence[tuple[str, int]]) -> Any:
        server = grpc.aio.server(options=arguments)
        server.add_generic_rpc_handlers((_Finder(self),))
        return server

    # -- calls (loop) -------------------------------------------------------------------------------

    def find(self, method: str) -> grpc.RpcMethodHandler | None:
        """The grpc.aio handler of a method, or None for UNIMPLEMENTED."""
        entry = self._methods.get(method) or self._find_generic(method)
        if entry is None:
            return None
        kind, handler = entry
        if kind is UnaryCall:
            return grpc.stream_unary_rpc_method_handler(self._unary(method, handler))
        return grpc.stream_stream_rpc_method_handler(self._stream(method, handler))

    def _find_generic(self, method: str) -> _Entry | None:
        if self._adapt is None:
            return None
        details = HandlerCallDetails(method)
        for generic in self._generic:
            found = generic.service(details)
            if found is not None:
                entry = self._methods[method] = (StreamCall, self._adapt(found))
                return entry
        return None

    def _unary(self, method: str, handler: Handler) -> Callable[..., Coroutine[Any, Any, bytes | None]]:
        async def serve(_: Any, context: Any) -> bytes | None:
            await self._admit(context)
            request = await context.read()  # a plain unary handler would wait for ever if none came
            call = UnaryCall(self, method, context, b"" if request is grpc.aio.EOF else request)
            async with _Life(self, call):
                if request is grpc.aio.EOF:
                    call.fail(grpc.StatusCode.UNIMPLEMENTED, f"{method} takes exactly one message")
                else:
                    _handle(handler, call)
                return await call.run()

        return serve

    def _stream(self, method: str, handler: StreamHandler) -> Callable[..., Coroutine[Any, Any, None]]:
        async def serve(_: Any, context: Any) -> None:
            await self._admit(context)
            call = StreamCall(self, method, context)
            async with _Life(self, call):
                _handle(handler, call)
                await call.run()

        return serve

    async def _admit(self, context: Any) -> None:
        if self._active >= self._max_calls:
            text = f"{self._active} calls are active, as many as max_concurrent_calls allows"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    def count(self, change: int) -> None:
        """Book the begin or the end of a call."""
        self._active += change
        if self._active:
            self._idle.clear()
        else:
            self._idle.set()
        self.run_hooks_soon()

    def run_hooks_soon(self) -> None:
        """Have the ``after_drain`` hooks run once what is under way on the loop is done."""
        if self.after_drain and not self._hooks_due:
            self._hooks_due = True
            self._loop.call_soon(self._run_hooks)

    def _run_hooks(self) -> None:
        self._hooks_due = False
        for hook in self.after_drain:
            guarded(hook)


class _Life:
    """The time in which a call is active; says when it is over."""

    def __init__(self, server: Server, call: BaseCall) -> None:
        self._server = server
        self._call = call

    async def __aenter__(self) -> None:
        self._server.count(+1)

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._server.count(-1)
        self._call.close(cancelled=kind is not None and issubclass(kind, asyncio.CancelledError))


class _Finder(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, server: Server) -> None:
        self._server = server

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        return self._server.find(handler_call_details.method)


def _handle(handler: Callable[[Any], object], call: BaseCall) -> None:
    try:
        handler(call)
    except BaseException:
        log.exception("transport_handler_failed", extra={"method": call.method})
        call.fail(grpc.StatusCode.INTERNAL, "the handler failed")
