"""Messages without generated code are read alike by protobuf itself."""

from __future__ import annotations

import struct

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers import wire
from protos import open_inference_pb2 as pb


@given(st.binary(max_size=300))
def test_a_bytes_field_is_what_protobuf_writes(value: bytes) -> None:
    if value:  # protobuf leaves out what is empty
        assert wire.message((1, value)) == BytesValue(value=value).SerializeToString()
        assert wire.field(wire.message((1, value)), 1) == value


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8))
def test_packed_numbers_are_what_protobuf_reads(numbers: list[int]) -> None:
    data = wire.message((1, "x"), (3, wire.packed(numbers)))
    assert list(pb.ModelInferRequest.InferInputTensor.FromString(data).shape) == numbers


@given(st.integers(0, 2**63 - 1))
def test_a_number_comes_back(number: int) -> None:
    assert list(wire.fields(wire.message((7, number)))) == [(7, number)]


def test_fields_of_all_wire_types_are_read() -> None:
    fixed = wire.varint(1 << 3 | wire.FIXED32) + b"abcd" + wire.varint(2 << 3 | wire.FIXED64) + b"abcdefgh"
    assert list(wire.fields(fixed)) == [(1, b"abcd"), (2, b"abcdefgh")]


def test_the_last_of_a_repeated_field_counts() -> None:
    assert wire.field(wire.message((1, "a"), (1, "b")), 1) == b"b"


def test_a_nested_field_is_found_by_its_path() -> None:
    assert wire.field(wire.message((2, wire.message((5, "deep")))), 2, 5) == b"deep"


@pytest.mark.parametrize(
    "data", [wire.message((2, "x")), wire.message((1, 4)), b"", b"\x0a\x05ab", b"\x0b", b"\x80"]
)
def test_a_missing_or_broken_field_is_said(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|cut off"):
        wire.field(data, 1)


def test_a_frame_has_no_compression_and_the_length() -> None:
    assert wire.framed(b"abc") == b"\0" + struct.pack(">I", 3) + b"abc"
