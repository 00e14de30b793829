"""Requests and responses of each RPC as pure functions, shared by the blocking and the asyncio client.

Requests leave here as bytes and responses arrive as bytes, so that tensors are copied once on the way
out and, where they lie aligned, not at all on the way in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from protos import open_inference_pb2 as pb
from runtime.client import tensors, wire
from runtime.client.errors import bad_response
from runtime.client.results import InferResult, ModelMetadata, ServerMetadata, TensorMetadata
from runtime.errors import InvalidInput

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from numpy.typing import ArrayLike, NDArray

    from runtime.client.errors import Metadata

M = TypeVar("M", bound=Message)

Parameter = bool | int | float | str

TIMINGS_KEY: Final = "runtime-timings"
"""Trailing metadata that reports stages as ``stage=seconds`` pairs, separated by commas."""

_RAW_INPUTS: Final = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_RAW_OUTPUTS: Final = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_IN_SHARED_MEMORY: Final = "shared_memory_region"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What one call of ``infer`` asks for; see ``Client.infer``."""

    model: str
    inputs: Mapping[str, ArrayLike]
    version: str
    method: str | None
    outputs: Sequence[str] | None
    parameters: Mapping[str, Parameter] | None
    request_id: str


def infer_request(call: Inference) -> bytes:
    """Serialize an inference request.

    Raises:
        InvalidInput: an input or parameter cannot be sent; ``field`` names it.
    """
    request = pb.ModelInferRequest(model_name=call.model, model_version=call.version, id=call.request_id)
    for name, value in _parameters(call):
        _set_parameter(request.parameters[name], name, value)
    raw: list[bytes | memoryview] = []
    for name, array in call.inputs.items():
        encoded = tensors.encode(name, array)
        request.inputs.add(name=name, datatype=encoded.datatype, shape=encoded.shape)
        raw.append(encoded.data)
    for name in call.outputs or ():
        request.outputs.add(name=name)
    size = sum(map(len, raw)) + request.ByteSize()
    if size > tensors.MAX_BYTES:
        raise InvalidInput(f"the inputs have {size} bytes; a request holds at most {tensors.MAX_BYTES}")
    return wire.join(request.SerializeToString(), _RAW_INPUTS, raw)


def _parameters(call: Inference) -> Iterable[tuple[str, Parameter]]:
    yield from (call.parameters or {}).items()
    if call.method is not None:
        yield "method", call.method


def _set_parameter(parameter: pb.InferParameter, name: str, value: Parameter) -> None:
    match value:
        case bool():
            parameter.bool_param = value
        case int() if -(1 << 63) <= value < 1 << 63:
            parameter.int64_param = value
        case int() if 0 <= value < 1 << 64:
            parameter.uint64_param = value
        case float():
            parameter.double_param = value
        case str():
            parameter.string_param = value
        case _:
            raise InvalidInput(
                f"parameter {name!r} must be a bool, a 64-bit int, a float or a str", field=name
            )


def infer_result(message: bytes, trailing: Metadata) -> InferResult:
    """Make the result of a serialized inference response.

    Raises:
        RpcFailed: the response breaks the protocol (INTERNAL).
    """
    try:
        head, raw = wire.split(message, _RAW_OUTPUTS)
        response = pb.ModelInferResponse.FromString(head)
    except (wire.WireError, DecodeError) as error:
        raise bad_response(str(error)) from error
    return InferResult(
        _outputs(response, raw),
        model=response.model_name,
        version=response.model_version,
        id=response.id,
        timings=_timings(trailing),
    )


def _outputs(response: pb.ModelInferResponse, raw: list[memoryview]) -> dict[str, NDArray[Any]]:
    present = [output for output in response.outputs if _IN_SHARED_MEMORY not in output.parameters]
    if not raw:
        return {o.name: tensors.decode_typed(o.name, o.datatype, o.shape, o.contents) for o in present}
    if len(raw) != len(present):
        raise bad_response(f"{len(present)} outputs but {len(raw)} raw contents")
    pairs = zip(present, raw, strict=True)
    return {o.name: tensors.decode(o.name, o.datatype, o.shape, data) for o, data in pairs}


def _timings(trailing: Metadata) -> dict[str, float]:
    """Read the stage times; a server that reports none, or in another form, gives none."""
    timings: dict[str, float] = {}
    for key, value in trailing:
        if key == TIMINGS_KEY and isinstance(value, str):
            for pair in value.split(","):
                stage, _, seconds = pair.partition("=")
                try:
                    timings[stage.strip()] = float(seconds)
                except ValueError:
                    continue
    return timings


def parse(kind: type[M], message: bytes) -> M:
    """Parse a response without tensors.

    Raises:
        RpcFailed: the bytes are no such message (INTERNAL).
    """
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise bad_response(str(error)) from error


def server_metadata(message: bytes) -> ServerMetadata:
    """Read the answer to ServerMetadata."""
    response = parse(pb.ServerMetadataResponse, message)
    return ServerMetadata(name=response.name, version=response.version, extensions=tuple(response.extensions))


def model_metadata(message: bytes) -> ModelMetadata:
    """Read the answer to ModelMetadata."""
    response = parse(pb.ModelMetadataResponse, message)
    return ModelMetadata(
        name=response.name,
        versions=tuple(response.versions),
        platform=response.platform,
        inputs=_specs(response.inputs),
        outputs=_specs(response.outputs),
    )


def _specs(specs: Iterable[pb.ModelMetadataResponse.TensorMetadata]) -> tuple[TensorMetadata, ...]:
    return tuple(TensorMetadata(name=s.name, datatype=s.datatype, shape=tuple(s.shape)) for s in specs)


def model_config(message: bytes) -> dict[str, Any]:
    """Read the answer to ModelConfig: the fields that are set, enums by name."""
    return _plain(parse(pb.ModelConfigResponse, message).config)


def _plain(message: Message) -> dict[str, Any]:
    """Turn a message into plain values; unlike in protobuf's JSON form, integers stay integers."""
    return {field.name: _plain_field(field, value) for field, value in message.ListFields()}


def _plain_field(field: FieldDescriptor, value: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        return {key: _plain_value(inner, value[key]) for key in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain_value(field, item) for item in value]
    return _plain_value(field, value)


def _plain_value(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return _plain(value)
    if field.enum_type is not None and value in field.enum_type.values_by_number:
        return field.enum_type.values_by_number[value].name
    return value
