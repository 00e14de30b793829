"""Whoever is left out, fails or is padded beside: each answered task gets what it would get alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from frameworks import RowErrors
from runtime.errors import Cancelled, ModelError
from store.datatypes import NAMES
from tests.property.test_merge_split import AXES, filled, shape_of
from tests.support.execution import Inputs, assert_equal, executor, group_of, head_of, outcomes_of, run

MARK = "mark"
"""An input with the row's own number, of which some are bad."""


class Case(NamedTuple):
    """Batches of several services, whom to skip in each, the numbers of bad rows, and the sizes allowed."""

    axes: tuple[int, int]
    groups: list[list[Inputs]]
    skips: list[frozenset[int]]
    bad: frozenset[int]
    sizes: list[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    axes = draw(st.sampled_from(AXES))
    rank = max(axes) + 1
    dims = st.lists(st.integers(0, 3), min_size=rank, max_size=rank)
    inputs = draw(st.lists(st.tuples(st.sampled_from(NAMES), dims), min_size=1, max_size=2))
    seed = draw(st.integers(0, 1 << 30))
    number = 0
    groups: list[list[Inputs]] = []
    skips: list[frozenset[int]] = []
    for rows in draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=3)):
        tasks: list[Inputs] = []
        for count in rows:
            seed += 10
            task = {
                f"x{index}": filled(datatype, shape_of(count, axes[0], tuple(other)), seed + index)
                for index, (datatype, other) in enumerate(inputs)
            }
            marks = np.arange(number, number + count, dtype=np.int32)
            marks = marks.reshape(shape_of(count, axes[0], (1,) * rank))
            tasks.append(task | {MARK: marks})
            number += count
        groups.append(tasks)
        # the worker runs no batch of which nothing is left
        places = st.frozensets(st.integers(0, len(rows) - 1), max_size=len(rows) - 1)
        skips.append(draw(places))
    bad = draw(st.frozensets(st.integers(0, max(number - 1, 0)), max_size=3))
    sizes = draw(st.lists(st.integers(1, 40), max_size=4, unique=True).map(sorted))
    return Case(axes, groups, skips, bad, sizes)


@settings(deadline=None, max_examples=150)
@given(cases())
def test_every_answered_task_gets_what_it_gets_alone(case: Case) -> None:
    axes, groups, skips, bad, sizes = case
    given_rows: list[int] = []

    def move(inputs: Inputs) -> Inputs:
        return {name: np.moveaxis(array, axes[0], axes[1]) for name, array in inputs.items()}

    def model(inputs: Inputs) -> Inputs | RowErrors:
        marks = inputs[MARK].reshape(-1).tolist()
        given_rows.append(len(marks))
        errors = {row: f"{mark}" for row, mark in enumerate(marks) if mark in bad}
        return RowErrors(move(inputs), errors) if errors else move(inputs)

    framed = [group_of(tasks, axes, skip) for tasks, skip in zip(groups, skips, strict=True)]
    done = executor(model, allowed_batch_sizes=sizes).execute(head_of(groups[0][0], axes), framed)
    assert given_rows == [done.padded]
    assert done.padded >= done.rows
    assert done.padded in (done.rows, *sizes)
    for tasks, skip, share, group in zip(groups, skips, done.shares, framed, strict=True):
        for index, outcome in enumerate(outcomes_of(share, group)):
            marks = tasks[index][MARK].reshape(-1).tolist()
            failing = [mark for mark in marks if mark in bad]
            if index in skip:
                assert isinstance(outcome, Cancelled)
            elif failing:
                assert isinstance(outcome, ModelError)
                assert outcome.message == str(failing[0])
            else:
                assert isinstance(outcome, dict)
                ((alone,),) = run(move, [[tasks[index]]], axes)
                assert_equal(outcome, alone)
                for name in outcome:  # bit for bit: what cannot be compared, such as NaN, included
                    if outcome[name].dtype != object:
                        assert outcome[name].tobytes() == alone[name].tobytes()
