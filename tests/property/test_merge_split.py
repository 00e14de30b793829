"""Merging and splitting gives each task its own rows back, whatever the datatype and the axis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import Signature
from store.datatypes import NAMES, numpy_dtype
from tests.support.execution import Inputs, assert_equal, run
from tests.support.serving import echo

AXES = [(0, 0), (1, 1), (1, 0), (0, 1), (2, 2)]


def filled(datatype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """An array of the datatype with content of its own."""
    random = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if datatype == "BYTES":
        flat = np.empty(count, dtype=object)
        flat[:] = [
            bytes(random.integers(0, 256, size=random.integers(0, 9), dtype=np.uint8)) for _ in range(count)
        ]
        return flat.reshape(shape)
    if datatype == "BOOL":
        return random.integers(0, 2, size=shape).astype(bool)
    return random.integers(0, 100, size=shape).astype(numpy_dtype(datatype))


def shape_of(rows: int, axis: int, other: tuple[int, ...]) -> tuple[int, ...]:
    dims = list(other)
    dims.insert(axis, rows)
    return tuple(dims)


@st.composite
def batches(draw: st.DrawFn) -> tuple[tuple[int, int], list[list[Inputs]]]:
    axes = draw(st.sampled_from(AXES))
    rank = max(axes) + 1
    inputs = draw(
        st.lists(
            st.tuples(st.sampled_from(NAMES), st.lists(st.integers(0, 3), min_size=rank, max_size=rank + 1)),
            min_size=1,
            max_size=3,
        )
    )
    groups = draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=3))
    seed = draw(st.integers(0, 1 << 30))
    made: list[list[Inputs]] = []
    for group in groups:
        tasks: list[Inputs] = []
        for rows in group:
            seed += 10
            tasks.append(
                {
                    f"x{index}": filled(datatype, shape_of(rows, axes[0], tuple(dims)), seed + index)
                    for index, (datatype, dims) in enumerate(inputs)
                }
            )
        made.append(tasks)
    return axes, made


@settings(deadline=None, max_examples=150)
@given(batches())
def test_every_task_gets_its_own_rows_back(batch: tuple[tuple[int, int], list[list[Inputs]]]) -> None:
    axes, groups = batch

    def move(inputs: Inputs) -> Inputs:
        return {name: np.moveaxis(array, axes[0], axes[1]) for name, array in inputs.items()}

    for tasks, got in zip(groups, run(move, groups, axes), strict=True):
        for task, outputs in zip(tasks, got, strict=True):
            assert_equal(outputs, move(task))


@pytest.mark.parametrize("datatype", NAMES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 2), (2, 3)])
def test_what_cannot_be_merged_comes_back_whole(datatype: str, shape: tuple[int, ...]) -> None:
    task = {"x": filled(datatype, shape, 1), "y": filled("BYTES", (2,), 2), "z": filled(datatype, (), 3)}
    ((outputs,),) = run(echo, [[task]], None, Signature())
    assert_equal(outputs, task)
