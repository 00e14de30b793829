"""Single tasks of a batch: failed by the model, cancelled on the way, executed apart from other batches."""

from __future__ import annotations

import socket
import threading
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from frameworks import RowErrors
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Task
from runtime.errors import Cancelled, ModelError, OutputMismatch
from runtime.runner.channel import Channel
from runtime.runner.link import Link
from runtime.tensors import arena
from runtime.tensors.frame import ALONE
from runtime.tensors.layout import LayoutTable
from tests.support.batches import LARGE, SMALL, large, plus_one, small, submit
from tests.support.execution import Inputs, executor
from tests.support.workers import WAIT_S, answered, read_until, scheduler, worker


class Witness:
    """A scheduler that only writes down what a channel tells it."""

    def __init__(self, tell: int | None = None) -> None:
        self.booked: list[tuple[Batch, list[int]]] = []
        self.failures: list[tuple[Batch, Exception]] = []
        self.stages: list[Stages] = []
        self._tell = tell

    def attach(self, instance: Channel) -> None:
        pass

    def detach(self, instance: Channel) -> None:
        instance.abandon()

    def finished(
        self, instance: Channel, batch: Batch, stages: Stages, refused: Collection[int] = ()
    ) -> None:
        self.booked.append((batch, sorted(refused)))
        self.stages.append(stages)

    def failed(self, instance: Channel, batch: Batch, error: Exception, stages: Stages) -> list[Task]:
        self.booked.append((batch, []))
        self.failures.append((batch, error))
        return batch.tasks[: self._tell]


class Held:
    """A model that says when it begins and waits for permission to go on; ``x + 1``, but nines are errors."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.seen: list[int] = []

    def __call__(self, inputs: Inputs) -> RowErrors:
        self.seen.append(len(inputs["x"]))
        self.begun.release()
        assert self.go.acquire(timeout=WAIT_S)
        nines = np.flatnonzero(inputs["x"][:, 0] == 9)
        return RowErrors(plus_one(inputs), {int(row): "a nine" for row in nines})


@pytest.mark.parametrize("make", [small, large])
def test_one_bad_row_fails_its_task_and_its_neighbours_are_answered(make: Any) -> None:
    model = Held()
    model.go.release(100)
    tasks = [make(1), make(9, 2), make(3, 3), make(9), make(5)]
    at = scheduler()
    with worker(model) as rig:
        channel = rig.connect(at)
        submit(at, *tasks)
        read_until(answered(tasks), channel)
        again = make(7)  # and nothing is left behind
        submit(at, again)
        read_until(answered([again]), channel)
    for value, task in zip((1, 9, 3, 9, 5, 7), (*tasks, again), strict=True):
        if value == 9:
            assert type(task.error) is ModelError
            assert str(task.error) == "a nine"
        else:
            assert task.outputs == [bytes([value + 1]) * task.size_bytes]
    assert at.statistics.failed == 2


def test_a_task_cancelled_before_its_batch_begins_is_not_executed() -> None:
    model = Held()
    at = Witness()
    with worker(model) as rig:
        channel = rig.connect(at)  # type: ignore[arg-type]
        first = Batch(SMALL, [small(1)], 0)
        second = Batch(SMALL, [small(2), small(3, 2), small(4)], 0)
        channel.send(first)
        assert model.begun.acquire(timeout=WAIT_S)
        channel.send(second)
        channel.cancel(second, second.tasks[1])
        channel.cancel(first, first.tasks[0])  # it runs already: too late
        model.go.release(2)
        read_until(lambda: len(at.booked) == 2, channel)
        channel.cancel(second, second.tasks[0])  # it is over
    assert model.seen == [1, 2]
    assert (first.number, second.number) == (1, 2)
    assert at.booked == [(first, []), (second, [1])]
    kept = [task.outputs for task in (second.tasks[0], second.tasks[2])]  # type: ignore[attr-defined]
    assert kept == [[bytes([3, 3])], [bytes([5, 5])]]
    assert isinstance(second.tasks[1].error, Cancelled)  # type: ignore[attr-defined]


def test_a_batch_of_which_every_task_is_cancelled_is_given_up() -> None:
    model = Held()
    at = Witness()
    with worker(model) as rig:
        channel = rig.connect(at)  # type: ignore[arg-type]
        first, second = Batch(LARGE, [large(1)], 0), Batch(LARGE, [large(2), large(3)], 0)
        channel.send(first)
        assert model.begun.acquire(timeout=WAIT_S)
        channel.send(second)
        for task in second.tasks:
            channel.cancel(second, task)
        model.go.release(1)
        read_until(lambda: len(at.booked) == 2, channel)
    assert model.seen == [1]
    assert [(batch, type(error)) for batch, error in at.failures] == [(second, Cancelled)]


def test_cancelling_never_raises() -> None:
    at = Witness()
    ours, theirs = socket.socketpair()
    channel = Channel("i", ours, arena.create(64), arena.create(64), scheduler=at, layouts=LayoutTable())  # type: ignore[arg-type]
    never, batch = Batch(SMALL, [small(1)], 0), Batch(SMALL, [small(1)], 0)
    channel.cancel(never, never.tasks[0])
    channel.send(batch)
    channel.cancel(batch, small(5))
    channel.cancel(never, never.tasks[0])
    theirs.close()
    channel.cancel(batch, batch.tasks[0])
    channel.lose()
    channel.cancel(batch, batch.tasks[0])


def test_a_batch_to_be_run_alone_is_marked_for_the_worker() -> None:
    at = Witness()
    ours, theirs = socket.socketpair()
    channel = Channel("i", ours, arena.create(64), arena.create(64), scheduler=at, layouts=LayoutTable())  # type: ignore[arg-type]
    channel.send(Batch(SMALL, [small(1)], 0))
    channel.send(Batch(SMALL, [small(2)], 0, alone=True))
    link = Link(theirs)
    assert [frame.flags for frame in link.receive()] == [0, ALONE]
    link.close()
    channel.lose()


def test_only_those_whom_the_scheduler_names_are_told_of_a_failure() -> None:
    at = Witness(tell=1)
    with worker(lambda inputs: {"y": inputs["x"][1:]}) as rig:
        channel = rig.connect(at)  # type: ignore[arg-type]
        batch = Batch(SMALL, [small(1), small(2)], 0)
        channel.send(batch)
        read_until(lambda: bool(at.failures), channel)
    first, second = batch.tasks
    assert isinstance(first.error, OutputMismatch)  # type: ignore[attr-defined]
    assert second.outcomes == []  # type: ignore[attr-defined]


def test_padding_is_told_from_rows() -> None:
    at = Witness()
    with worker(executor(plus_one, allowed_batch_sizes=(8,)), max_batch_size=8) as rig:
        channel = rig.connect(at)  # type: ignore[arg-type]
        channel.send(Batch(SMALL, [small(1, 3)], 0))
        read_until(lambda: bool(at.booked), channel)
    (stages,) = at.stages
    assert (stages.rows, stages.padded, stages.joined) == (3, 8, False)
