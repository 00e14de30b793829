"""Puts every RPC of the protocol on a transport server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from protos import service
from runtime.errors import InvalidInput, NotSupported
from runtime.rpc import status
from runtime.rpc.infer import Infer
from runtime.rpc.inspection import Inspection
from runtime.rpc.stream import InferStream
from runtime.transport.interface import Call, Handler, Server

INFER: Final = "ModelInfer"
STREAM: Final = "ModelStreamInfer"
STATISTICS: Final = "ModelStatistics"


def register(server: Server, infer: Infer, inspection: Inspection, statistics: Handler | None = None) -> None:
    """Serve infer, stream, inspection and statistics; answer the rest with UNIMPLEMENTED and the reason."""
    answers: dict[str, Callable[[Any], Message]] = {
        "ServerLive": inspection.live,
        "ServerReady": inspection.ready,
        "ServerMetadata": inspection.server_metadata,
        "ModelReady": inspection.model_ready,
        "ModelMetadata": inspection.model_metadata,
        "ModelConfig": inspection.model_config,
        "RepositoryIndex": inspection.index,
    }
    for name, rpc in service.RPCS.items():
        if name == INFER:
            server.add_unary(rpc.path, infer)
        elif name == STREAM:
            server.add_stream(rpc.path, lambda call: InferStream(call, infer))
        elif name == STATISTICS and statistics is not None:
            server.add_unary(rpc.path, statistics)
        else:
            server.add_unary(rpc.path, _unary(name, rpc.request, answers.get(name)))
    server.after_drain.append(infer.flush)


def _unary(
    name: str, request: type[Message], answer: Callable[[Any], Message] | None
) -> Callable[[Call], None]:
    def handle(call: Call) -> None:
        try:
            if answer is None:
                raise NotSupported(f"{name} is not offered by this server")
            call.respond(answer(_decode(request, call.request, name)).SerializeToString())
        except Exception as error:  # noqa: BLE001  # a fence: status logs what is unforeseen
            status.fail(call, error)

    return handle


def _decode(kind: type[Message], data: bytes, name: str) -> Message:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInput(f"the request is not a valid {name}Request", field="request") from None
