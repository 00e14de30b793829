"""Our clients, and a stock one, against a stock gRPC server that speaks with our messages."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from protos import open_inference_pb2 as pb
from protos.service import RPCS
from runtime.client import AsyncClient, Client, RpcFailed
from tests.interop import environment

WAIT_S = 20.0


class Echo:
    """Answers each inference with its inputs; models named ``fail`` and ``hang`` do that instead."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.ready.set()
        self.hanging = threading.Event()
        self.cancelled = threading.Event()
        self.metadata: dict[str, Any] = {}

    def infer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        self.metadata = dict(context.invocation_metadata())
        if request.model_name == "fail":
            context.set_trailing_metadata((("runtime-reason", "shape_mismatch"),))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].shape: wrong")
        if request.model_name == "hang":
            context.add_callback(self.cancelled.set)
            self.hanging.set()
            self.cancelled.wait(WAIT_S)
        context.set_trailing_metadata((("runtime-timings", "queue=0.5"),))
        response = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        for tensor in request.inputs:
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.extend(request.raw_input_contents)
        return response

    def model_ready(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:
        if request.name == "unknown":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return pb.ModelReadyResponse(ready=self.ready.is_set())

    def model_config(self, request: pb.ModelConfigRequest, context: Any) -> pb.ModelConfigResponse:
        response = pb.ModelConfigResponse()
        response.config.name = request.name
        return response

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        behaviours: dict[str, Callable[[Any, Any], Any]] = {
            "ServerLive": lambda request, context: pb.ServerLiveResponse(live=True),
            "ServerReady": lambda request, context: pb.ServerReadyResponse(ready=self.ready.is_set()),
            "ServerMetadata": lambda request, context: pb.ServerMetadataResponse(
                name="echo", extensions=["x"]
            ),
            "ModelReady": self.model_ready,
            "ModelMetadata": lambda request, context: pb.ModelMetadataResponse(name=request.name),
            "ModelConfig": self.model_config,
            "ModelInfer": self.infer,
        }
        return {
            name: grpc.unary_unary_rpc_method_handler(
                behaviour, RPCS[name].request.FromString, RPCS[name].response.SerializeToString
            )
            for name, behaviour in behaviours.items()
        }


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def target(echo: Echo) -> Iterator[str]:
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(8), options=limits)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", echo.handlers()),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    echo.cancelled.set()
    server.stop(None).wait(WAIT_S)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses connections: bound, so that nobody else takes it, but not listening."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


def test_arrays_come_back_with_what_goes_with_them(target: str) -> None:
    with Client(target) as client:
        x, s = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([b"a", b"bc"], object)
        result = client.infer("m", {"x": x, "s": s}, request_id="id-1")
    np.testing.assert_array_equal(result["x"], x)
    assert result["s"].tolist() == [b"a", b"bc"]
    assert (result.model, result.version, result.id, result.timings) == ("m", "1", "id-1", {"queue": 0.5})


def test_a_large_tensor_passes_the_default_limits(target: str) -> None:
    x = np.arange(3 << 20, dtype=np.float64)  # 24 MiB
    with Client(target) as client:
        assert client.infer("m", {"x": x})["x"].tobytes() == x.tobytes()


def test_the_clients_limit_is_kept(target: str) -> None:
    with Client(target, max_message_bytes=1 << 20) as client, pytest.raises(RpcFailed) as caught:
        client.infer("m", {"x": np.zeros(1 << 20)})
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_questions_are_answered_with_plain_values(target: str) -> None:
    with Client(target) as client:
        assert client.is_live()
        assert client.is_ready()
        assert client.is_model_ready("m")
        assert not client.is_model_ready("unknown")
        assert client.server_metadata().extensions == ("x",)
        assert client.model_metadata("m").name == "m"
        assert client.model_config("m") == {"name": "m"}


def test_a_failure_carries_code_details_and_reason(target: str) -> None:
    with Client(target) as client, pytest.raises(RpcFailed) as caught:
        client.infer("fail", {})
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details == "inputs[0].shape: wrong"
    assert caught.value.reason == "shape_mismatch"


def test_the_timeout_ends_the_call_on_the_server_too(target: str, echo: Echo) -> None:
    with Client(target) as client, pytest.raises(RpcFailed) as caught:
        client.infer("hang", {}, timeout=0.2)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert echo.cancelled.wait(WAIT_S)


def test_every_call_carries_the_clients_metadata(target: str, echo: Echo) -> None:
    with Client(target, metadata=(("tenant", "t"),), timeout=math.inf) as client:
        client.infer("m", {})
    assert echo.metadata["tenant"] == "t"


def test_an_absent_server_is_neither_live_nor_ready(nobody: str) -> None:
    with Client(nobody, timeout=5) as client:
        assert not client.is_live()
        assert not client.is_ready()
        assert not client.is_model_ready("m")
        with pytest.raises(RpcFailed) as caught:
            client.server_metadata()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_waiting_for_readiness_ends_when_it_comes(target: str, echo: Echo) -> None:
    echo.ready.clear()
    with Client(target) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_ready, "m", WAIT_S)
        assert not client.is_model_ready("m")
        assert not waiting.done()
        echo.ready.set()
        waiting.result(WAIT_S)


def test_waiting_in_vain_says_for_what_and_why(target: str, nobody: str) -> None:
    with Client(target) as client, pytest.raises(TimeoutError, match=r"model 'unknown' .*no such model"):
        client.wait_ready("unknown", 0.1)
    with Client(nobody) as client, pytest.raises(TimeoutError, match=r"the server .*(UNAVAILABLE|DEADLINE)"):
        client.wait_ready(timeout=0.1)


def test_threads_share_a_client(target: str) -> None:
    with Client(target) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: client.infer("m", {"x": [n]})["x"][0], range(200)))
    assert answers == list(range(200))


def test_the_asyncio_client_does_the_same(target: str) -> None:
    async def main() -> None:
        async with AsyncClient(target) as client:
            await client.wait_ready("m")
            assert await client.is_live()
            assert await client.is_ready()
            assert not await client.is_model_ready("unknown")
            assert (await client.server_metadata()).name == "echo"
            assert (await client.model_metadata("m")).name == "m"
            assert (await client.model_config("m")) == {"name": "m"}
            results = await asyncio.gather(*(client.infer("m", {"x": [n]}) for n in range(100)))
            assert [result["x"][0] for result in results] == list(range(100))
            assert results[0].timings == {"queue": 0.5}
            with pytest.raises(RpcFailed) as caught:
                await client.infer("fail", {})
            assert caught.value.reason == "shape_mismatch"
            with pytest.raises(TimeoutError, match="no such model"):
                await client.wait_ready("unknown", 0.1)

    asyncio.run(main())


def test_cancelling_a_task_cancels_its_call(target: str, echo: Echo) -> None:
    async def main() -> None:
        async with AsyncClient(target) as client:
            call = asyncio.create_task(client.infer("hang", {}))
            assert await asyncio.to_thread(echo.hanging.wait, WAIT_S)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(echo.cancelled.wait, WAIT_S)

    asyncio.run(main())


def test_an_absent_server_is_not_live_for_the_asyncio_client_either(nobody: str) -> None:
    async def main() -> None:
        async with AsyncClient(nobody, timeout=5) as client:
            assert not await client.is_live()
            with pytest.raises(RpcFailed):
                await client.server_metadata()

    asyncio.run(main())


def test_the_asyncio_client_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncClient("127.0.0.1:1")


CALL = """
import sys
import numpy as np
x = np.arange(6, dtype=np.float32).reshape(2, 3)
def ours(target):
    import runtime.client
    with runtime.client.Client(target) as client:
        return client.infer("m", {"x": x})["x"]
def stock(target):
    import tritonclient.grpc
    tensor = tritonclient.grpc.InferInput("x", [2, 3], "FP32").set_data_from_numpy(x)
    with tritonclient.grpc.InferenceServerClient(target) as client:
        assert client.is_server_live() and client.is_model_ready("m")
        return client.infer("m", [tensor]).as_numpy("x")
for name in sys.argv[2:]:
    np.testing.assert_array_equal({"ours": ours, "stock": stock}[name](sys.argv[1]), x)
"""


@pytest.mark.parametrize("order", [("ours", "stock"), ("stock", "ours")])
def test_a_stock_client_and_ours_call_from_one_process(target: str, order: tuple[str, ...]) -> None:
    environment.run(CALL, target, *order)
