"""Server reflection, v1 and v1alpha, on a transport server, without a thread per client.

The descriptors come from a private pool that is given, because the runtime's own message classes are
registered under another proto package than the one on the wire. Health and reflection describe
themselves. A file is answered together with all that it imports.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from runtime.transport.health import SERVICE_NAME as HEALTH_SERVICE
from runtime.transport.interface import Server, StreamCall

SERVICE_NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The two versions differ in name only, so one set of messages serves both."""

_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
_INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT.value[0]
_OUTBOX_LIMIT = 16


class Reflection:
    """Answers what services there are and what their messages look like.

    Args:
        services: full names of the services to list; health and reflection are added.
        pool: where the descriptors of the services are found, by their names on the wire.

    Concurrency: stateless but for the set of open streams, which end when the server begins to stop.
    """

    def __init__(self, services: Sequence[str], pool: DescriptorPool) -> None:
        self._services = tuple(sorted({*services, HEALTH_SERVICE, *SERVICE_NAMES}))
        self._pools = (pool, _standard_pool())
        self._lock = threading.Lock()
        self._calls: set[StreamCall] = set()

    def serve_on(self, server: Server) -> None:
        """Add the reflection methods to a server."""
        for name in SERVICE_NAMES:
            server.add_stream(f"/{name}/ServerReflectionInfo", self._opened)
        server.before_stop.append(self._end_streams)

    def answer(self, request: Any) -> Any:
        """The ``ServerReflectionResponse`` to a ``ServerReflectionRequest``."""
        reply = reflection_pb2.ServerReflectionResponse(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        try:
            self._fill(reply, kind, getattr(request, kind) if kind else None)
        except KeyError as error:
            reply.error_response.error_code = _NOT_FOUND
            reply.error_response.error_message = f"not found: {error.args[0]}"
        return reply

    def _fill(self, reply: Any, kind: str | None, value: Any) -> None:
        """Set the answer.

        Raises:
            KeyError: no pool knows the name.
        """
        if kind == "list_services":
            for name in self._services:
                reply.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            self._add_files(reply, lambda pool: pool.FindFileByName(value))
        elif kind == "file_containing_symbol":
            self._add_files(reply, lambda pool: pool.FindFileContainingSymbol(value))
        elif kind == "file_containing_extension":
            name, number = value.containing_type, value.extension_number
            self._add_files(reply, lambda pool: _file_of_extension(pool, name, number))
        elif kind == "all_extension_numbers_of_type":
            numbers = self._find(
                lambda pool: [e.number for e in pool.FindAllExtensions(pool.FindMessageTypeByName(value))]
            )
            reply.all_extension_numbers_response.base_type_name = value
            reply.all_extension_numbers_response.extension_number.extend(sorted(numbers))
        else:
            reply.error_response.error_code = _INVALID_ARGUMENT
            reply.error_response.error_message = "the request asks for nothing that is known here"

    def _add_files(self, reply: Any, find: Callable[[DescriptorPool], FileDescriptor]) -> None:
        files = _with_imports(self._find(find))
        reply.file_descriptor_response.file_descriptor_proto.extend(file.serialized_pb for file in files)

    def _find(self, find: Callable[[DescriptorPool], Any]) -> Any:
        missing = KeyError("")
        for pool in self._pools:
            try:
                return find(pool)
            except KeyError as error:
                missing = error
        raise missing

    # -- RPCs (transport thread) --------------------------------------------------------------------

    def _opened(self, call: StreamCall) -> None:
        def message(data: bytes | None) -> None:
            if data is None:
                call.finish()
                return
            try:
                request = reflection_pb2.ServerReflectionRequest.FromString(data)
            except DecodeError:
                call.fail(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a valid message")
                return
            call.send(self.answer(request).SerializeToString())
            if call.pending < _OUTBOX_LIMIT:
                call.read()
            else:
                call.on_drained = resume

        def resume() -> None:
            call.on_drained = None
            call.read()

        with self._lock:
            self._calls.add(call)
        call.on_message = message
        call.on_done(lambda _cancelled: self._ended(call))
        call.read()

    def _ended(self, call: StreamCall) -> None:
        with self._lock:
            self._calls.discard(call)

    def _end_streams(self) -> None:
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.fail(grpc.StatusCode.UNAVAILABLE, "the server is stopping")


def _file_of_extension(pool: DescriptorPool, message: str, number: int) -> FileDescriptor:
    extension: Any = pool.FindExtensionByNumber(pool.FindMessageTypeByName(message), number)
    file: FileDescriptor = extension.file
    return file


def _with_imports(file: FileDescriptor) -> Iterable[FileDescriptor]:
    """The file and all that it imports, each once, the asked one first."""
    found: dict[str, FileDescriptor] = {}
    waiting = [file]
    while waiting:
        current = waiting.pop(0)
        if current.name not in found:
            found[current.name] = current
            waiting.extend(current.dependencies)
    return found.values()


def _standard_pool() -> DescriptorPool:
    """A pool of its own for health and both versions of reflection."""
    pool = DescriptorPool()
    pool.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(_version_1().SerializeToString())
    return pool


def _version_1() -> descriptor_pb2.FileDescriptorProto:
    """The v1 file, made from v1alpha, of which it is a renamed copy."""
    file = descriptor_pb2.FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    old, new = ".grpc.reflection.v1alpha.", ".grpc.reflection.v1."
    for message in file.message_type:
        for field in message.field:
            if field.type_name:  # set for messages and enums only
                field.type_name = field.type_name.replace(old, new)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    return file
