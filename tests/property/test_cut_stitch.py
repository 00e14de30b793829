"""Cutting a task and answering its pieces is the same as answering the task."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batching.pieces import cut
from runtime.batching.task import BatchKey, Result, State, Task
from runtime.errors import ModelError
from runtime.runner.executor import Group
from runtime.tensors.layout import Array, Layout, TensorLayout
from runtime.tensors.rows import cut_rows, join_rows
from store.datatypes import NAMES, numpy_dtype
from tests.support.execution import Inputs, array_of, assert_equal, executor, head_of, raw
from tests.support.tasks import RecordingTask

AXES = [(0, 0), (1, 1), (1, 0), (0, 1), (2, 2), (2, 0)]


def random_array(datatype: str, shape: Sequence[int], seed: int) -> Array:
    """An array with content of its own."""
    source = np.random.default_rng(seed)
    if datatype == "BYTES":
        array = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            array[index] = source.bytes(int(source.integers(0, 9)))
        return array
    if datatype == "BOOL":
        return source.integers(0, 2, shape).astype(bool)
    return source.integers(0, 100, shape).astype(numpy_dtype(datatype))


def shape_of(rows: int, axis: int, other: Sequence[int]) -> list[int]:
    return [*other[:axis], rows, *other[axis:]]


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, Array, list[int]]:
    axis = draw(st.integers(0, 2))
    other = draw(st.lists(st.integers(0, 3), min_size=axis, max_size=3))
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    array = random_array(
        draw(st.sampled_from(NAMES)), shape_of(sum(counts), axis, other), draw(st.integers(0, 1 << 30))
    )
    return axis, array, counts


@settings(deadline=None, max_examples=150)
@given(cuts(), st.sampled_from(NAMES))
def test_every_piece_has_its_rows_and_joined_they_are_the_tensor(
    made: tuple[int, Array, list[int]], name: str
) -> None:
    axis, array, counts = made
    tensor = Layout.decode(head_of({name: array}, (axis, axis))).tensors[0]
    data = raw(array)
    parts = cut_rows(tensor, data, counts)
    wanted = np.split(array, np.cumsum(counts)[:-1], axis=axis)
    assert [bytes(part) for part in parts] == [raw(part) for part in wanted]
    assert bytes(join_rows(tensor, parts, counts)) == data


# -- tasks ------------------------------------------------------------------------------------------


@dataclass
class Case:
    """A task of random tensors, how it is cut, and what decides the order of the answers."""

    axes: tuple[int, int]
    inputs: Inputs
    rows: int
    max_rows: int
    luck: random.Random


@st.composite
def cases(draw: st.DrawFn) -> Case:
    axes = draw(st.sampled_from(AXES))
    rank = max(axes)
    rows = draw(st.integers(2, 9))
    seed = draw(st.integers(0, 1 << 30))
    inputs = {}
    for index in range(draw(st.integers(1, 3))):
        other = draw(st.lists(st.integers(0, 3), min_size=rank, max_size=rank + 1))
        array = random_array(draw(st.sampled_from(NAMES)), shape_of(rows, axes[0], other), seed + index)
        inputs[f"x{index}"] = array
    return Case(axes, inputs, rows, draw(st.integers(1, rows - 1)), draw(st.randoms(use_true_random=False)))


class Server:
    """Answers pieces as a scheduler and a worker would: in any order, and in any company."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.forgotten: list[Task] = []
        self.executor = executor(self._move)
        head = head_of(case.inputs, case.axes)
        tensors = Layout.decode(head).tensors
        self.key = BatchKey(head, batchable=True, variable=tuple(tensor.variable for tensor in tensors))
        self.task = RecordingTask(self.key, case.rows, parts=[raw(array) for array in case.inputs.values()])
        self.outputs: tuple[TensorLayout, ...] = ()

    def pieces(self) -> list[Task]:
        """Cut the task, and some of its pieces once more, as after an execution without enough memory."""
        waiting: list[Task] = []
        for piece in cut(self.task, self.case.max_rows, self.forget):
            again = cut(piece, self.case.luck.randint(1, piece.rows), self.forget)
            waiting += again or [piece]
        self.case.luck.shuffle(waiting)
        return waiting

    def batch(self, waiting: list[Task]) -> list[Task]:
        """Take a few pieces."""
        count = self.case.luck.randint(1, len(waiting))
        taken = [waiting.pop() for _ in range(count)]
        for piece in taken:
            piece.state = State.DONE
        return taken

    def execute(self, tasks: Sequence[Task]) -> None:
        """Run one batch and hand out its result."""
        payload, sizes = bytearray(), []
        for index, variable in enumerate(self.key.variable):
            column = [task.parts[index] for task in tasks]
            payload += b"".join(column)
            sizes += [len(part) for part in column] if variable else []
        rows = [task.rows for task in tasks]
        (share,) = self.executor.execute(self.key.head, [Group(rows, sizes, payload)]).shares
        layout = Layout.decode(share.head)
        self.outputs = layout.tensors
        memory = bytearray(b"".join(share.parts))
        result = Result(
            layout, memoryview(memory), share.sizes, tasks=len(rows), rows=sum(rows)
        )  # fmt: skip
        for task in tasks:
            task.succeed(result)
        memory[:] = bytes(len(memory))  # the worker uses it again

    def forget(self, task: Task) -> None:
        self.forgotten.append(task)

    def _move(self, inputs: Inputs) -> Inputs:
        return {name: np.moveaxis(array, *self.case.axes) for name, array in inputs.items()}

    def expected(self) -> Inputs:
        return self._move(self.case.inputs)


@settings(deadline=None, max_examples=150)
@given(cases())
def test_the_whole_gets_the_outputs_that_it_would_have_got_uncut(case: Case) -> None:
    server = Server(case)
    waiting = server.pieces()
    while waiting:
        assert not server.task.outcomes
        server.execute(server.batch(waiting))
    outputs = {
        tensor.name: array_of(tensor, data, case.rows)
        for tensor, data in zip(server.outputs, server.task.outputs, strict=True)
    }
    assert_equal(outputs, server.expected())
    assert server.forgotten == []
    assert not server.task.pieces


@settings(deadline=None, max_examples=150)
@given(cases())
def test_whichever_piece_fails_whenever_the_whole_fails_once_and_never_succeeds(case: Case) -> None:
    server = Server(case)
    waiting = server.pieces()
    errors: list[Exception] = []
    while waiting:
        taken = server.batch(waiting)
        if case.luck.random() < 0.5 or not (waiting or errors):
            for piece in taken:
                errors.append(ModelError("no"))
                piece.fail(errors[-1])
        else:
            server.execute(taken)
        assert server.task.outcomes == errors[:1]
    assert len(set(server.forgotten)) == len(server.forgotten)
    assert not server.task.pieces
