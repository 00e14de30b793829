"""Cutting requests and building responses on the wire."""

from __future__ import annotations

import pytest

from protos import open_inference_pb2 as pb
from runtime.errors import InvalidInput
from runtime.tensors import wire


def request(*raws: bytes) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m", id="42", raw_input_contents=raws)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    return message


def test_the_head_is_the_request_without_id_and_tensors() -> None:
    cut = wire.split(request(b"abcd", b"").SerializeToString())
    assert cut is not None
    expected = request()
    expected.ClearField("id")
    head, identity, raws = cut
    assert pb.ModelInferRequest.FromString(head) == expected
    assert (identity, raws) == (b"42", [b"abcd", b""])


def test_requests_that_differ_in_id_and_tensors_have_equal_heads() -> None:
    one, other = request(b"abcd"), request(b"efgh")
    other.id = "another"
    cuts = [wire.split(message.SerializeToString()) for message in (one, other)]
    assert cuts[0] is not None
    assert cuts[1] is not None
    assert cuts[0][0] == cuts[1][0]


def test_large_tensors_are_not_copied() -> None:
    large, small = bytes(wire.COPY_BELOW + 1), bytes(wire.COPY_BELOW)
    data = request(large, small).SerializeToString()
    cut = wire.split(data)
    assert cut is not None
    view, copy = cut[2]
    assert isinstance(view, memoryview)
    assert view.obj is data
    assert isinstance(copy, bytes)
    assert [bytes(view), copy] == [large, small]


def test_an_empty_request_is_three_empty_pieces() -> None:
    assert wire.split(b"") == (b"", b"", [])


@pytest.mark.parametrize(
    "unknown",
    [
        b"\x08\x01",
        b"\x40" + b"\xff" * 9 + b"\x01",
        b"\x82\x01\x01x",
        b"\x0d" + b"\xff" * 4,
        b"\x09" + b"\xff" * 8,
        b"\x0b\x0c",
    ],
    ids=["number", "long number", "field 16", "32 bits", "64 bits", "group"],
)
def test_fields_that_this_protocol_does_not_have_are_left_to_protobuf(unknown: bytes) -> None:
    assert wire.split(request(b"abcd").SerializeToString() + unknown) is None


def test_thousands_of_scattered_fields_are_left_to_protobuf() -> None:
    assert wire.split(b"\x3a\x01r\x7a\x01x" * 3_000) is None


def test_fields_in_any_other_order_are_cut() -> None:
    cut = wire.split(b"\x3a\x01r\x7a\x01x" * 100)
    assert cut == (b"\x7a\x01x" * 100, b"", [b"r"] * 100)


def test_an_unknown_field_with_a_length_stays_in_the_head() -> None:
    cut = wire.split(request().SerializeToString() + b"\x7a\x03abc")
    assert cut is not None
    assert cut[0].endswith(b"\x7a\x03abc")


@pytest.mark.parametrize(
    "data", [b"\x0a", b"\x0a\x05abc", b"\x0a\x80", b"\x3a\xff\xff", b"\x3a\x80\x80\x80\x80\x80\x01a"]
)
def test_bytes_that_end_inside_a_field_are_invalid(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        wire.split(data)
    assert caught.value.field == "request"


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 14, (1 << 31) - 1, (1 << 32) - 1])
def test_numbers_and_fields_are_what_protobuf_reads(value: int) -> None:
    message = pb.ModelInferResponse.FromString(
        b"\x0a" + wire.varint(1) + b"m" + wire.raw_output_header(3) + b"abc"
    )
    assert list(message.raw_output_contents) == [b"abc"]
    encoded = wire.varint(value)
    assert sum((byte & 0x7F) << 7 * index for index, byte in enumerate(encoded)) == value
    assert all(byte & 0x80 for byte in encoded[:-1])
    assert encoded[-1] < 0x80


def test_a_long_field_is_what_protobuf_reads() -> None:
    assert pb.ModelInferResponse.FromString(wire.field(1, b"n" * 300)).model_name == "n" * 300


def test_an_empty_id_takes_no_bytes() -> None:
    assert wire.response_id(b"") == b""
    assert pb.ModelInferResponse.FromString(wire.response_id(b"x" * 200)).id == "x" * 200
