"""Cuts tensors in wire form along their batch axis, and joins them again.

For a batch axis of 0 the rows of a tensor lie one behind the other, so a cut is a view and a join is one
copy. For any other axis each row is scattered over the tensor and is copied. Elements of BYTES tensors are
found by their length prefixes, which are walked once however many pieces are wanted.

Used by the batcher for requests of more rows than a batch may have. The bytes must fit the layout: sizes and
length prefixes are checked where a request comes in, not here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from runtime.tensors.layout import TensorLayout

Buffer = bytes | bytearray | memoryview

_LENGTH: Final = struct.Struct("<I")


def cut_rows(tensor: TensorLayout, data: Buffer, counts: Sequence[int]) -> list[Buffer]:
    """Cut a tensor into pieces of so many rows each, in order.

    Args:
        tensor: its layout, with -1 at the batch axis.
        data: its wire form.
        counts: rows of each piece, in all as many as the tensor has.

    Returns:
        The wire form of each piece: views of ``data`` where its rows lie together, else copies.
    """
    if not data:
        return [b""] * len(counts)
    view = memoryview(data)
    outer = _outer(tensor)
    if tensor.variable:
        return _cut_elements(view, outer, tensor.row_elements() // outer, counts)
    if outer == 1:
        size = tensor.row_bytes
        return [view[begin * size : end * size] for begin, end in _bounds(counts)]
    array = _grid(view, outer, sum(counts))
    return [array[:, begin:end].tobytes() for begin, end in _bounds(counts)]


def join_rows(tensor: TensorLayout, parts: Sequence[Buffer], counts: Sequence[int]) -> Buffer:
    """Put a tensor together from pieces of so many rows each: what :func:`cut_rows` undoes."""
    outer = _outer(tensor)
    if outer <= 1:
        return b"".join(parts)
    if tensor.variable:
        return _join_elements(parts, outer, tensor.row_elements() // outer, counts)
    joined = np.empty((outer, sum(counts), tensor.row_bytes // outer), np.uint8)
    for part, count, (begin, end) in zip(parts, counts, _bounds(counts), strict=True):
        if part:
            joined[:, begin:end] = _grid(part, outer, count)
    return joined.reshape(-1).data


def _outer(tensor: TensorLayout) -> int:
    """How many stretches the rows of a tensor lie in: the product of the extents before the batch axis."""
    return math.prod(tensor.dims[: tensor.dims.index(-1)])


def _bounds(counts: Sequence[int]) -> list[tuple[int, int]]:
    """The first row of each piece, and the one behind its last."""
    return list(pairwise(accumulate(counts, initial=0)))


def _grid(data: Buffer, outer: int, rows: int) -> NDArray[np.uint8]:
    """A tensor of bytes that is not empty as [stretch, row, byte]."""
    return np.frombuffer(data, np.uint8).reshape(outer, rows, -1)


# -- BYTES ------------------------------------------------------------------------------------------


def _cut_elements(view: memoryview, outer: int, inner: int, counts: Sequence[int]) -> list[Buffer]:
    """Cut a BYTES tensor whose rows have ``inner`` elements in each of ``outer`` stretches."""
    runs: list[list[memoryview]] = [[] for _ in counts]
    at = 0
    for _ in range(outer):
        for run, count in zip(runs, counts, strict=True):
            end = _skip(view, at, count * inner)
            run.append(view[at:end])
            at = end
    return [run[0] if outer == 1 else b"".join(run) for run in runs]


def _join_elements(parts: Sequence[Buffer], outer: int, inner: int, counts: Sequence[int]) -> bytes:
    """The reverse: take a stretch of each piece in turn."""
    views = [memoryview(part) for part in parts]
    ends = [0] * len(parts)
    runs: list[memoryview] = []
    for _ in range(outer):
        for index, count in enumerate(counts):
            begin = ends[index]
            ends[index] = _skip(views[index], begin, count * inner)
            runs.append(views[index][begin : ends[index]])
    return b"".join(runs)


def _skip(view: memoryview, at: int, elements: int) -> int:
    """Where the elements that begin at ``at`` end."""
    unpack = _LENGTH.unpack_from
    for _ in range(elements):
        at += 4 + unpack(view, at)[0]
    return at
