"""What becomes of the tasks of a batch that failed, or whose worker died."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runtime.batching.limits import Limits
from runtime.batching.quarantine import TERM_NS
from runtime.batching.queue import TaskQueue
from runtime.batching.recovery import RELIEF, Recovery
from runtime.batching.statistics import Statistics
from runtime.batching.task import Batch, BatchKey, State, Task
from runtime.errors import (
    MemoryExhausted,
    ModelError,
    NotReady,
    PoisonInput,
    RuntimeServingError,
)
from tests.support.scheduling import NO_LIMIT
from tests.support.tasks import RecordingTask, real_key

NOW = 1_000
RAISED = ModelError("the model raised")
NO_MEMORY = MemoryExhausted("out of memory")


class Ward:
    """Recovery with a queue and statistics to look at."""

    def __init__(self, **limits: int) -> None:
        self.queue = TaskQueue(max_rows=NO_LIMIT, max_bytes=NO_LIMIT)
        self.statistics = Statistics()
        self.forgotten: list[Task] = []
        self.recovery = Recovery(Limits(**limits), self.queue, self.statistics, self.forgotten.append)

    @property
    def again(self) -> list[tuple[list[Task], int]]:
        return [tuple(group) for group in self.queue.again]  # type: ignore[misc]

    def fail(self, batch: Batch, error: RuntimeServingError = RAISED) -> Sequence[Task]:
        return self.recovery.failed(batch, error, NOW)


def task(of: BatchKey, rows: int = 1, **known: int) -> RecordingTask:
    made = RecordingTask(of, rows, parts=[bytes(range(rows))], **known)
    made.state = State.RUNNING
    return made


def batch_of(*tasks: Task, depth: int = 0) -> Batch:
    return Batch(tasks[0].key, list(tasks), 1, depth=depth)


@pytest.fixture
def of() -> BatchKey:
    return real_key()


# -- the model raised -------------------------------------------------------------------------------


def test_the_halves_of_a_failed_batch_run_again_and_nobody_is_told(of: BatchKey) -> None:
    ward = Ward()
    a, b, c = task(of), task(of), task(of)
    assert ward.fail(batch_of(a, b, c, depth=1)) == []
    assert ward.again == [([a, b], 2), ([c], 2)]
    assert ward.statistics.reruns == 2
    assert [t.state for t in (a, b, c)] == [State.QUEUED] * 3


def test_the_culprit_alone_is_told(of: BatchKey) -> None:
    ward = Ward()
    alone = task(of)
    assert ward.fail(batch_of(alone)) == [alone]
    assert (ward.again, ward.statistics.reruns) == ([], 0)


def test_for_whom_nobody_waits_any_more_is_told_and_not_run_again(of: BatchKey) -> None:
    ward = Ward()
    waits, patient = task(of), task(of, deadline_ns=NOW + 1)
    gone, late = task(of, deadline_ns=1), task(of, deadline_ns=NOW)
    assert ward.fail(batch_of(gone, waits, late, patient)) == [gone, late]
    assert ward.again == [([waits], 1), ([patient], 1)]


def test_the_last_one_waiting_is_not_blamed_for_those_who_have_gone(of: BatchKey) -> None:
    ward = Ward()
    waits, gone = task(of), task(of, deadline_ns=1)
    assert ward.fail(batch_of(waits, gone)) == [gone]
    assert ward.again == [([waits], 1)]
    assert ward.fail(batch_of(waits, depth=1)) == [waits]


def test_an_error_that_no_request_can_cause_is_told_to_all(of: BatchKey) -> None:
    ward = Ward()
    tasks = [task(of), task(of)]
    assert ward.fail(batch_of(*tasks), NotReady("no")) == tasks
    assert not ward.queue


def test_without_isolation_a_failed_batch_fails_whole(of: BatchKey) -> None:
    ward = Ward(isolation_depth=0)
    tasks = [task(of), task(of)]
    assert ward.fail(batch_of(*tasks)) == tasks


# -- memory did not suffice -------------------------------------------------------------------------


def test_out_of_memory_halves_the_rows_of_this_key_only(of: BatchKey) -> None:
    ward = Ward()
    other = real_key("other")
    tasks = [task(of, 3), task(of, 4)]
    assert ward.fail(batch_of(*tasks), NO_MEMORY) == []
    assert (of.limit, other.limit) == (3, 0)
    assert ward.again == [([tasks[0]], 1), ([tasks[1]], 1)]


def test_an_older_larger_batch_does_not_raise_the_limit_again(of: BatchKey) -> None:
    ward = Ward()
    of.limit = 2
    ward.fail(batch_of(task(of, 4), task(of, 4)), NO_MEMORY)
    assert of.limit == 2


def test_a_single_large_task_is_cut_and_counted_as_its_pieces(of: BatchKey) -> None:
    ward = Ward()
    ward.statistics.admitted = 1
    large = task(of, 7)
    assert ward.fail(batch_of(large, depth=2), NO_MEMORY) == []
    assert of.limit == 3
    assert [(len(tasks), tasks[0].rows, depth) for tasks, depth in ward.again] == [
        (1, 3, 3),
        (1, 3, 3),
        (1, 1, 3),
    ]
    assert [bytes(tasks[0].parts[0]) for tasks, _ in ward.again] == [b"\0\1\2", b"\3\4\5", b"\6"]
    assert [tasks[0] for tasks, _ in ward.again] == list(large.pieces)
    assert ward.statistics.admitted == 3


def test_one_row_that_does_not_fit_fails(of: BatchKey) -> None:
    ward = Ward()
    alone = task(of)
    assert ward.fail(batch_of(alone), NO_MEMORY) == [alone]
    assert of.limit == 0


def test_what_is_not_batchable_is_neither_cut_nor_limited() -> None:
    ward = Ward()
    of = real_key(batchable=False)
    alone = task(of)
    assert ward.fail(batch_of(alone), NO_MEMORY) == [alone]
    assert of.limit == 0


def test_the_last_one_waiting_runs_whole_if_he_fits_the_new_limit(of: BatchKey) -> None:
    ward = Ward()
    small, gone = task(of, 1), task(of, 3, deadline_ns=1)
    assert ward.fail(batch_of(small, gone), NO_MEMORY) == [gone]
    assert ward.again == [([small], 1)]
    assert ward.statistics.admitted == 0


def test_a_task_is_not_cut_beyond_the_isolation_s_depth(of: BatchKey) -> None:
    ward = Ward(isolation_depth=2)
    large = task(of, 8)
    assert ward.fail(batch_of(large, depth=2), NO_MEMORY) == [large]
    assert not large.pieces


def test_pieces_of_one_that_is_cut_are_forgotten_when_one_fails(of: BatchKey) -> None:
    ward = Ward()
    first, second, third = ward.recovery.cut(large := task(of, 5), 2)
    second.state = State.DONE  # by who tells it
    second.fail(RAISED)
    assert ward.forgotten == [first, third]
    assert large.error is RAISED


# -- the worker died --------------------------------------------------------------------------------


def test_each_task_of_a_lost_batch_runs_once_more_by_itself(of: BatchKey) -> None:
    ward = Ward()
    a, b = task(of), task(of)
    told, _ = ward.recovery.lost(batch_of(a, b, depth=3), NOW)
    assert told == []
    assert ward.again == [([a], 3), ([b], 3)]
    assert (a.attempts, b.attempts, ward.statistics.retried) == (1, 1, 2)


def test_who_kills_two_workers_fails_and_is_refused_from_then_on(of: BatchKey) -> None:
    ward = Ward()
    poison, once = task(of, 2), task(of, 3)
    poison.attempts = 1
    ward.recovery.check(poison, NOW)
    told, error = ward.recovery.lost(batch_of(poison, once), NOW)
    assert told == [poison]
    assert isinstance(error, PoisonInput)
    assert ward.again == [([once], 0)]
    assert ward.statistics.retried == 1
    with pytest.raises(PoisonInput, match="not run again"):
        ward.recovery.check(task(of, 2), NOW)
    ward.recovery.check(task(of, 3), NOW)
    ward.recovery.check(task(of, 2), NOW + TERM_NS)


def test_success_pays_for_the_isolation_of_later_failures(of: BatchKey) -> None:
    ward = Ward(max_batch_size=1)
    while not ward.fail(batch_of(task(of), task(of))):
        pass
    ward.recovery.succeeded(batch_of(task(of)), 1)
    assert ward.fail(batch_of(task(of), task(of))) == []


def test_after_enough_success_larger_batches_are_tried_again(of: BatchKey) -> None:
    ward = Ward(max_batch_size=16)
    of.limit = 4
    for _ in range(RELIEF - 1):
        ward.recovery.succeeded(batch_of(task(of, 4)), 1)
    ward.recovery.succeeded(batch_of(task(of, 3)), 1)  # proves nothing
    assert of.limit == 4
    ward.recovery.succeeded(batch_of(task(of, 4)), 1)
    assert of.limit == 8
    for _ in range(RELIEF):
        ward.recovery.succeeded(batch_of(task(of, 8)), 1)
    assert of.limit == 0
