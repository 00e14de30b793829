"""The scheduler with instances that are finished by hand and a clock that stands still."""

from __future__ import annotations

import traceback

import pytest

from runtime.batching.task import State
from runtime.errors import (
    DeadlineExceeded,
    Draining,
    MemoryExhausted,
    ModelError,
    NotReady,
    QueueFull,
)
from tests.support.instances import FakeInstance
from tests.support.scheduling import LONG, A, B, OneAhead, Rig
from tests.support.tasks import RecordingTask


def test_an_idle_instance_takes_what_is_queued_as_one_batch() -> None:
    rig = Rig()
    tasks = [RecordingTask(A, 2), RecordingTask(A, 3)]
    rig.submit(*tasks)
    (batch,) = rig.only.running
    assert batch.tasks == tasks
    assert (batch.rows, batch.closed_ns) == (5, rig.clock.now_ns)
    assert all(task.state is State.RUNNING for task in tasks)
    assert rig.scheduler.busy


def test_nothing_leaves_before_it_is_pumped() -> None:
    rig = Rig()
    rig.scheduler.submit(RecordingTask(A))
    assert rig.only.sent == []
    assert rig.scheduler.queued_rows == 1
    rig.scheduler.pump()
    assert len(rig.only.sent) == 1


def test_what_waited_leaves_when_the_instance_is_free() -> None:
    rig = Rig()
    first = rig.occupied()
    later = [RecordingTask(A), RecordingTask(A)]
    rig.submit(*later)
    assert len(rig.only.sent) == 1
    rig.only.finish(rig.scheduler, execution_ns=LONG)
    assert first.outcomes == [[]]
    assert rig.only.running[0].tasks == later
    rig.only.finish(rig.scheduler)
    assert not rig.scheduler.busy


def test_a_batch_never_has_more_rows_or_bytes_than_the_limits() -> None:
    rig = Rig(max_batch_size=4, max_batch_bytes=10)
    rig.submit(*(RecordingTask(A, 3) for _ in range(2)), *(RecordingTask(A, size=6) for _ in range(2)))
    while rig.only.running:
        rig.only.finish(rig.scheduler)
    assert [batch.rows for batch in rig.only.sent] == [3, 4, 1]


def test_tasks_of_different_keys_never_share_a_batch() -> None:
    rig = Rig(instances=2)
    rig.submit(RecordingTask(A), RecordingTask(B), RecordingTask(A))
    assert [[batch.key for batch in instance.sent] for instance in rig.instances] == [[A], [B]]
    assert rig.instances[0].sent[0].rows == 2


def test_no_instance_is_idle_while_work_is_queued() -> None:
    rig = Rig(instances=3)
    for _ in range(3):
        rig.submit(RecordingTask(A))
    assert [len(instance.running) for instance in rig.instances] == [1, 1, 1]


def test_an_instance_that_comes_late_takes_what_waits() -> None:
    rig = Rig(instances=0)
    task = RecordingTask(A)
    rig.submit(task)
    instance = FakeInstance()
    rig.scheduler.attach(instance)
    assert instance.running[0].tasks == [task]
    assert rig.scheduler.instances == 1


def test_nothing_is_sent_ahead_to_a_busy_instance() -> None:
    rig = Rig()
    rig.occupied()
    for _ in range(3):
        rig.submit(RecordingTask(A))
    assert len(rig.only.running) == 1
    assert rig.scheduler.queued_rows == 3


def test_full_queue_rejects_at_once_and_leaves_the_task_alone() -> None:
    rig = Rig(max_queued_rows=2)
    rig.occupied()
    rig.submit(RecordingTask(A, 2))
    task = RecordingTask(A)
    with pytest.raises(QueueFull):
        rig.scheduler.submit(task)
    assert task.outcomes == []
    assert (rig.scheduler.statistics.rejected, rig.scheduler.statistics.admitted) == (1, 2)


# -- deadlines and cancellation ---------------------------------------------------------------------


def test_expired_work_never_starts() -> None:
    rig = Rig()
    rig.occupied()
    late = RecordingTask(A, deadline_ns=rig.clock.now_ns + 10)
    on_time = RecordingTask(A, deadline_ns=rig.clock.now_ns + 11)
    rig.submit(late, on_time)
    rig.clock.advance(10)
    rig.only.finish(rig.scheduler)
    assert isinstance(late.error, DeadlineExceeded)
    assert rig.only.running[0].tasks == [on_time]
    assert rig.scheduler.statistics.expired == 1


def test_a_lane_in_which_all_expired_does_not_hold_up_the_next() -> None:
    rig = Rig()
    rig.occupied()
    late = [RecordingTask(A, deadline_ns=rig.clock.now_ns + 1) for _ in range(3)]
    other = RecordingTask(B)
    rig.submit(*late, other)
    rig.clock.advance(1)
    rig.only.finish(rig.scheduler)
    assert rig.only.running[0].tasks == [other]
    assert all(isinstance(task.error, DeadlineExceeded) for task in late)


def test_cancelled_work_never_starts_and_is_not_answered() -> None:
    rig = Rig()
    rig.occupied()
    task = RecordingTask(A)
    rig.submit(task)
    rig.scheduler.cancel(task)
    rig.scheduler.cancel(task)
    rig.only.finish(rig.scheduler)
    assert (task.outcomes, task.state, len(rig.only.sent)) == ([], State.DONE, 1)
    assert rig.scheduler.statistics.cancelled == 1
    assert not rig.scheduler.busy


def test_cancelling_what_runs_leaves_the_batch_alone() -> None:
    rig = Rig()
    task = rig.occupied()
    rig.scheduler.cancel(task)
    assert task.state is State.RUNNING
    rig.only.finish(rig.scheduler)
    assert len(task.outcomes) == 1
    assert rig.scheduler.statistics.cancelled == 0


def test_cancelling_what_is_done_does_nothing() -> None:
    rig = Rig()
    task = rig.occupied()
    rig.only.finish(rig.scheduler)
    rig.scheduler.cancel(task)
    assert rig.balance() == (1, 1)


# -- failures ---------------------------------------------------------------------------------------


def test_a_batch_that_cannot_be_sent_fails_and_the_next_is_tried() -> None:
    rig = Rig()
    large = RecordingTask(A)
    rig.only.refusal = MemoryExhausted("too large")
    rig.submit(large)
    assert isinstance(large.error, MemoryExhausted)
    rig.only.refusal = None
    rig.submit(RecordingTask(A))
    assert len(rig.only.running) == 1
    assert (rig.scheduler.statistics.failed, rig.scheduler.instances) == (1, 1)


def test_failed_batches_are_counted_as_failed() -> None:
    rig = Rig()
    task = rig.occupied()
    rig.only.finish(rig.scheduler, failed=True)
    assert isinstance(task.error, ModelError)
    assert (rig.scheduler.statistics.failed, rig.scheduler.statistics.completed) == (1, 0)


def test_statistics_add_up_times_and_sizes() -> None:
    rig = Rig()
    rig.occupied()
    rig.submit(RecordingTask(A, 2))
    rig.clock.advance(5)
    rig.submit(RecordingTask(A, 3))
    rig.clock.advance(10)
    rig.only.finish(rig.scheduler, execution_ns=LONG)
    rig.only.finish(rig.scheduler, execution_ns=LONG)
    s = rig.scheduler.statistics
    assert (s.batches, s.rows, s.completed, s.batch_sizes) == (2, 6, 3, {1: 1, 5: 1})
    assert (s.queue_ns, s.execution_ns) == (15 + 10, 2 * LONG)


# -- the end ----------------------------------------------------------------------------------------


def test_closing_fails_what_waits_and_answers_what_runs() -> None:
    rig = Rig()
    running = rig.occupied()
    waiting = [RecordingTask(A), RecordingTask(B)]
    rig.submit(*waiting)
    rig.scheduler.close()
    assert all(isinstance(task.error, NotReady) for task in waiting)
    rig.only.finish(rig.scheduler)
    assert running.outcomes == [[]]
    assert rig.balance() == (3, 3)


def test_a_closed_scheduler_refuses_as_it_was_told_without_growing_a_traceback() -> None:
    rig = Rig()
    rig.scheduler.close(Draining("going down"))
    depths = []
    for _ in range(3):
        with pytest.raises(Draining) as caught:
            rig.scheduler.submit(RecordingTask(A))
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(depths)) == 1
    assert rig.scheduler.statistics.admitted == 0


def test_what_is_lost_after_closing_is_answered_although_nobody_can_run_it() -> None:
    rig = Rig()
    running = rig.occupied()
    rig.scheduler.close(Draining("going down"))
    rig.scheduler.detach(rig.only)
    assert isinstance(running.error, Draining)
    assert not rig.scheduler.busy
    assert rig.balance() == (1, 1)


def test_another_policy_can_be_given() -> None:
    rig = Rig(policy=OneAhead())
    for _ in range(3):
        rig.submit(RecordingTask(A))
    assert len(rig.only.running) == 2


def test_a_snapshot_does_not_change_any_more() -> None:
    rig = Rig()
    rig.occupied()
    before = rig.scheduler.snapshot()
    rig.only.finish(rig.scheduler)
    assert (before.admitted, before.completed) == (1, 0)
    assert rig.scheduler.snapshot().completed == 1
