"""What the scheduler does about workers that die: run again, once, alone."""

from __future__ import annotations

from runtime.batching.task import State
from runtime.errors import DeadlineExceeded, WorkerLost
from tests.support.instances import FakeInstance
from tests.support.scheduling import A, OneAhead, Rig
from tests.support.tasks import RecordingTask


def test_a_lost_batch_runs_once_more_elsewhere_ahead_of_others() -> None:
    rig = Rig(instances=2)
    rig.occupied()
    waiting = RecordingTask(A)
    rig.submit(waiting)
    lost, kept = rig.instances
    (first,) = lost.running[0].tasks
    rig.scheduler.detach(lost)
    assert rig.scheduler.instances == 1
    kept.finish(rig.scheduler)
    assert kept.running[0].tasks == [first]
    kept.finish(rig.scheduler)
    assert kept.running[0].tasks == [waiting]
    assert len(first.outcomes) == 1  # type: ignore[attr-defined]
    assert rig.scheduler.statistics.retried == 1


def test_lost_batches_wait_for_the_next_instance_in_their_order() -> None:
    rig = Rig(policy=OneAhead(), max_batch_size=1)
    tasks = [RecordingTask(A) for _ in range(3)]
    rig.submit(*tasks)
    assert len(rig.only.running) == 2
    rig.scheduler.detach(rig.only)
    again = FakeInstance()
    rig.scheduler.attach(again)
    for _ in range(3):
        again.finish(rig.scheduler)
    assert [batch.tasks for batch in again.sent] == [[task] for task in tasks]


def test_a_task_that_was_lost_twice_fails_with_worker_lost() -> None:
    rig = Rig()
    task = rig.occupied()
    rig.scheduler.detach(rig.only)
    again = FakeInstance()
    rig.scheduler.attach(again)
    rig.scheduler.detach(again)
    assert isinstance(task.error, WorkerLost)
    assert (task.state, rig.scheduler.statistics.failed, rig.scheduler.statistics.retried) == (
        State.DONE,
        1,
        1,
    )
    assert not rig.scheduler.busy


def test_what_was_cancelled_while_it_ran_is_not_run_again() -> None:
    rig = Rig()
    task = rig.occupied()
    rig.scheduler.cancel(task)
    rig.scheduler.detach(rig.only)
    again = FakeInstance()
    rig.scheduler.attach(again)
    assert again.sent == []
    assert task.state is State.DONE
    assert rig.balance() == (1, 1)


def test_what_expired_while_it_ran_is_not_run_again() -> None:
    rig = Rig()
    task = RecordingTask(A, deadline_ns=rig.clock.now_ns + 5)
    rig.submit(task)
    rig.clock.advance(5)
    rig.scheduler.detach(rig.only)
    again = FakeInstance()
    rig.scheduler.attach(again)
    assert isinstance(task.error, DeadlineExceeded)
    assert again.sent == []


def test_an_instance_found_dead_when_sending_costs_no_attempt() -> None:
    rig = Rig(instances=2)
    dead, alive = rig.instances
    dead.refusal = WorkerLost("gone")
    task = RecordingTask(A)
    rig.submit(task)
    assert alive.running[0].tasks == [task]
    assert (task.attempts, rig.scheduler.instances) == (0, 1)
    rig.scheduler.detach(dead)
    assert rig.scheduler.instances == 1


def test_a_batch_still_running_on_an_instance_found_dead_is_run_again() -> None:
    rig = Rig(policy=OneAhead())
    first = rig.occupied()
    rig.only.finish(rig.scheduler)
    running, waiting = RecordingTask(A), RecordingTask(A)
    rig.submit(running)
    rig.only.refusal = WorkerLost("gone")
    rig.submit(waiting)
    rig.scheduler.detach(rig.only)
    again = FakeInstance()
    rig.scheduler.attach(again)
    assert [batch.tasks for batch in again.running] == [[running], [waiting]]
    assert (first.attempts, running.attempts, waiting.attempts) == (0, 1, 0)


def test_an_answer_of_an_instance_that_is_no_longer_used_still_counts() -> None:
    rig = Rig(policy=OneAhead())
    task = rig.occupied()
    rig.only.finish(rig.scheduler)
    late = RecordingTask(A)
    rig.submit(late)
    rig.only.refusal = WorkerLost("gone")
    waiting = RecordingTask(A)
    rig.submit(waiting)  # finds it dead
    rig.only.finish(rig.scheduler)
    assert late.outcomes == [[]]
    rig.scheduler.cancel(waiting)
    assert rig.balance() == (3, 3)
    assert task.outcomes == [[]]


def test_detaching_twice_does_nothing_the_second_time() -> None:
    rig = Rig()
    rig.occupied()
    rig.scheduler.detach(rig.only)
    rig.scheduler.detach(rig.only)
    assert rig.scheduler.statistics.retried == 1
