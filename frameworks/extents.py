"""The same inputs at other extents: do axes that are said to be dynamic take them?

A sample has one extent along each axis. Cut and repeated, it shows what else changes with an axis, and
whether something was made for that one extent only. Pure, given a callable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias, TypeVar

import numpy as np

from frameworks.arrays import Array, Arrays
from store import TensorSpec
from store.signature import DYNAMIC

Axis: TypeAlias = tuple[str, int]
"""Name of an input, and the number of its axis."""

Others: TypeAlias = Mapping[Axis, tuple[int, int]]
"""By axis the extents to try: a lesser and a greater one."""

_Answer = TypeVar("_Answer")

_ENDS: Final = (0, 1)


def open_axes(specs: Iterable[TensorSpec], batch_axis: int | None) -> list[Axis]:
    """Return the dynamic axes of inputs, other than the batch axis."""
    return [
        (spec.name, axis)
        for spec in specs
        for axis, size in enumerate(spec.shape)
        if size == DYNAMIC and axis != batch_axis
    ]


def around(inputs: Arrays, axes: Iterable[Axis]) -> dict[Axis, tuple[int, int]]:
    """Return half and twice the extents that inputs have: what divides an axis mostly divides these too."""
    extents = {(name, axis): inputs[name].shape[axis] for name, axis in axes}
    return {axis: (max(extent // 2, 1), 2 * extent) for axis, extent in extents.items() if extent}


def try_others(
    inputs: Arrays, others: Others, run: Callable[[Arrays], _Answer | None]
) -> Iterator[tuple[Arrays, _Answer]]:
    """Yield inputs at other extents that are taken, and what they were answered.

    All axes are changed together, since most that have the same extent have to keep it; where that is
    refused, those of each extent by themselves.

    Args:
        inputs: a sample.
        others: see ``Others``; of axes that are not empty.
        run: returns None for inputs that are refused.

    Complexity: two executions; where they are refused, two more for each different extent.
    """
    groups: dict[int, list[Axis]] = {}
    for name, axis in others:
        groups.setdefault(inputs[name].shape[axis], []).append((name, axis))
    for end in _ENDS:
        together = _attempt(inputs, {axis: pair[end] for axis, pair in others.items()}, run)
        if together is not None:
            yield together
        elif len(groups) > 1:
            for axes in groups.values():
                alone = _attempt(inputs, {axis: others[axis][end] for axis in axes}, run)
                if alone is not None:
                    yield alone


def _attempt(
    inputs: Arrays, extents: Mapping[Axis, int], run: Callable[[Arrays], _Answer | None]
) -> tuple[Arrays, _Answer] | None:
    resized = dict(inputs)
    for (name, axis), extent in extents.items():
        resized[name] = _resized(resized[name], axis, extent)
    if all(resized[name].shape == inputs[name].shape for name in inputs):
        return None
    answer = run(resized)
    return None if answer is None else (resized, answer)


def _resized(array: Array, axis: int, extent: int) -> Array:
    places = np.arange(extent) % array.shape[axis]
    return np.ascontiguousarray(array.take(places, axis=axis))
