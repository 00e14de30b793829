"""Of a batch that fails exactly those at fault fail, after no more executions than that takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batching.isolation import CREDIT
from runtime.batching.limits import Limits
from runtime.batching.policy import Greedy
from runtime.batching.scheduler import Scheduler
from runtime.batching.task import Batch, Task
from runtime.clock import MILLISECOND
from runtime.errors import MemoryExhausted, ModelError
from tests.support.clock import FakeClock
from tests.support.instances import FakeInstance, Outcome, no_outputs
from tests.support.pieces import result_of
from tests.support.tasks import RecordingTask, real_key

NO_LIMIT = 1 << 40
crowds = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=64)


class Trial:
    """One instance whose model is at the test's mercy; the batches are executed as they come."""

    def __init__(self, max_batch_size: int) -> None:
        limits = Limits(max_batch_size=max_batch_size, max_queued_rows=NO_LIMIT)
        policy = Greedy(max_batch_size, NO_LIMIT)
        self.scheduler = Scheduler(limits, policy=policy, clock=FakeClock())
        self.instance = FakeInstance(self.execute)
        self.scheduler.attach(self.instance)
        self.poison: set[Task] = set()
        self.runs: Counter[Task] = Counter()
        self.executed: list[Batch] = []
        self.successes = 0

    def execute(self, batch: Batch) -> Outcome:
        self.runs.update(batch.tasks)
        self.executed.append(batch)
        if self.poison.intersection(batch.tasks):
            return ModelError("the model raised")
        self.successes += 1
        return no_outputs(batch)

    def run(self, tasks: Sequence[RecordingTask]) -> None:
        for task in tasks:
            self.scheduler.submit(task)
        self.scheduler.pump()
        self.finish()

    def finish(self) -> None:
        while self.instance.running:
            self.instance.finish(self.scheduler)
        assert not self.scheduler.busy


def crowd_of(made: Sequence[tuple[int, bool]]) -> tuple[list[RecordingTask], set[Task]]:
    of = real_key()
    tasks = [RecordingTask(of, rows, parts=[bytes(rows)]) for rows, _ in made]
    return tasks, {task for task, (_, bad) in zip(tasks, made, strict=True) if bad}


@settings(deadline=None, max_examples=150)
@given(crowds)
def test_k_poison_requests_among_n_fail_alone_and_nobody_runs_more_than_1_plus_log2_n_times(
    made: list[tuple[int, bool]],
) -> None:
    tasks, poison = crowd_of(made)
    rows = sum(task.rows for task in tasks)
    trial = Trial(max(64, rows + 1))
    trial.poison = poison
    trial.run(tasks)
    for task in tasks:
        assert isinstance(task.error, ModelError) if task in poison else task.outputs == []
    levels = math.ceil(math.log2(len(tasks)))
    assert trial.executed[0].tasks == tasks
    assert max(trial.runs.values()) <= 1 + levels
    assert sum(batch.rows for batch in trial.executed) <= rows * (1 + levels)
    assert len(trial.executed) <= 1 + 2 * min(len(poison) * levels, len(tasks) - 1)
    s = trial.scheduler.statistics
    assert (s.failed, s.completed) == (len(poison), len(tasks) - len(poison))
    assert s.isolated == (len(poison) if len(tasks) > 1 else 0)
    assert s.reruns == len(trial.executed) - 1


@settings(deadline=None, max_examples=100)
@given(crowds, st.sets(st.integers(0, 63)), st.integers(0, 8))
def test_nobody_is_blamed_for_one_who_has_gone(
    made: list[tuple[int, bool]], leaving: set[int], after: int
) -> None:
    tasks, poison = crowd_of(made)
    trial = Trial(1024)
    trial.poison = poison
    for task in tasks:
        trial.scheduler.submit(task)
    trial.scheduler.pump()
    for _ in range(after):
        if trial.instance.running:
            trial.instance.finish(trial.scheduler)
    for place in leaving:
        if place < len(tasks):
            trial.scheduler.cancel(tasks[place])
    trial.finish()
    for place, task in enumerate(tasks):
        assert len(task.outcomes) <= 1
        if place not in leaving:
            assert isinstance(task.error, ModelError) if task in poison else task.outputs == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=120))
def test_a_model_that_fails_and_fails_is_executed_within_a_budget(made: list[tuple[int, bool]]) -> None:
    trial = Trial(8)
    good = 0
    for batches, (count, bad) in enumerate(made, 1):
        tasks, _ = crowd_of([(1, bad)] * count)
        trial.poison = {*tasks} if bad else set()
        trial.run(tasks)
        good += 0 if bad else count
        assert len(trial.executed) <= batches + 2 * (CREDIT * 8 + good)


@patch("runtime.batching.recovery.RELIEF", 1_000_000)
@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.integers(1, 64), st.integers(8, 64))
def test_out_of_memory_is_nobody_s_error_whatever_fits(
    rows: list[int], fits: int, max_batch_size: int
) -> None:
    """However little fits, everybody is answered, whole and in order, and later batches fit at once."""

    def execute(batch: Batch) -> Outcome:
        if batch.rows > fits:
            return MemoryExhausted("out of memory")
        return result_of(batch.tasks, payload=b"".join(bytes(task.parts[0]) for task in batch.tasks))

    trial = Trial(max_batch_size)
    trial.instance.model = execute
    of = real_key()

    def tasks() -> list[RecordingTask]:
        return [RecordingTask(of, n, parts=[bytes((n + at) % 256 for at in range(n))]) for n in rows]

    first, second = tasks(), tasks()
    trial.run(first)
    assert of.limit <= max(fits, of.limit // 2)
    before = len(trial.instance.sent)
    trial.run(second)
    assert [task.outputs for task in first + second] == [task.parts for task in first + second]
    if of.limit:
        assert of.limit <= fits
        assert all(batch.rows <= fits for batch in trial.instance.sent[before:])
        assert 2 * of.limit + 1 > fits // 2


@settings(deadline=None, max_examples=60)
@given(crowds, st.integers(1, 3))
def test_one_deadly_request_costs_two_workers_and_nobody_else_anything(
    made: list[tuple[int, bool]], instances: int
) -> None:
    tasks, _ = crowd_of(made)
    deadly = tasks[len(tasks) // 2]
    deadly.parts = [b"deadly"]
    deadly.rows = 6
    clock = FakeClock()
    scheduler = Scheduler(Limits(max_batch_size=1024), policy=Greedy(1024, NO_LIMIT), clock=clock)
    workers = [FakeInstance() for _ in range(instances)]
    for worker in workers:
        scheduler.attach(worker)
    for task in tasks:
        scheduler.submit(task)
    scheduler.pump()
    deaths = 0
    while scheduler.busy:
        clock.advance(MILLISECOND)
        worker = next(worker for worker in workers if worker.running)
        if deadly in worker.running[0].tasks:
            deaths += 1
            scheduler.detach(worker)
            workers.remove(worker)
            workers.append(FakeInstance())
            scheduler.attach(workers[-1])
        else:
            worker.finish(scheduler)
    assert deaths == 2
    assert isinstance(deadly.error, Exception)
    assert all(task.outputs == [] for task in tasks if task is not deadly)
