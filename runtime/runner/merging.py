"""The first half of an execution: the inputs of all tasks as one array each. Pure.

Views on the payload wherever the bytes lie as they must; a copy only to join what lies apart, to leave a task
out, to pad, to unpack text, and to align.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from runtime.tensors import strings
from runtime.tensors.layout import Array, Layout, TensorLayout

Buffer = bytes | bytearray | memoryview


class Group(NamedTuple):
    """One batch as it came from one service.

    ``rows`` of each task, ``sizes`` of the BYTES inputs, the ``payload``, and in ``skip`` the tasks that
    nobody waits for, by their place.
    """

    rows: Sequence[int]
    sizes: Sequence[int]
    payload: Buffer
    skip: Collection[int] = ()


def kept(group: Group) -> list[int]:
    """The places of the tasks that are executed."""
    return [index for index in range(len(group.rows)) if index not in group.skip]


def without_skipped(layout: Layout, groups: Sequence[Group]) -> Sequence[Group]:
    """The groups as they would have come without the tasks to be skipped; the very same if there are none."""
    for group in groups:
        if group.skip:
            return [_without_skipped(layout, group) if group.skip else group for group in groups]
    return groups


def _without_skipped(layout: Layout, group: Group) -> Group:
    tasks = kept(group)
    sizes: list[int] = []
    payload = bytearray()
    view = memoryview(group.payload)
    start = 0
    for tensor, extents in zip(layout.tensors, _extents(layout, group), strict=True):
        for task, extent in enumerate(extents):
            if task not in group.skip:
                payload += view[start : start + extent]
            start += extent
        if tensor.variable:
            sizes += [extents[task] for task in tasks]
    return Group([group.rows[task] for task in tasks], sizes, payload)


def merge(layout: Layout, groups: Sequence[Group], missing: int = 0) -> dict[str, Array]:
    """All groups' inputs by name, each along the batch axis.

    Args:
        layout: of every group; it has a batch axis if there are several tasks or rows are missing.
        groups: at least one, and none with tasks to be skipped.
        missing: rows to add by repeating the last one, of which there is at least one. A row that somebody
            sent is one that the model takes; zeros may not be.
    """
    columns = _columns(layout, groups[0])
    for group in groups[1:]:
        for column, more in zip(columns, _columns(layout, group), strict=True):
            column += more
    inputs: dict[str, Array] = {}
    for tensor, column in zip(layout.tensors, columns, strict=True):
        if missing or len(column) > 1:
            inputs[tensor.name] = _join(column, layout.axes[0] if layout.axes else 0, missing)
        else:
            inputs[tensor.name] = column[0]
    return inputs


def _join(pieces: list[Array], axis: int, missing: int) -> Array:
    if missing:
        pieces.append(_padding(pieces, axis, missing))
    return np.concatenate(pieces, axis=axis)


def _padding(pieces: Sequence[Array], axis: int, missing: int) -> Array:
    """The last row so many times, without taking up memory for each."""
    last = next(piece for piece in reversed(pieces) if piece.shape[axis])
    row = last[(slice(None),) * axis + (slice(-1, None),)]
    return np.broadcast_to(row, (*row.shape[:axis], missing, *row.shape[axis + 1 :]))


def _columns(layout: Layout, group: Group) -> list[list[Array]]:
    """The inputs of one group: one array each where the bytes lie as they must, else one per task."""
    if layout.axes and layout.axes[0]:
        return _columns_by_task(layout, group)
    total = sum(group.rows)
    tasks = len(group.rows)
    columns: list[list[Array]] = []
    start = table = 0
    for tensor in layout.tensors:
        if tensor.variable:
            size = sum(group.sizes[table : table + tasks])
            table += tasks
        else:
            size = tensor.row_bytes * total
        columns.append([_view(tensor, group.payload, start, size, total)])
        start += size
    return columns


def _columns_by_task(layout: Layout, group: Group) -> list[list[Array]]:
    columns: list[list[Array]] = []
    start = 0
    for tensor, extents in zip(layout.tensors, _extents(layout, group), strict=True):
        column: list[Array] = []
        for rows, extent in zip(group.rows, extents, strict=True):
            column.append(_view(tensor, group.payload, start, extent, rows))
            start += extent
        columns.append(column)
    return columns


def _extents(layout: Layout, group: Group) -> Iterator[Sequence[int]]:
    """The bytes of each task's part, input by input."""
    tasks = len(group.rows)
    table = 0
    for tensor in layout.tensors:
        if tensor.variable:
            yield group.sizes[table : table + tasks]
            table += tasks
        else:
            yield [tensor.row_bytes * rows for rows in group.rows]


def _view(tensor: TensorLayout, payload: Buffer, start: int, size: int, rows: int) -> Array:
    """An array over a stretch of the payload; a copy only where the bytes must be unpacked or aligned."""
    shape = tensor.shape(rows)
    if tensor.variable:
        flat, _ = strings.decode(
            memoryview(payload)[start : start + size], tensor.row_elements() * _rows(tensor, rows)
        )
        return flat.reshape(shape)
    if not size:
        return np.empty(shape, dtype=tensor.dtype)
    dtype = tensor.dtype
    array: Array = np.frombuffer(payload, dtype=dtype, count=size // dtype.itemsize, offset=start)
    if start % dtype.itemsize:
        array = array.copy()
    return array.reshape(shape)


def _rows(tensor: TensorLayout, rows: int) -> int:
    return rows if -1 in tensor.dims else 1
