"""BYTES tensors on the wire."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from runtime.errors import ShapeMismatch
from runtime.tensors import strings

WIRE = b"\x01\0\0\0a\0\0\0\0\x02\0\0\0\xff\0"


def test_elements_come_back_in_row_major_order() -> None:
    array = np.array([[b"a", b""], [b"\xff\0", b"d"]], dtype=object)
    data = strings.encode(array)
    assert data == WIRE + b"\x01\0\0\0d"
    flat, used = strings.decode(data, 4)
    assert used == len(data)
    assert flat.tolist() == [b"a", b"", b"\xff\0", b"d"]


def test_a_transposed_array_is_written_in_its_own_order() -> None:
    array = np.array([[b"a", b"b"], [b"c", b"d"]], dtype=object).T
    assert strings.decode(strings.encode(array), 4)[0].tolist() == [b"a", b"c", b"b", b"d"]


def test_text_is_utf8_and_numbers_are_their_text() -> None:
    assert strings.encode_all(["ä", 7, np.str_("x"), np.bytes_(b"y")]) == b"".join(
        struct.pack("<I", len(item)) + item for item in ("ä".encode(), b"7", b"x", b"y")
    )


def test_byte_arrays_and_views_are_bytes() -> None:
    assert strings.encode_all([bytearray(b"a"), memoryview(b"a")]) == b"\x01\0\0\0a" * 2


@pytest.mark.parametrize(
    "array", [np.array(["ab", "c"]), np.array([b"ab", b"c"]), np.array(["ab", "c"], dtype="T")]
)
def test_fixed_width_and_variable_text_arrays_are_written_as_elements(array: np.ndarray) -> None:
    assert strings.decode(strings.encode(array), 2)[0].tolist() == [b"ab", b"c"]


def test_count_counts_elements() -> None:
    assert strings.count(b"", field="x") == 0
    assert strings.count(WIRE, field="x") == 3
    assert strings.count(memoryview(WIRE), field="x") == 3


@pytest.mark.parametrize(
    ("data", "element"),
    [
        (b"\x05\0\0\0ab", 1),
        (b"\x01\0", 1),
        (b"\x01\0\0\0a\x01", 2),
        (b"\xff\xff\xff\xff", 1),
        (WIRE + b"\x09\0\0\0x", 4),
    ],
)
def test_a_buffer_that_ends_inside_an_element_names_it(data: bytes, element: int) -> None:
    with pytest.raises(ShapeMismatch, match=rf"element {element}:") as caught:
        strings.count(data, field="inputs['x']")
    assert caught.value.field == "inputs['x']"


def test_decode_stops_after_the_elements_asked_for() -> None:
    flat, used = strings.decode(WIRE, 2)
    assert flat.tolist() == [b"a", b""]
    assert used == 9
