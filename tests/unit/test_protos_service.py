from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2

from protos import open_inference_pb2, service


def test_every_rpc_has_the_wire_path() -> None:
    assert len(service.RPCS) == 20
    for name, rpc in service.RPCS.items():
        assert service.path(name) == rpc.path == f"/inference.GRPCInferenceService/{name}"


def test_rpcs_carry_the_generated_classes() -> None:
    infer = service.RPCS["ModelInfer"]
    assert infer.request is open_inference_pb2.ModelInferRequest
    assert infer.response is open_inference_pb2.ModelInferResponse


def test_only_the_stream_rpc_streams() -> None:
    assert [rpc.name for rpc in service.RPCS.values() if rpc.streaming] == ["ModelStreamInfer"]


def test_an_unknown_rpc_has_no_path() -> None:
    with pytest.raises(KeyError):
        service.path("Nonsense")


def test_our_messages_leave_the_wires_package_free() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")


def test_reflection_describes_the_service_by_its_wire_names() -> None:
    described = service.reflection_pool().FindServiceByName(service.SERVICE)
    assert [method.name for method in described.methods] == list(service.RPCS)
    for method in described.methods:
        assert method.input_type.full_name == f"inference.{service.RPCS[method.name].request.DESCRIPTOR.name}"
        assert (
            method.output_type.full_name == f"inference.{service.RPCS[method.name].response.DESCRIPTOR.name}"
        )


def test_no_name_of_ours_is_left_in_the_reflected_files() -> None:
    pool = service.reflection_pool()
    for found in (
        pool.FindServiceByName(service.SERVICE),
        pool.FindMessageTypeByName("inference.ModelConfig"),
    ):
        copy = descriptor_pb2.FileDescriptorProto()
        found.file.CopyToProto(copy)
        assert "runtime.inference" not in str(copy)


def test_a_message_built_from_reflection_has_the_same_bytes() -> None:
    described = service.reflection_pool().FindMessageTypeByName("inference.ModelConfigResponse")
    theirs: Any = message_factory.GetMessageClass(described)()
    ours = open_inference_pb2.ModelConfigResponse()
    message: Any
    for message in (theirs, ours):
        message.config.name = "m"
        message.config.dynamic_batching.preferred_batch_size[:] = [4, 8]
        message.config.parameters["k"].string_value = "v"
    assert theirs.SerializeToString() == ours.SerializeToString()


def test_reflection_takes_files_of_further_services() -> None:
    pool = service.reflection_pool(health_pb2.DESCRIPTOR)
    assert pool.FindServiceByName("grpc.health.v1.Health").methods_by_name["Watch"].server_streaming


def test_each_pool_is_private() -> None:
    assert service.reflection_pool() is not service.reflection_pool()


def test_the_installed_protobuf_is_within_the_promised_range() -> None:
    version = tuple(int(part) for part in importlib.metadata.version("protobuf").split(".")[:2])
    assert (6, 31) <= version < (8, 0)
