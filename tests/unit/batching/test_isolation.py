"""Taking a failed batch apart: whom to run again with whom, and when to give up."""

from __future__ import annotations

import math

import pytest

from runtime.batching.isolation import CREDIT, Isolation
from runtime.batching.task import Batch, Task
from runtime.errors import (
    DeadlineExceeded,
    InvalidInput,
    MemoryExhausted,
    ModelError,
    NotReady,
    OutputMismatch,
    RuntimeServingError,
    ShapeMismatch,
    WorkerLost,
)
from tests.support.scheduling import A
from tests.support.tasks import RecordingTask

RAISED = ModelError("the model raised")


def batch_of(*rows: int, depth: int = 0) -> Batch:
    return Batch(A, [RecordingTask(A, count) for count in rows], 1, depth=depth)


def isolation(max_batch_size: int = 64, depth: int = 16) -> Isolation:
    return Isolation(max_batch_size, depth)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 8, 33, 64])
def test_a_failed_batch_is_halved_in_order(count: int) -> None:
    batch = batch_of(*[1] * count)
    left, right = isolation().halves(batch, batch.tasks, RAISED)
    assert [*left, *right] == batch.tasks
    assert (len(left), len(right)) == (math.ceil(count / 2), count // 2)


def test_tasks_are_halved_and_not_rows_so_that_small_ones_are_found_as_soon() -> None:
    batch = batch_of(32, 16, 8, 4, 2, 1, 1, 0)
    assert [len(half) for half in isolation().halves(batch, batch.tasks, RAISED)] == [4, 4]


def test_one_task_alone_is_the_culprit() -> None:
    batch = batch_of(5)
    assert not isolation().halves(batch, batch.tasks, RAISED)


def test_who_is_left_of_a_failed_batch_is_run_alone_before_he_is_blamed() -> None:
    batch = batch_of(1, 1, 1)
    assert list(isolation().halves(batch, batch.tasks[1:2], RAISED)) == [batch.tasks[1:2]]


def test_where_nobody_waits_any_more_nothing_is_run() -> None:
    assert not isolation().halves(batch_of(1, 1), [], RAISED)


@pytest.mark.parametrize("error", [RAISED, InvalidInput("no"), ShapeMismatch("no"), MemoryExhausted("no")])
def test_what_one_request_can_cause_is_looked_for(error: RuntimeServingError) -> None:
    batch = batch_of(1, 1)
    assert len(isolation().halves(batch, batch.tasks, error)) == 2


@pytest.mark.parametrize(
    "error", [OutputMismatch("no"), NotReady("no"), WorkerLost("no"), DeadlineExceeded("no")]
)
def test_what_no_request_can_cause_fails_everybody(error: RuntimeServingError) -> None:
    batch = batch_of(1, 1)
    assert not isolation().halves(batch, batch.tasks, error)


@pytest.mark.parametrize(
    ("depth", "allowed", "parts"), [(0, 0, 0), (0, 1, 2), (1, 1, 0), (15, 16, 2), (16, 16, 0)]
)
def test_a_batch_is_halved_so_many_times_and_not_once_more(depth: int, allowed: int, parts: int) -> None:
    batch = batch_of(1, 1, depth=depth)
    assert len(isolation(depth=allowed).halves(batch, batch.tasks, RAISED)) == parts


def take_apart(isolation: Isolation, tasks: list[Task]) -> int:
    """Have a model fail whatever it is given; returns the number of executions."""
    waiting = [Batch(A, tasks, 1)]
    executions = 0
    while waiting:
        batch = waiting.pop()
        executions += 1
        halves = isolation.halves(batch, batch.tasks, RAISED)
        waiting += [Batch(A, half, 1, depth=batch.depth + 1) for half in halves]
    return executions


def test_a_model_that_always_fails_is_soon_executed_once_for_each_batch() -> None:
    made = isolation(max_batch_size=4)
    executions = [take_apart(made, [RecordingTask(A) for _ in range(4)]) for _ in range(20)]
    assert executions[0] == 7
    assert executions[-1] == 1
    assert sum(executions) == 20 + 2 * CREDIT * 4


def test_each_task_that_succeeds_pays_for_one_halving_and_the_credit_does_not_grow_for_ever() -> None:
    made = isolation(max_batch_size=1)
    batch = batch_of(1, 1)
    for _ in range(CREDIT):
        assert made.halves(batch, batch.tasks, RAISED)
    assert not made.halves(batch, batch.tasks, RAISED)
    made.succeeded(2)
    assert made.halves(batch, batch.tasks, RAISED)
    assert made.halves(batch, batch.tasks, RAISED)
    assert not made.halves(batch, batch.tasks, RAISED)
    for _ in range(5 * CREDIT):
        made.succeeded(1)
    assert sum(bool(made.halves(batch, batch.tasks, RAISED)) for _ in range(99)) == CREDIT
