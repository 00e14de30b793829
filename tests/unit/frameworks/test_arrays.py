from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from frameworks import InvalidOutput
from frameworks.arrays import as_array
from store import datatypes
from tests.support.dtypes import edge_array


@pytest.mark.parametrize("name", datatypes.NAMES)
def test_arrays_pass_unchanged(name: str) -> None:
    array = edge_array(name)
    result = as_array(array)
    assert result.dtype == array.dtype
    assert result.tobytes() == array.tobytes() if name != "BYTES" else result.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (1, "int64", ()),
        (1.5, "float64", ()),
        (True, "bool", ()),
        ([1.0, 2.0], "float64", (2,)),
        ([[1], [2]], "int64", (2, 1)),
        (np.float32(1), "float32", ()),
        (np.zeros((0, 3), np.int8), "int8", (0, 3)),
        ("text", "object", ()),
        (["a", "b"], "object", (2,)),
    ],
)
def test_numbers_text_and_lists_become_arrays(value: object, dtype: str, shape: tuple[int, ...]) -> None:
    result = as_array(value)
    assert (str(result.dtype), result.shape) == (dtype, shape)


def test_text_becomes_utf8_bytes() -> None:
    assert as_array(["ü", "b"]).tolist() == ["ü".encode(), b"b"]
    assert as_array(np.array(["ü", "bc"])).tolist() == ["ü".encode(), b"bc"]
    assert as_array(np.array([b"ab"])).tolist() == [b"ab"]
    assert as_array(np.array(["x"], dtype=np.dtypes.StringDType())).tolist() == [b"x"]


def test_trailing_zero_bytes_are_kept() -> None:
    assert as_array([b"a\x00", b"\x00"]).tolist() == [b"a\x00", b"\x00"]
    assert as_array(["a\x00"]).tolist() == [b"a\x00"]


def test_every_kind_of_byte_string_is_taken() -> None:
    items = np.empty(4, dtype=object)
    items[:] = [b"a", "b", bytearray(b"c"), memoryview(b"d")]
    assert as_array(items).tolist() == [b"a", b"b", b"c", b"d"]


def test_the_result_is_contiguous_and_native() -> None:
    view = np.arange(6, dtype=">i4").reshape(2, 3).T
    result = as_array(view)
    assert result.flags.c_contiguous
    assert result.dtype.isnative
    assert result.tolist() == view.tolist()


def test_scalars_stay_scalars() -> None:
    assert as_array(np.array(3)).shape == ()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [None],
        [[1], [2, 3]],
        1j,
        np.datetime64("2024-01-01"),
        object(),
        {"a": 1},
        ["\ud800"],
        [1, "a", None],
    ],
)
def test_what_is_no_tensor_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOutput):
        as_array(value)
