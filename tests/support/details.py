"""Reads ``google.rpc.Status`` with descriptors made here from the published definitions."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {"int32": _FIELD.TYPE_INT32, "string": _FIELD.TYPE_STRING}
_MESSAGES = {
    "Status": [
        ("code", 1, "int32", False),
        ("message", 2, "string", False),
        ("details", 3, ".google.protobuf.Any", True),
    ],
    "RetryInfo": [("retry_delay", 1, ".google.protobuf.Duration", False)],
    "BadRequest": [("field_violations", 1, ".google.rpc.FieldViolation", True)],
    "FieldViolation": [("field", 1, "string", False), ("description", 2, "string", False)],
}


@cache
def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, duration_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="details.proto",
        package="google.rpc",
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name, duration_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            message.field.add(
                name=field,
                number=number,
                type=_TYPES.get(kind, _FIELD.TYPE_MESSAGE),
                type_name=None if kind in _TYPES else kind,
                label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL,
            )
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))
        for name in _MESSAGES
    }


def parse(data: bytes) -> tuple[int, str, dict[str, Any]]:
    """Code, message, and the details by the name of their type."""
    status = _classes()["Status"].FromString(data)
    details: dict[str, Any] = {}
    for entry in status.details:
        prefix, _, name = entry.type_url.rpartition(".")
        assert prefix == "type.googleapis.com/google.rpc"
        details[name] = _classes()[name].FromString(entry.value)
    return status.code, status.message, details
