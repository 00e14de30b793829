"""Server reflection, both versions, with descriptors from a private pool."""

from __future__ import annotations

import threading

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from runtime.transport.reflection import SERVICE_NAMES, Reflection
from tests.transport.rig import WAIT_S, eventually


def private_pool():
    """Two files, one of which imports the other, that no default pool knows."""
    pool = DescriptorPool()
    base = descriptor_pb2.FileDescriptorProto(name="toy_base.proto", package="toy", syntax="proto2")
    message = base.message_type.add(name="Thing")
    message.extension_range.add(start=100, end=200)
    top = descriptor_pb2.FileDescriptorProto(
        name="toy.proto", package="toy", syntax="proto2", dependency=["toy_base.proto"]
    )
    service = top.service.add(name="Toys")
    service.method.add(name="Play", input_type=".toy.Thing", output_type=".toy.Thing")
    extension = top.extension.add(name="extra", number=123, extendee=".toy.Thing")
    extension.type = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
    extension.label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    pool.AddSerializedFile(base.SerializeToString())
    pool.AddSerializedFile(top.SerializeToString())
    return pool


@pytest.fixture
def channel(rig):
    Reflection(["toy.Toys"], private_pool()).serve_on(rig.server)
    with rig.channel() as opened:
        yield opened


def ask(channel, *requests, service=SERVICE_NAMES[0]):
    method = channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        pb.ServerReflectionRequest.SerializeToString,
        pb.ServerReflectionResponse.FromString,
    )
    return list(method(iter(requests), timeout=WAIT_S))


def file_names(reply):
    return [
        descriptor_pb2.FileDescriptorProto.FromString(data).name
        for data in reply.file_descriptor_response.file_descriptor_proto
    ]


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_both_versions_list_the_services(channel, service):
    (reply,) = ask(channel, pb.ServerReflectionRequest(list_services="*"), service=service)
    names = [entry.name for entry in reply.list_services_response.service]
    assert names == sorted(["toy.Toys", "grpc.health.v1.Health", *SERVICE_NAMES])


def test_every_listed_service_can_be_described(channel):
    (listed,) = ask(channel, pb.ServerReflectionRequest(list_services="*"))
    for entry in listed.list_services_response.service:
        (reply,) = ask(channel, pb.ServerReflectionRequest(file_containing_symbol=entry.name))
        pool = DescriptorPool()
        for data in reversed(reply.file_descriptor_response.file_descriptor_proto):
            pool.AddSerializedFile(data)
        assert pool.FindServiceByName(entry.name).methods


def test_stock_client_resolves_a_service_of_the_private_pool(rig, channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "toy.Toys" in database.get_services()
    found = DescriptorPool(database).FindServiceByName("toy.Toys")
    assert found.FindMethodByName("Play").input_type.full_name == "toy.Thing"


def test_file_comes_with_its_imports(channel):
    (by_name,) = ask(channel, pb.ServerReflectionRequest(file_by_filename="toy.proto"))
    assert file_names(by_name) == ["toy.proto", "toy_base.proto"]


def test_extensions_are_found(channel):
    which = pb.ExtensionRequest(containing_type="toy.Thing", extension_number=123)
    numbers, file = ask(
        channel,
        pb.ServerReflectionRequest(all_extension_numbers_of_type="toy.Thing"),
        pb.ServerReflectionRequest(file_containing_extension=which),
    )
    assert list(numbers.all_extension_numbers_response.extension_number) == [123]
    assert file_names(file)[0] == "toy.proto"


def test_unknown_names_are_not_found_and_the_stream_goes_on(channel):
    which = pb.ExtensionRequest(containing_type="toy.Thing", extension_number=150)
    replies = ask(
        channel,
        pb.ServerReflectionRequest(file_by_filename="nope.proto"),
        pb.ServerReflectionRequest(file_containing_symbol="nope.Nope"),
        pb.ServerReflectionRequest(file_containing_extension=which),
        pb.ServerReflectionRequest(all_extension_numbers_of_type="nope.Nope"),
    )
    codes = [reply.error_response.error_code for reply in replies]
    assert codes == [grpc.StatusCode.NOT_FOUND.value[0]] * 4


def test_empty_request_is_invalid(channel):
    (reply,) = ask(channel, pb.ServerReflectionRequest())
    assert reply.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_malformed_request_ends_the_stream(rig, channel):
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(f"/{SERVICE_NAMES[0]}/ServerReflectionInfo")(iter([b"\xff\xff\xff"])))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_idle_clients_hold_nothing_up(rig, channel):
    release = threading.Event()
    method = channel.stream_stream(
        f"/{SERVICE_NAMES[1]}/ServerReflectionInfo",
        pb.ServerReflectionRequest.SerializeToString,
        pb.ServerReflectionResponse.FromString,
    )

    def idle():
        yield pb.ServerReflectionRequest(list_services="*")
        release.wait(WAIT_S)

    streams = [method(idle()) for _ in range(40)]
    for stream in streams:
        next(stream)
    assert len(ask(channel, pb.ServerReflectionRequest(list_services="*"))) == 1
    assert rig.server.stop(60).wait(WAIT_S)
    release.set()
    eventually(lambda: all(stream.code() is grpc.StatusCode.UNAVAILABLE for stream in streams))
