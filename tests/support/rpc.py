"""Calls at the level of bytes: as cheap as a Python client can be, and free to send nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray

from protos import open_inference_pb2 as pb
from protos import service
from runtime.client.errors import RpcFailed
from store.datatypes import from_numpy, numpy_dtype

Array = NDArray[Any]
PATIENCE_S = 60.0
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
INFER = service.path("ModelInfer")


class Answer(NamedTuple):
    """How one call ended: the response's bytes, or the error."""

    message: bytes = b""
    error: RpcFailed | None = None

    @property
    def code(self) -> str:
        """Name of the status."""
        return self.error.code.name if self.error else "OK"

    @property
    def outputs(self) -> dict[str, Array]:
        """The output tensors; fails if the call did."""
        if self.error is not None:
            raise self.error
        response = pb.ModelInferResponse.FromString(self.message)
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        return {
            output.name: np.frombuffer(raw, numpy_dtype(output.datatype)).reshape(tuple(output.shape))
            for output, raw in pairs
        }


def message(model: str, inputs: Mapping[str, Array], **fields: Any) -> pb.ModelInferRequest:
    """A raw infer request; none of the inputs is BYTES."""
    request = pb.ModelInferRequest(model_name=model, **fields)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=from_numpy(array.dtype), shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def tagged(model: str, tags: Iterable[int] | Array) -> bytes:
    """A request whose rows are ``tags``."""
    return message(model, {"tags": np.array([*tags], np.int64)}).SerializeToString()


class Caller:
    """A blocking client with a connection of its own.

    Args:
        target: of the server.
        patient: connect again and again until a call's time is up, rather than fail with the first refusal.
    """

    def __init__(self, target: str, *, patient: bool = False) -> None:
        self._channel = grpc.insecure_channel(target, (OWN_CONNECTION, *UNLIMITED))
        self._patient = patient

    def infer(self, request: bytes, timeout: float = PATIENCE_S) -> Answer:
        """Call ModelInfer."""
        return self.call(INFER, request, timeout)

    def call(self, path: str, request: bytes, timeout: float = PATIENCE_S) -> Answer:
        """Call any method."""
        try:
            method = self._channel.unary_unary(path)
            return Answer(method(request, timeout=timeout, wait_for_ready=self._patient))
        except grpc.RpcError as error:
            return Answer(error=RpcFailed.of(error))

    def start(self, request: bytes, timeout: float = PATIENCE_S) -> Call:
        """Begin to call ModelInfer."""
        return Call(self._channel.unary_unary(INFER).future(request, timeout=timeout))

    def rpc(self, name: str, request: Any) -> Any:
        """Call an RPC of the protocol with messages."""
        answer = self.call(service.path(name), request.SerializeToString())
        if answer.error is not None:
            raise answer.error
        return service.RPCS[name].response.FromString(answer.message)

    @property
    def channel(self) -> grpc.Channel:
        """The connection."""
        return self._channel

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


class Call:
    """A call that was begun."""

    def __init__(self, future: Any) -> None:
        self._future = future

    def answer(self) -> Answer:
        """Wait for its end."""
        try:
            return Answer(self._future.result(PATIENCE_S))
        except grpc.RpcError as error:
            return Answer(error=RpcFailed.of(error))
        except grpc.FutureCancelledError:
            return Answer(error=RpcFailed(grpc.StatusCode.CANCELLED, "cancelled here"))

    def cancel(self) -> None:
        """Give it up."""
        self._future.cancel()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return bool(self._future.done())


def all_at_once(target: str, requests: Iterable[bytes], *, connections: int = 1) -> list[Answer]:
    """Send all requests at the same time, spread over connections; the answers in the same order."""

    async def main() -> list[Answer]:
        async with Connections(target, connections) as infer:
            return await asyncio.gather(*(infer(request) for request in requests))

    return asyncio.run(main())


class Connections:
    """Several connections of one asyncio client, used in turn."""

    def __init__(self, target: str, count: int = 1) -> None:
        self._channels = [
            grpc.aio.insecure_channel(target, (OWN_CONNECTION, *UNLIMITED)) for _ in range(count)
        ]
        self._infer: list[Callable[..., Any]] = [channel.unary_unary(INFER) for channel in self._channels]
        self._turn = 0

    async def __call__(self, request: bytes, timeout: float = PATIENCE_S) -> Answer:
        """Call ModelInfer on the next connection."""
        self._turn += 1
        try:
            return Answer(await self._infer[self._turn % len(self._infer)](request, timeout=timeout))
        except grpc.aio.AioRpcError as error:
            return Answer(error=RpcFailed.of(error))

    async def __aenter__(self) -> Connections:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()
