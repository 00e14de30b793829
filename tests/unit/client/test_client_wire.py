from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import open_inference_pb2 as pb
from runtime.client import wire

RAW = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER


def response(raw: list[bytes]) -> pb.ModelInferResponse:
    message = pb.ModelInferResponse(model_name="m", id="ü" * 200, raw_output_contents=raw)
    message.parameters["x"].double_param = 1.5
    message.parameters["y"].int64_param = -1
    message.outputs.add(name="o", datatype="FP32", shape=[-1, 300]).contents.fp64_contents[:] = [1.0]
    return message


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_split_separates_exactly_the_raw_contents(raw: list[bytes]) -> None:
    message = response(raw)
    rest, values = wire.split(message.SerializeToString(), RAW)
    assert [bytes(value) for value in values] == raw
    del message.raw_output_contents[:]
    assert pb.ModelInferResponse.FromString(rest) == message


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_join_is_what_protobuf_would_have_written(raw: list[bytes]) -> None:
    whole, head = response(raw), response([])
    joined = wire.join(head.SerializeToString(), RAW, raw)
    assert pb.ModelInferResponse.FromString(joined) == whole


def test_split_copies_no_value() -> None:
    serialized = response([b"x" * 1000]).SerializeToString()
    _, (value,) = wire.split(serialized, RAW)
    assert value.obj is serialized


def test_a_field_may_stand_between_raw_contents() -> None:
    one = wire.join(b"", RAW, [b"a"])
    between = pb.ModelInferResponse(id="i").SerializeToString()
    rest, values = wire.split(one + between + wire.join(b"", RAW, [b"b"]), RAW)
    assert [bytes(value) for value in values] == [b"a", b"b"]
    assert rest == between


@pytest.mark.parametrize(
    "message",
    [b"\x3a", b"\x3a\x05abc", b"\x80" * 11, b"\x0b", b"\x0d\x00", b"\x09\x00\x00"],
    ids=["no length", "too short", "endless number", "group", "short fixed32", "short fixed64"],
)
def test_malformed_messages_are_refused(message: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.split(message, RAW)


def test_a_number_in_place_of_raw_contents_is_refused() -> None:
    with pytest.raises(wire.WireError, match="number"):
        wire.split(bytes([RAW << 3, 1]), RAW)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_taken_apart_or_refused(message: bytes) -> None:
    try:
        extents = [(start, end) for _, _, start, end in wire.fields(message)]
    except wire.WireError:
        return
    assert b"".join(message[start:end] for start, end in extents) == message
