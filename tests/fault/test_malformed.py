"""Requests that contradict the protocol or the signature: the right status, the field named, nobody hurt."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protos import open_inference_pb2 as pb
from protos import service
from store import ModelStore
from tests.support import rpc
from tests.support.rpc import Caller
from tests.support.server import serving

Change = Callable[[pb.ModelInferRequest], Any]
GOOD = np.arange(8, dtype=np.float32).reshape(2, 4)
HUGE = 1 << 62


def good() -> pb.ModelInferRequest:
    """A request that the model ``scaled`` answers."""
    return rpc.message(
        "scaled", {"x": GOOD}, parameters={"method": pb.InferParameter(string_param="predict")}
    )


def set_shape(*shape: int) -> Change:
    return lambda request: request.inputs[0].shape.__setitem__(slice(None), shape)


def set_raw(*raw: bytes) -> Change:
    return lambda request: request.raw_input_contents.__setitem__(slice(None), raw)


def set_input(**fields: Any) -> Change:
    return lambda request: request.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(**fields))


def set_fields(**fields: Any) -> Change:
    return lambda request: request.MergeFrom(pb.ModelInferRequest(**fields))


def set_parameter(name: str, **value: Any) -> Change:
    return lambda request: request.parameters[name].CopyFrom(pb.InferParameter(**value))


def clear(field: str) -> Change:
    return lambda request: request.ClearField(field)


def typed(datatype: str, **contents: Any) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        del request.raw_input_contents[:]
        request.inputs[0].datatype = datatype
        request.inputs[0].contents.MergeFrom(pb.InferTensorContents(**contents))

    return change


def both(*changes: Change) -> Change:
    return lambda request: [change(request) for change in changes]


SHAPE, TYPE, X = "inputs['x'].shape", "inputs['x'].datatype", "inputs['x']"

INVALID: dict[str, tuple[Change, str]] = {
    "no model name": (clear("model_name"), "model_name"),
    "no inputs": (both(clear("inputs"), set_raw()), "inputs"),
    "an input without a name": (lambda r: r.inputs[0].ClearField("name"), "inputs.name"),
    "an unexpected input": (set_input(name="y"), "inputs['y']"),
    "an input twice": (lambda r: r.inputs.add().CopyFrom(r.inputs[0]), X),
    "no datatype": (lambda r: r.inputs[0].ClearField("datatype"), TYPE),
    "an unknown datatype": (set_input(datatype="FP31"), TYPE),
    "another datatype": (set_input(datatype="INT32"), TYPE),
    "a negative dim": (set_shape(-1, 4), SHAPE),
    "a very negative dim": (set_shape(-HUGE, 4), SHAPE),
    "two negative dims": (set_shape(-2, -4), SHAPE),
    "no dims": (set_shape(), SHAPE),
    "too few dims": (set_shape(8), SHAPE),
    "too many dims": (set_shape(2, 4, 1), SHAPE),
    "very many dims": (set_shape(*[1] * 1000), SHAPE),
    "another width": (set_shape(2, 5), SHAPE),
    "more rows than may wait": (set_shape(10_001, 4), SHAPE),
    "a huge dim": (set_shape(HUGE, 4), SHAPE),
    "dims that overflow 64 bits": (set_shape(HUGE, HUGE), SHAPE),
    "dims whose bytes overflow to the right size": (set_shape((1 << 60) + 2, 4), SHAPE),
    "more rows than bytes": (set_shape(3, 4), X),
    "fewer rows than bytes": (set_shape(1, 4), X),
    "no bytes": (set_raw(b""), X),
    "a byte too few": (set_raw(bytes(31)), X),
    "a byte too many": (set_raw(bytes(33)), X),
    "no raw contents": (set_raw(), "raw_input_contents"),
    "two raw contents": (set_raw(bytes(32), bytes(32)), "raw_input_contents"),
    "an unknown output": (set_fields(outputs=[{"name": "z"}]), "outputs['z']"),
    "an output twice": (set_fields(outputs=[{"name": "output_0"}] * 2), "outputs"),
    "a method that is no text": (set_parameter("method", int64_param=1), "parameters.method"),
    "a method without a value": (set_parameter("method"), "parameters.method"),
    "raw and typed contents": (set_input(contents={"fp32_contents": [1.0] * 8}), "inputs"),
    "too few typed values": (typed("FP32", fp32_contents=[1.0] * 7), X),
    "too many typed values": (typed("FP32", fp32_contents=[1.0] * 9), X),
    "typed values in another field": (typed("FP32", fp64_contents=[1.0] * 8), "inputs['x'].contents"),
    "typed values of a type that has none": (typed("BF16", fp32_contents=[1.0] * 8), "inputs['x'].contents"),
    "typed values that do not fit": (
        both(typed("INT8", int_contents=[300] * 8), clear("parameters"), set_fields(model_name="plain")),
        "inputs['x'].contents",
    ),
}

OTHERS: dict[str, tuple[Change, str, str]] = {
    "an unknown model": (set_fields(model_name="scales"), "NOT_FOUND", "model_name"),
    "a model of a strange name": (set_fields(model_name="../../etc/passwd\0\n"), "NOT_FOUND", "model_name"),
    "a model of a very long name": (set_fields(model_name="ä" * 100_000), "NOT_FOUND", "model_name"),
    "an unknown version": (set_fields(model_version="7"), "NOT_FOUND", "model_version"),
    "an unknown method": (set_parameter("method", string_param="fit"), "NOT_FOUND", "parameters.method"),
    "shared memory": (
        set_input(parameters={"shared_memory_region": pb.InferParameter(string_param="region")}),
        "UNIMPLEMENTED",
        "inputs['x'].parameters.shared_memory_region",
    ),
    "a sequence": (set_parameter("sequence_id", int64_param=1), "UNIMPLEMENTED", "parameters.sequence_id"),
}


def assert_refused(caller: Caller, request: bytes, code: str, field: str) -> None:
    answer = caller.infer(request)
    assert answer.error is not None, "it was answered"
    assert answer.code == code, answer.error
    assert [violation.field for violation in answer.error.violations] == [field], answer.error
    assert answer.error.reason not in {"", "internal"}
    assert caller.infer(good().SerializeToString()).code == "OK", "the next call"


@pytest.mark.parametrize("what", INVALID)
def test_invalid_requests_name_the_field(caller: Caller, what: str) -> None:
    change, field = INVALID[what]
    request = good()
    change(request)
    assert_refused(caller, request.SerializeToString(), "INVALID_ARGUMENT", field)


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_not_there_is_not_found_or_not_offered(caller: Caller, what: str) -> None:
    change, code, field = OTHERS[what]
    request = good()
    change(request)
    assert_refused(caller, request.SerializeToString(), code, field)


@pytest.mark.parametrize(
    "data", [b"\xff", b"\x0a\x05ab", b"\x2a\x02\x0a", b"\x0a\x02\xff\xfe", b"\x0b", b"\x02"]
)
def test_bytes_that_are_no_request_are_refused(caller: Caller, data: bytes) -> None:
    assert_refused(caller, data, "INVALID_ARGUMENT", "request")


def test_an_id_that_is_no_text_is_refused(caller: Caller) -> None:
    assert_refused(caller, good().SerializeToString() + b"\x1a\x02\xff\xfe", "INVALID_ARGUMENT", "id")


def test_an_empty_message_is_a_request_without_a_model(caller: Caller) -> None:
    assert_refused(caller, b"", "INVALID_ARGUMENT", "model_name")


def test_an_unknown_method_of_the_service_is_unimplemented(caller: Caller) -> None:
    for path in ("/inference.GRPCInferenceService/Nonsense", "/no.Service/Infer"):
        assert caller.call(path, b"").code == "UNIMPLEMENTED"


@pytest.mark.parametrize("name", ["ModelMetadata", "ModelConfig"])
def test_questions_about_unknown_models_are_not_found(caller: Caller, name: str) -> None:
    request = service.RPCS[name].request
    for fields in ({"name": "nobody"}, {"name": "scaled", "version": "9"}):
        assert caller.call(service.path(name), request(**fields).SerializeToString()).code == "NOT_FOUND"
    assert caller.call(service.path(name), b"\xff\xff").code == "INVALID_ARGUMENT"


def test_a_message_over_the_limit_is_refused_and_the_connection_lives_on(zoo: ModelStore) -> None:
    limit = 1 << 20
    with (
        serving(zoo, "plain", transport={"max_message_bytes": limit}) as server,
        Caller(server.target) as caller,
    ):

        def call(size: int) -> rpc.Answer:
            return caller.infer(rpc.message("plain", {"x": np.zeros(size, np.uint8)}).SerializeToString())

        answer = call(limit + 1)
        assert answer.error is not None
        assert answer.code == "RESOURCE_EXHAUSTED"
        assert str(limit) in answer.error.details
        assert call(limit // 2).code == "OK"


@pytest.mark.parametrize("model", ["plain", "tags", "scaled"])
def test_live_pickles_are_data_and_nothing_else(caller: Caller, tmp_path: Path, model: str) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Bomb(str(canary)))
    parameters = {
        name: pb.InferParameter(string_param=ascii(payload)) for name in ("method", "priority", "any")
    }
    sized = len(payload).to_bytes(4, "little") + payload
    requests = [
        pb.ModelInferRequest(
            model_name=model,
            inputs=[{"name": "x", "datatype": datatype, "shape": [size]}],
            raw_input_contents=[raw],
        )
        for datatype, size, raw in (
            ("BYTES", 1, sized),
            ("UINT8", len(payload), payload),
            ("BOOL", 1, payload),
        )
    ]
    requests.append(pb.ModelInferRequest(model_name=model, parameters=parameters))
    requests.append(
        pb.ModelInferRequest(
            model_name=model,
            inputs=[
                {"name": "x", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [payload]}}
            ],
        )
    )
    codes = {caller.infer(request.SerializeToString()).code for request in requests}
    codes.add(caller.infer(payload).code)
    assert codes <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"}
    assert not canary.exists()
    pickle.loads(payload)
    assert canary.exists(), "the payload is live"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._path,)
