"""Every message, field, enum value and RPC is what a stock client has: none is missing, none is added."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from google.protobuf import descriptor_pb2

from protos import model_config_pb2, open_inference_pb2
from tests.interop import environment

STOCK = """
import base64
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
files = descriptor_pb2.FileDescriptorSet()
for module in (model_config_pb2, service_pb2):
    module.DESCRIPTOR.CopyToProto(files.file.add())
print(base64.b64encode(files.SerializeToString()).decode())
"""

Facts = dict[str, object]


def facts(files: descriptor_pb2.FileDescriptorSet) -> Facts:
    """Every fact that matters to the wire or to a reader of text and JSON, by a name for it."""
    found: Facts = {}
    for file in files.file:
        assert file.syntax == "proto3"
        for message in file.message_type:
            found.update(message_facts(message, message.name, f".{file.package}."))
        for enum in file.enum_type:
            found.update(enum_facts(enum, enum.name))
        for service in file.service:
            found.update(service_facts(service, f".{file.package}."))
    return found


def message_facts(
    message: descriptor_pb2.DescriptorProto, name: str, package: str
) -> Iterator[tuple[str, object]]:
    yield f"message {name}", message.options.map_entry
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        kind = (field.type, field.label, field.type_name.removeprefix(package))
        rest = (field.default_value, field.proto3_optional, field.json_name, str(field.options))
        yield f"field {name}.{field.name}", (field.number, *kind, oneof, *rest)
    for nested in message.nested_type:
        yield from message_facts(nested, f"{name}.{nested.name}", package)
    for enum in message.enum_type:
        yield from enum_facts(enum, f"{name}.{enum.name}")


def enum_facts(enum: descriptor_pb2.EnumDescriptorProto, name: str) -> Iterator[tuple[str, object]]:
    yield f"enum {name}", [(value.name, value.number) for value in enum.value]


def service_facts(
    service: descriptor_pb2.ServiceDescriptorProto, package: str
) -> Iterator[tuple[str, object]]:
    for rpc in service.method:
        types = (rpc.input_type.removeprefix(package), rpc.output_type.removeprefix(package))
        yield f"rpc {service.name}.{rpc.name}", (*types, rpc.client_streaming, rpc.server_streaming)


@pytest.fixture(scope="module")
def stock() -> Facts:
    return facts(descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(environment.run(STOCK))))


@pytest.fixture(scope="module")
def ours() -> Facts:
    files = descriptor_pb2.FileDescriptorSet()
    for module in (model_config_pb2, open_inference_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    return facts(files)


def test_the_comparison_sees_the_whole_protocol(stock: Facts) -> None:
    kinds = [name.split()[0] for name in stock]
    assert kinds.count("rpc") == 20
    assert kinds.count("message") > 100
    assert kinds.count("field") > 300
    assert kinds.count("enum") >= 9


def test_nothing_of_the_stock_client_is_missing(ours: Facts, stock: Facts) -> None:
    assert sorted(stock.keys() - ours.keys()) == []


def test_nothing_is_declared_that_the_stock_client_lacks(ours: Facts, stock: Facts) -> None:
    assert sorted(ours.keys() - stock.keys()) == []


def test_everything_that_both_have_is_equal(ours: Facts, stock: Facts) -> None:
    assert {
        name: (ours[name], stock[name]) for name in ours.keys() & stock.keys() if ours[name] != stock[name]
    } == {}
