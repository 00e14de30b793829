"""Cutting tensors along their batch axis and joining them again."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest

from runtime.tensors.layout import Array, TensorLayout
from runtime.tensors.rows import cut_rows, join_rows
from store.datatypes import NAMES, from_numpy
from tests.support.dtypes import edge_array
from tests.support.execution import raw


def layout_of(array: Array, axis: int) -> TensorLayout:
    dims = list(array.shape)
    dims[axis] = -1
    return TensorLayout.of("x", from_numpy(array.dtype), dims)


def expected(array: Array, axis: int, counts: list[int]) -> list[bytes]:
    return [raw(part) for part in np.split(array, list(accumulate(counts))[:-1], axis=axis)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("counts", [[6], [2, 4], [1, 0, 3, 2], [0, 6, 0]])
def test_each_piece_has_its_rows_and_joining_them_gives_the_tensor(
    name: str, axis: int, counts: list[int]
) -> None:
    array = np.moveaxis(np.stack([edge_array(name), edge_array(name)[::-1]]).reshape(6, 2, 1), 0, axis)
    tensor, data = layout_of(array, axis), raw(array)
    parts = cut_rows(tensor, data, counts)
    assert [bytes(part) for part in parts] == expected(array, axis, counts)
    assert bytes(join_rows(tensor, parts, counts)) == data


@pytest.mark.parametrize("name", ["FP32", "BOOL", "BYTES"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (3, 0, 2), (0, 2, 3), (3, 2, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tensors_without_elements_have_pieces_without_bytes(
    name: str, shape: tuple[int, ...], axis: int
) -> None:
    axis = min(axis, len(shape) - 1)
    dims = [-1 if position == axis else extent for position, extent in enumerate(shape)]
    tensor = TensorLayout.of("x", name, dims)
    counts = [1] * shape[axis] or [0, 0]
    parts = cut_rows(tensor, b"", counts)
    assert [bytes(part) for part in parts] == [b""] * len(counts)
    assert bytes(join_rows(tensor, parts, counts)) == b""


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("dims", [(-1, 2), (1, -1, 2)])
@pytest.mark.parametrize("name", ["INT16", "BYTES"])
def test_rows_that_lie_together_are_not_copied(
    name: str, dims: tuple[int, ...], wrap: type[bytes | bytearray | memoryview]
) -> None:
    data = wrap(raw(edge_array(name)))
    owner = data.obj if isinstance(data, memoryview) else data
    first, second = cut_rows(TensorLayout.of("x", name, dims), data, [1, 2])
    assert isinstance(first, memoryview)
    assert isinstance(second, memoryview)
    assert (first.obj, second.obj) == (owner, owner)
    assert bytes(first) + bytes(second) == bytes(data)


def test_a_part_of_a_larger_buffer_is_cut_where_it_lies() -> None:
    array = np.arange(12, dtype=np.int32).reshape(2, 3, 2)
    frame = memoryview(b"head" + array.tobytes() + b"tail")[4:-4]
    parts = cut_rows(layout_of(array, 1), frame, [1, 2])
    assert [bytes(part) for part in parts] == [array[:, :1].tobytes(), array[:, 1:].tobytes()]


def test_pieces_of_different_buffer_types_are_joined() -> None:
    array = np.arange(12, dtype=np.int32).reshape(2, 6)
    tensor = layout_of(array, 1)
    first, second, third = cut_rows(tensor, array.tobytes(), [2, 3, 1])
    parts = [bytes(first), bytearray(second), memoryview(third)]
    assert bytes(join_rows(tensor, parts, [2, 3, 1])) == array.tobytes()


def test_counts_that_are_not_those_of_the_parts_are_a_mistake_not_a_wrong_answer() -> None:
    tensor = TensorLayout.of("x", "INT8", (2, -1))
    with pytest.raises(ValueError, match="shape"):
        join_rows(tensor, [b"ab", b"cd"], [2, 1])
