"""The fast server: one thread polls grpcio's completion queue and runs the handlers.

Choose it through ``selfcheck.choose``. The thread is the only one that the transport owns; all
counters are touched by it alone, so nothing on the way of a request takes a lock. More cores are used
by more service processes that share the port, not by more queues.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from runtime.transport.call import BaseCall, UnaryCall
from runtime.transport.core import (
    QUEUE_SHUTDOWN,
    CompletionQueue,
    CoreServer,
    Event,
    refuse,
)
from runtime.transport.fence import guarded
from runtime.transport.interface import DRAIN_LIMIT, Handler, HandlerCallDetails, StreamHandler
from runtime.transport.options import TransportOptions, channel_arguments
from runtime.transport.stream import StreamCall

log = logging.getLogger(__name__)

_PREFETCH = 32
"""Requests for a call that are outstanding; a burst beyond it waits inside the C library."""

_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED.value[0]
_RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
_Entry = tuple[str, type[BaseCall], Any]


class Server:
    """See ``interface.Server``.

    ::

        new --start--> serving --stop--> draining --all calls over--> stopped
    """

    def __init__(self, options: TransportOptions) -> None:
        self.after_drain: list[Callable[[], None]] = []
        self.before_stop: list[Callable[[], None]] = []
        self.max_message_bytes = options.max_message_bytes
        self._max_calls = options.max_concurrent_calls
        self._core = CoreServer(channel_arguments(options), False)
        self._queue = CompletionQueue()
        self._core.register_completion_queue(self._queue)
        self._methods: dict[bytes, _Entry] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._adapt: Callable[[grpc.RpcMethodHandler], StreamHandler] | None = None
        self._active = 0
        self._requested = 0  # requests for a call that have not come back
        self._shut = False  # the C server said that it has shut down
        self._started = False
        self._stopping = False  # stop() was called
        self._draining = False  # the C server was told
        self._must_cancel = False  # a grace is over
        self._life = threading.Lock()  # start, stop and destroy exclude each other
        self._timers: list[threading.Timer] = []
        self._stopped = threading.Event()

    # -- set-up -------------------------------------------------------------------------------------

    def add_unary(self, path: str, handler: Handler) -> None:
        """Serve a method of one request and one response."""
        self._methods[path.encode()] = (path, UnaryCall, handler)

    def add_stream(self, path: str, handler: StreamHandler) -> None:
        """Serve a method of any shape."""
        self._methods[path.encode()] = (path, StreamCall, handler)

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Bind ``host:port`` or ``unix:path``; returns the port."""
        secret = () if credentials is None else (credentials._credentials,)
        try:
            port = int(self._core.add_http2_port(address.encode(), *secret))
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
        with self._life:
            self._core.start()
            self._started = True
            self._requested = _PREFETCH
            for _ in range(_PREFETCH):
                self._core.request_call(self._queue, self._queue, self._arrived)
        threading.Thread(target=self._serve, name="grpc-queue", daemon=True).start()

    def stop(self, grace: float | None) -> threading.Event:
        """Drain, and cancel what is left after the grace."""
        with self._life:
            is_first, self._stopping = not self._stopping, True
            if is_first and not self._started:
                self._stopped.set()
        if self._stopped.is_set():
            return self._stopped
        if is_first:
            for hook in self.before_stop:
                guarded(hook)
            with self._life:
                self._core.shutdown(self._queue, self._shutdown_done)
                self._draining = True
                if self._must_cancel:
                    self._core.cancel_all_calls()
        if grace:
            self._cancel_after(grace)
        else:
            self._cancel_all()
        return self._stopped

    def _cancel_after(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._cancel_all)
        timer.daemon = True
        with self._life:
            self._timers.append(timer)
            if not self._stopped.is_set():
                timer.start()

    def _cancel_all(self) -> None:
        with self._life:
            self._must_cancel = True  # a stop that is still at its hooks does it when it gets there
            if self._draining and not self._stopped.is_set():
                self._core.cancel_all_calls()

    # -- the loop -----------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Handle events, in groups if there are hooks, until the queue says that it is shut down.

        Only time-outs and the shutdown come without a tag. Without hooks there is nothing to gather
        for, and the look for further events that ends a group is saved.
        """
        poll = self._queue.poll
        hooks = self.after_drain
        while True:
            event = poll()
            room = DRAIN_LIMIT
            while (tag := event.tag) is not None:
                try:
                    tag(event)
                except BaseException:  # a call may be lost, the server must not be
                    log.exception("transport_event_failed")
                event = tag = None  # else the last call would live on through the next poll
                room -= 1
                if not hooks or not room:
                    break
                event = poll(0)
            else:
                if event.completion_type == QUEUE_SHUTDOWN:
                    self._finish()
                    return
            for hook in hooks:
                guarded(hook)

    def _arrived(self, event: Event) -> None:
        try:
            if event.success:
                self._dispatch(event)
        finally:
            self._request_next()

    def _request_next(self) -> None:
        if not self._stopping:
            try:
                self._core.request_call(self._queue, self._queue, self._arrived)
            except ValueError:  # stop() came in between
                pass
            else:
                return
        self._requested -= 1
        self._settle()

    def _dispatch(self, event: Event) -> None:
        name = event.call_details.method
        entry = self._methods.get(name) or self._find_generic(name)
        if entry is None:
            refuse(event.call, _UNIMPLEMENTED, f"unknown method {name.decode(errors='replace')}")
        elif self._active >= self._max_calls:
            refuse(
                event.call,
                _RESOURCE_EXHAUSTED,
                f"{self._active} calls are active, as many as max_concurrent_calls allows",
            )
        else:
            path, kind, handler = entry
            self._active += 1
            try:
                kind(self, event, path, handler)
            except BaseException:
                self._active -= 1
                raise

    def _find_generic(self, name: bytes) -> _Entry | None:
        if self._adapt is None:
            return None
        path = name.decode(errors="replace")
        details = HandlerCallDetails(path)
        for generic in self._generic:
            found = generic.service(details)
            if found is not None:
                entry = self._methods[name] = (path, StreamCall, self._adapt(found))
                return entry
        return None

    # -- the end ------------------------------------------------------------------------------------

    def call_over(self) -> None:
        """Book the end of a call (queue thread)."""
        self._active -= 1
        if self._shut:
            self._settle()

    def _shutdown_done(self, _event: Event) -> None:
        self._shut = True
        self._settle()

    def _settle(self) -> None:
        """Close the queue once nothing can start a batch on it any more."""
        if self._shut and not self._active and not self._requested:
            self._queue.shutdown()

    def _finish(self) -> None:
        with self._life:
            self._core.destroy()
            self._stopped.set()
            for timer in self._timers:
                timer.cancel()
