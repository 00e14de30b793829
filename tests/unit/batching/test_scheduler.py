"""The scheduler with instances that are finished by hand and a clock that stands still."""

from __future__ import annotations

import logging
import traceback

import pytest

from runtime.batching.policy import Greedy
from runtime.batching.task import State
from runtime.errors import (
    DeadlineUnreachable,
    Draining,
    MemoryExhausted,
    ModelError,
    NotReady,
    QueueFull,
    TaskTooLarge,
)
from tests.support.instances import FakeInstance
from tests.support.scheduling import LONG, NO_LIMIT, A, B, OneAhead, Rig
from tests.support.tasks import RecordingTask, key

ALONE = key("alone", batchable=False)


def test_an_idle_instance_takes_what_is_queued_as_one_batch() -> None:
    rig = Rig()
    tasks = [RecordingTask(A, 2), RecordingTask(A, 3)]
    rig.submit(*tasks)
    (batch,) = rig.only.running
    assert batch.tasks == tasks
    assert (batch.rows, batch.closed_ns, batch.reason) == (5, rig.clock.now_ns, "idle")
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


def test_a_batch_never_has_more_rows_or_bytes_than_the_limits_and_smaller_tasks_fill_it() -> None:
    rig = Rig(max_batch_size=4, max_batch_bytes=10)
    tasks = [RecordingTask(A, 3) for _ in range(2)] + [RecordingTask(A, size=6) for _ in range(2)]
    rig.submit(*tasks)
    rig.finish_all()
    assert [batch.tasks for batch in rig.only.sent] == [[tasks[0], tasks[2]], [tasks[1], tasks[3]]]


def test_tasks_of_different_keys_never_share_a_batch() -> None:
    rig = Rig(instances=2)
    rig.submit(RecordingTask(A), RecordingTask(B), RecordingTask(A))
    assert [[batch.key for batch in instance.sent] for instance in rig.instances] == [[A], [B]]
    assert rig.instances[0].sent[0].rows == 2


def test_what_cannot_be_merged_runs_alone() -> None:
    rig = Rig()
    tasks = [RecordingTask(ALONE) for _ in range(3)]
    rig.submit(*tasks)
    rig.finish_all()
    assert [batch.tasks for batch in rig.only.sent] == [[task] for task in tasks]


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


def test_nothing_is_sent_ahead_to_a_busy_instance_of_which_nothing_is_known() -> None:
    rig = Rig()
    rig.occupied()
    for _ in range(3):
        rig.submit(RecordingTask(A))
    assert len(rig.only.running) == 1
    assert rig.scheduler.queued_rows == 3


def test_the_limit_of_a_key_bounds_its_batches() -> None:
    rig = Rig()
    A.limit = 2
    rig.submit(*(RecordingTask(A) for _ in range(3)), *(RecordingTask(B) for _ in range(3)))
    rig.finish_all()
    assert sorted((batch.key.head, batch.rows) for batch in rig.only.sent) == [
        (b"a", 1),
        (b"a", 2),
        (b"b", 3),
    ]


def test_a_policy_sees_when_each_instance_is_expected_to_be_idle() -> None:
    ends: list[int] = []

    class Predicts(OneAhead):
        def decide(self, queue, seats, now_ns):  # type: ignore[no-untyped-def]
            ends.append(seats[0].ends_ns)
            return super().decide(queue, seats, now_ns)._replace(predicted_ns=LONG)

    rig = Rig(policy=Predicts(1))
    now = rig.clock.now_ns
    rig.submit(*(RecordingTask(A) for _ in range(3)))
    assert ends == [0, now + LONG, now + 2 * LONG]  # one after the other
    rig.clock.advance(LONG + 5)
    rig.only.finish(rig.scheduler, execution_ns=LONG + 5)
    assert ends[3:] == [now + 5 + 2 * LONG]  # the second begins when the first has ended


# -- admission --------------------------------------------------------------------------------------


def test_full_queue_rejects_at_once_and_leaves_the_task_alone() -> None:
    rig = Rig(max_queued_rows=2)
    rig.occupied()
    rig.submit(RecordingTask(A, 2))
    task = RecordingTask(A)
    with pytest.raises(QueueFull):
        rig.scheduler.submit(task)
    assert (task.outcomes, task.state) == ([], State.NEW)
    s = rig.scheduler.statistics
    assert (s.rejected, s.admitted, s.drops) == (1, 2, {"queue_full": 1})


def test_a_task_larger_than_the_queue_may_ever_be_is_refused() -> None:
    rig = Rig(max_queued_rows=8)
    with pytest.raises(TaskTooLarge, match="9 rows, the queue holds at most 8"):
        rig.scheduler.submit(RecordingTask(A, 9))
    rig.submit(RecordingTask(A, 8))
    assert rig.scheduler.statistics.drops == {"task_too_large": 1}


def test_a_policy_may_refuse_and_its_reason_is_counted() -> None:
    class Refusing(Greedy):
        def refusal(self, task: object, *rest: object) -> DeadlineUnreachable:  # type: ignore[override]
            return DeadlineUnreachable("no")

    rig = Rig(policy=Refusing(8, NO_LIMIT))
    with pytest.raises(DeadlineUnreachable):
        rig.scheduler.submit(RecordingTask(A))
    s = rig.scheduler.statistics
    assert (s.rejected, s.admitted, s.drops) == (1, 0, {"deadline_unreachable": 1})
    assert not rig.scheduler.busy


def test_a_task_without_a_level_has_the_model_s_and_more_urgent_ones_overtake_it() -> None:
    rig = Rig(max_batch_size=1, default_priority_level=2)
    rig.occupied()
    plain, low, high = RecordingTask(A), RecordingTask(A, priority=3), RecordingTask(A, priority=1)
    rig.submit(low, plain, high)
    rig.finish_all()
    assert [batch.tasks for batch in rig.only.sent[1:]] == [[high], [plain], [low]]
    assert plain.priority == 2


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


def test_a_task_that_its_worker_refuses_fails_alone_and_the_others_are_answered() -> None:
    rig = Rig()
    tasks = [RecordingTask(A, rows) for rows in (1, 2, 4)]
    rig.submit(*tasks)
    rig.only.finish(rig.scheduler, refused={1: ModelError("this one")})
    assert isinstance(tasks[1].error, ModelError)
    assert [tasks[0].outputs, tasks[2].outputs] == [[], []]
    s = rig.scheduler.statistics
    assert (s.failed, s.completed, s.rows) == (1, 2, 5)


def test_a_caller_who_cannot_be_told_is_not_his_neighbours_trouble(caplog: pytest.LogCaptureFixture) -> None:
    class Unreachable(RecordingTask):
        def fail(self, error: Exception) -> None:
            raise OSError("gone")

    rig = Rig()
    rig.occupied()
    waiting = RecordingTask(A)
    rig.submit(Unreachable(A), waiting)
    rig.scheduler.close()
    assert isinstance(waiting.error, NotReady)
    assert [record.msg for record in caplog.records] == ["answer_failed"]


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
    rig = Rig(policy=OneAhead(1))
    for _ in range(3):
        rig.submit(RecordingTask(A))
    assert len(rig.only.running) == 2
    assert rig.scheduler.insight() == {}


def test_a_snapshot_does_not_change_any_more() -> None:
    rig = Rig()
    rig.occupied()
    before = rig.scheduler.snapshot()
    rig.only.finish(rig.scheduler)
    assert (before.admitted, before.completed) == (1, 0)
    assert rig.scheduler.snapshot().completed == 1


def test_each_decision_can_be_read_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    with caplog.at_level(logging.DEBUG, logger="runtime.batching.scheduler"):
        rig.submit(RecordingTask(A, 3), RecordingTask(A, 2))
    (line,) = [vars(record) for record in caplog.records if record.message == "batch_closed"]
    facts = {name: line[name] for name in ("seat", "reason", "rows", "tasks", "predicted_ms", "held_ms")}
    assert facts == {"seat": 0, "reason": "idle", "rows": 5, "tasks": 2, "predicted_ms": 0, "held_ms": 0}
