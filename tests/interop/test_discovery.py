"""What tools find out by themselves: reflection, and health by the standard protocol."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from store import ModelStore
from tests.support.server import WAIT_S, Server, serving

SERVICE = "inference.GRPCInferenceService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as channel:
        yield channel


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_list_every_service(channel: grpc.Channel, version: str) -> None:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]), timeout=WAIT_S)
    names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= names


def test_a_tool_that_knows_nothing_but_the_address_can_call_a_model(channel: grpc.Channel) -> None:
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    infer = pool.FindServiceByName(SERVICE).FindMethodByName("ModelInfer")
    request_class: Any = message_factory.GetMessageClass(infer.input_type)
    answer_class = message_factory.GetMessageClass(infer.output_type)
    request = request_class(
        model_name="scaled", inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 4]}],
        raw_input_contents=[np.ones(4, np.float32).tobytes()],
    )  # fmt: skip
    request.parameters["method"].string_param = "predict"
    call = channel.unary_unary(
        f"/{SERVICE}/ModelInfer", request_class.SerializeToString, answer_class.FromString
    )
    answer = call(request, timeout=WAIT_S)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [4.0] * 4


def test_health_knows_the_server_every_model_and_nobody_else(channel: grpc.Channel, zoo: ModelStore) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    version = zoo.get("scaled").tag.version
    for name in ("", "scaled", f"scaled:{version}", "gated"):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=WAIT_S).status == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watch_sees_a_model_lose_its_only_worker_and_get_it_back(zoo: ModelStore) -> None:
    with serving(zoo, "tags", "mortal") as server, grpc.insecure_channel(server.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="mortal"), timeout=WAIT_S)
        assert next(watch).status == SERVING
        (worker,) = server.workers("mortal")
        os.kill(worker, signal.SIGKILL)
        assert next(watch).status == NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest(service="tags")).status == SERVING
        assert health.Check(health_pb2.HealthCheckRequest(service="")).status == SERVING
        assert next(watch).status == SERVING
        watch.cancel()
