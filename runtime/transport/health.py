"""grpc.health.v1 on a transport server, without a thread per watcher.

The service ``""`` stands for the server itself; each model has a service of its own name. ``Check``
and ``List`` answer on the transport's thread, so probes never wait for a pool. ``Watch`` sends the
status at once and after each change; a watcher that reads slowly gets the latest status, not all.
"""

from __future__ import annotations

import threading

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2

from runtime.transport.interface import Call, Server, StreamCall

SERVICE_NAME = "grpc.health.v1.Health"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthBoard:
    """Which services are serving.

    After ``shutdown`` everything is NOT_SERVING for good. When the server begins to stop, watchers are
    told UNAVAILABLE, so that they do not hold up the drain.

    Concurrency: any thread may call any method.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: dict[str, int] = {"": _SERVING}
        self._watchers: dict[str, set[_Watcher]] = {}
        self._is_shut = False

    def serve_on(self, server: Server) -> None:
        """Add the health methods to a server."""
        server.add_unary(f"/{SERVICE_NAME}/Check", self._check)
        server.add_stream(f"/{SERVICE_NAME}/Watch", self._watch)
        if hasattr(health_pb2, "HealthListResponse"):
            server.add_unary(f"/{SERVICE_NAME}/List", self._list)
        server.before_stop.append(self._end_watches)

    def set(self, service: str, serving: bool) -> None:
        """Say whether a service is serving; after ``shutdown`` nothing changes any more."""
        with self._lock:
            if not self._is_shut:
                self._change(service, _SERVING if serving else _NOT_SERVING)

    def remove(self, service: str) -> None:
        """Forget a service: Check says NOT_FOUND and watchers see SERVICE_UNKNOWN."""
        with self._lock:
            if not self._is_shut and self._statuses.pop(service, None) is not None:
                self._tell(service, _SERVICE_UNKNOWN)

    def shutdown(self) -> None:
        """Turn everything to NOT_SERVING, for good."""
        with self._lock:
            self._is_shut = True
            for service in self._statuses:
                self._change(service, _NOT_SERVING)

    def status(self, service: str) -> int | None:
        """The wire number of a service's status; None for an unknown one."""
        with self._lock:
            return self._statuses.get(service)

    def _change(self, service: str, status: int) -> None:
        if self._statuses.get(service) != status:
            self._statuses[service] = status
            self._tell(service, status)

    def _tell(self, service: str, status: int) -> None:
        for watcher in self._watchers.get(service, ()):
            watcher.tell(status)

    # -- RPCs (transport thread) --------------------------------------------------------------------

    def _check(self, call: Call) -> None:
        service = _service_of(call, call.request)
        if service is None:
            return
        status = self.status(service)
        if status is None:
            call.fail(grpc.StatusCode.NOT_FOUND, f"unknown service {service!r}")
        else:
            call.respond(_response(status))

    def _list(self, call: Call) -> None:
        reply: Message = health_pb2.HealthListResponse()
        with self._lock:
            for service, status in self._statuses.items():
                reply.statuses[service].status = status  # type: ignore[attr-defined]
        call.respond(reply.SerializeToString())

    def _watch(self, call: StreamCall) -> None:
        def opened(message: bytes | None) -> None:
            service = None if message is None else _service_of(call, message)
            if message is None:
                call.fail(grpc.StatusCode.UNIMPLEMENTED, "Watch takes exactly one message")
            elif service is not None:
                self._begin_watch(call, service)

        call.on_message = opened
        call.read()

    def _begin_watch(self, call: StreamCall, service: str) -> None:
        watcher = _Watcher(call)
        call.on_drained = watcher.drained
        with self._lock:
            self._watchers.setdefault(service, set()).add(watcher)
            watcher.tell(self._statuses.get(service, _SERVICE_UNKNOWN))
        call.on_done(lambda _cancelled: self._end_watch(service, watcher))

    def _end_watch(self, service: str, watcher: _Watcher) -> None:
        with self._lock:
            group = self._watchers.get(service)
            if group is not None:
                group.discard(watcher)
                if not group:
                    del self._watchers[service]

    def _end_watches(self) -> None:
        with self._lock:
            watchers = [watcher for group in self._watchers.values() for watcher in group]
        for watcher in watchers:
            watcher.end()

    @property
    def watchers(self) -> int:
        """How many Watch calls are open."""
        with self._lock:
            return sum(map(len, self._watchers.values()))


class _Watcher:
    """One open Watch; holds back what its client is too slow for, and keeps only the latest."""

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._held: int | None = None

    def tell(self, status: int) -> None:
        with self._lock:
            if self._call.pending:
                self._held = status
            else:
                self._call.send(_response(status))

    def drained(self) -> None:
        with self._lock:
            status, self._held = self._held, None
            if status is not None:
                self._call.send(_response(status))

    def end(self) -> None:
        self._call.fail(grpc.StatusCode.UNAVAILABLE, "the server is stopping")


def _service_of(call: Call, message: bytes) -> str | None:
    """The service that a request names; None once the call was failed because it is malformed."""
    try:
        return str(health_pb2.HealthCheckRequest.FromString(message).service)
    except DecodeError:
        call.fail(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a valid message")
        return None


def _response(status: int) -> bytes:
    return bytes(health_pb2.HealthCheckResponse(status=status).SerializeToString())
