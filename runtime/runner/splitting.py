"""The last half of an execution: the outputs cut along the batch axis, for each task its own rows. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from runtime.errors import Cancelled, ModelError, OutputMismatch, RuntimeServingError
from runtime.runner.merging import Buffer, Group, kept
from runtime.tensors import strings
from runtime.tensors.layout import Array, Layout

Refused = Mapping[int, RuntimeServingError]
"""Why tasks are left out of the outputs, by their place in their batch."""

NOBODY: Final[Refused] = MappingProxyType({})

CANCELLED: Final = Cancelled("the caller went away before the request was executed")


class Share(NamedTuple):
    """One group's outputs, ready to be framed: those of all its tasks but the ``refused``."""

    head: bytes
    sizes: list[int]
    parts: list[Buffer]
    refused: Refused = NOBODY


def split(layout: Layout, head: bytes, arrays: Mapping[str, Array], groups: Sequence[Group]) -> list[Share]:
    """Cut the outputs along the output axis into the groups' shares; what is left is padding."""
    shares: list[Share] = []
    begin = 0
    for group in groups:
        end = begin + sum(group.rows)
        share = Share(head, [], [])
        for array in arrays.values():
            _cut(layout, array, begin, end, group.rows, share)
        shares.append(share)
        begin = end
    return shares


def refuse(
    layout: Layout, groups: Sequence[Group], errors: Mapping[int, str], executed_rows: int
) -> list[Refused]:
    """Whom of each group not to answer: the tasks that were skipped, and those that own a failed row.

    Args:
        layout: of the inputs.
        groups: as they came.
        errors: the model's words by row of the merged batch. Without a batch axis there is one task, and
            every row is its own; rows of the padding are nobody's.
        executed_rows: that the model was given, padding included.

    Raises:
        OutputMismatch: there is no such row.
    """
    refused: list[dict[int, RuntimeServingError]] = [dict.fromkeys(group.skip, CANCELLED) for group in groups]
    owners = [(number, index) for number, group in enumerate(groups) for index in kept(group)]
    ends: list[int] = []
    for number, index in owners:
        ends.append(groups[number].rows[index] + (ends[-1] if ends else 0))
    for row in sorted(errors):
        if layout.axes is not None and not 0 <= row < executed_rows:
            raise OutputMismatch(
                f"method {layout.method!r} was given {executed_rows} rows and returned an error for row {row}"
            )
        at = bisect_right(ends, row) if layout.axes is not None else 0
        if at < len(owners):
            number, index = owners[at]
            refused[number].setdefault(index, ModelError(errors[row]))
    return list(refused)


def split_without(
    layout: Layout,
    head: bytes,
    arrays: Mapping[str, Array],
    groups: Sequence[Group],
    refused: Sequence[Refused],
) -> list[Share]:
    """Like :func:`split`, but leave out what is refused of each group, by its tasks' places.

    Skipped tasks have no rows in the outputs; failed ones have.
    """
    shares: list[Share] = []
    begin = 0
    for group, left_out in zip(groups, refused, strict=True):
        spans: list[tuple[int, int]] = []
        for index in kept(group):
            rows = group.rows[index]
            if index not in left_out:
                spans.append((begin, rows))
            begin += rows
        share = Share(head, [], [], left_out)
        for array in arrays.values():
            for start, rows in spans:
                _cut(layout, array, start, start + rows, (rows,), share)
        shares.append(share)
    return shares


def _cut(layout: Layout, array: Array, begin: int, end: int, rows: Sequence[int], share: Share) -> None:
    """Append one output's rows ``begin`` to ``end`` to a share, in wire form and task by task."""
    text = array.dtype.kind in "OSUT"
    if layout.axes is None:
        _append(array, text, share)
        return
    axis = layout.axes[1]
    if axis == 0 and not text:
        share.parts.append(_buffer(array[begin:end]))
        return
    for count in rows:
        index = (slice(None),) * axis + (slice(begin, begin + count),)
        _append(array[index], text, share)
        begin += count


def _append(array: Array, text: bool, share: Share) -> None:
    if text:
        data = strings.encode(array)
        share.sizes.append(len(data))
        share.parts.append(data)
    else:
        share.parts.append(_buffer(array))


def _buffer(array: Array) -> Buffer:
    """The bytes of an array without a copy where it lies contiguous."""
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8).data
