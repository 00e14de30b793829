"""The RPCs of the inference service: wire paths, message classes, and descriptors for reflection.

Everything is read from the descriptor of ``open_inference.proto``, so nothing here can disagree with
it. The one fact added is the wire's name of the service, which differs from the name in our own proto
package.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from protos import model_config_pb2, open_inference_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
    from google.protobuf.message import Message

SERVICE: Final = "inference.GRPCInferenceService"
"""Full name of the service on the wire."""

_OUR_PACKAGE: Final = open_inference_pb2.DESCRIPTOR.package
_WIRE_PACKAGE: Final = SERVICE.rpartition(".")[0]
_DESCRIPTOR: Final = open_inference_pb2.DESCRIPTOR.services_by_name[SERVICE.rpartition(".")[2]]


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC of the service.

    ``streaming`` is true when both sides send streams; the service has no one-sided streams.
    """

    name: str
    path: str
    request: type[Message]
    response: type[Message]
    streaming: bool


def path(name: str) -> str:
    """Return the HTTP/2 path of an RPC, such as ``/inference.GRPCInferenceService/ModelInfer``."""
    return RPCS[name].path


def reflection_pool(*extra: FileDescriptor) -> descriptor_pool.DescriptorPool:
    """Return a new private pool that describes the service by its names on the wire.

    The pool shares nothing with the process-wide one, so it never clashes with a library that
    registers the package ``inference`` itself.

    Args:
        extra: files of further services, added unchanged after all that they import.
    """
    pool = descriptor_pool.DescriptorPool()
    for file in (model_config_pb2.DESCRIPTOR, open_inference_pb2.DESCRIPTOR):
        pool.Add(_on_the_wire(file))
    added: set[str] = set()
    for file in extra:
        _add_with_imports(pool, file, added)
    return pool


def _on_the_wire(file: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    """Copy a file of ours with its name, its package and every type reference moved to the wire's package."""
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    copy.package = _WIRE_PACKAGE
    copy.name = _wire_file(copy.name)
    copy.dependency[:] = [_wire_file(name) for name in copy.dependency]
    for message in copy.message_type:
        _rename_fields(message)
    for service in copy.service:
        for method in service.method:
            method.input_type = _wire_type(method.input_type)
            method.output_type = _wire_type(method.output_type)
    return copy


def _rename_fields(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if field.type_name:  # set for messages and enums only
            field.type_name = _wire_type(field.type_name)
    for nested in message.nested_type:
        _rename_fields(nested)


def _wire_file(name: str) -> str:
    return f"{_WIRE_PACKAGE}/{name.rpartition('/')[2]}"


def _wire_type(name: str) -> str:
    """Return a fully qualified type name (``.package.Type``) under the wire's package."""
    prefix = f".{_OUR_PACKAGE}."
    return f".{_WIRE_PACKAGE}.{name.removeprefix(prefix)}" if name.startswith(prefix) else name


def _add_with_imports(pool: descriptor_pool.DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add_with_imports(pool, dependency, added)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    pool.Add(copy)


def _rpc(method: MethodDescriptor) -> Rpc:
    return Rpc(
        name=method.name,
        path=f"/{SERVICE}/{method.name}",
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
        streaming=method.client_streaming and method.server_streaming,
    )


RPCS: Final[Mapping[str, Rpc]] = MappingProxyType({m.name: _rpc(m) for m in _DESCRIPTOR.methods})
"""Every RPC of the service by its name, in the order of the ``.proto`` file."""
