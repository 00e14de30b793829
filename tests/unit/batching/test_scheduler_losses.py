"""What the scheduler does about workers that die: run again, once, alone."""

from __future__ import annotations

import pytest

from runtime.batching.task import State
from runtime.errors import DeadlineExceeded, ModelError, PoisonInput, WorkerLost
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


def test_the_tasks_of_a_lost_batch_run_again_one_by_one_and_with_nobody_else() -> None:
    rig = Rig()
    tasks = [RecordingTask(A) for _ in range(3)]
    rig.submit(*tasks)
    rig.submit(RecordingTask(A))
    again = rig.replace(rig.only)
    rig.finish_all()
    assert [batch.tasks for batch in again.sent[:3]] == [[task] for task in tasks]
    assert [(batch.alone, batch.reason) for batch in again.sent] == [*[(True, "again")] * 3, (False, "idle")]


def test_only_the_batch_that_was_running_is_blamed_and_the_one_behind_it_is_put_back() -> None:
    rig = Rig(policy=OneAhead(2))
    running, behind = [[RecordingTask(A), RecordingTask(A)] for _ in range(2)]
    rig.submit(*running, *behind)
    rig.clock.advance(1)
    rig.submit(other := RecordingTask(A))
    assert [batch.tasks for batch in rig.only.running] == [running, behind]
    again = rig.replace(rig.only)
    rig.finish_all()
    assert [batch.tasks for batch in again.sent] == [[running[0]], [running[1]], behind, [other]]
    assert [batch.alone for batch in again.sent] == [True, True, False, False]
    assert [task.attempts for task in (*running, *behind)] == [1, 1, 0, 0]
    assert rig.scheduler.statistics.retried == 2


def test_lost_batches_wait_for_the_next_instance_in_their_order() -> None:
    rig = Rig(policy=OneAhead(1))
    tasks = [RecordingTask(A) for _ in range(3)]
    for task in tasks:
        rig.submit(task)
        rig.clock.advance(1)
    assert len(rig.only.running) == 2
    again = rig.replace(rig.only)
    for _ in range(3):
        again.finish(rig.scheduler)
    assert [batch.tasks for batch in again.sent] == [[task] for task in tasks]


def test_who_kills_two_workers_fails_and_is_not_run_a_third_time() -> None:
    rig = Rig()
    task = RecordingTask(A, parts=[b"deadly"])
    rig.submit(task)
    again = rig.replace(rig.only)
    rig.scheduler.detach(again)
    assert isinstance(task.error, PoisonInput)
    s = rig.scheduler.statistics
    assert (task.state, s.failed, s.retried) == (State.DONE, 1, 1)
    assert not rig.scheduler.busy
    repeated = RecordingTask(A, parts=[b"deadly"])
    with pytest.raises(PoisonInput):
        rig.scheduler.submit(repeated)
    assert (repeated.outcomes, s.rejected, s.drops) == ([], 1, {"poison_input": 1})
    rig.scheduler.submit(RecordingTask(A, parts=[b"harmless"]))


def test_one_deadly_task_costs_two_workers_and_its_neighbours_nothing() -> None:
    rig = Rig()
    deadly, *others = [RecordingTask(A, parts=[b"%d" % n]) for n in range(8)]
    rig.submit(*others[:3], deadly, *others[3:])
    workers = 1
    while rig.scheduler.busy:
        if deadly in rig.only.running[0].tasks:
            rig.replace(rig.only)
            workers += 1
        else:
            rig.only.finish(rig.scheduler)
    assert isinstance(deadly.error, PoisonInput)
    assert all(task.outputs == [] for task in others)
    assert workers == 3


def test_a_task_that_was_lost_and_then_fails_is_told_the_model_s_error() -> None:
    rig = Rig()
    task = rig.occupied()
    rig.replace(rig.only).finish(rig.scheduler, failed=True)
    assert isinstance(task.error, ModelError)
    assert rig.balance() == (1, 1)


def test_what_was_cancelled_while_it_ran_is_not_run_again() -> None:
    rig = Rig()
    task = rig.occupied()
    rig.scheduler.cancel(task)
    again = rig.replace(rig.only)
    assert again.sent == []
    assert task.state is State.DONE
    assert rig.balance() == (1, 1)


def test_what_was_cancelled_while_it_waits_to_run_again_is_not_run() -> None:
    rig = Rig()
    tasks = [RecordingTask(A), RecordingTask(A)]
    rig.submit(*tasks)
    again = rig.replace(rig.only)
    rig.scheduler.cancel(tasks[1])
    rig.finish_all()
    assert [batch.tasks for batch in again.sent] == [tasks[:1]]
    assert rig.balance() == (2, 2)


def test_what_expired_while_it_ran_is_not_run_again() -> None:
    rig = Rig()
    task = RecordingTask(A, deadline_ns=rig.clock.now_ns + 5)
    rig.submit(task)
    rig.clock.advance(5)
    again = rig.replace(rig.only)
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


def test_what_runs_again_and_finds_its_instance_dead_runs_again_alone_elsewhere() -> None:
    rig = Rig()
    tasks = [RecordingTask(A), RecordingTask(A)]
    rig.submit(*tasks)
    rig.scheduler.detach(rig.only)
    dead, alive = FakeInstance(), FakeInstance()
    dead.refusal = WorkerLost("gone")
    rig.scheduler.attach(dead)
    rig.instances = [alive]
    rig.scheduler.attach(alive)
    rig.finish_all()
    assert sorted(len(batch.tasks) for batch in alive.sent) == [1, 1]
    assert all(batch.alone for batch in alive.sent)
    assert [task.attempts for task in tasks] == [1, 1]
    assert [task.outputs for task in tasks] == [[], []]


def test_a_batch_still_running_on_an_instance_found_dead_is_run_again() -> None:
    rig = Rig(policy=OneAhead())
    first = rig.occupied()
    rig.only.finish(rig.scheduler)
    running, waiting = RecordingTask(A), RecordingTask(A)
    rig.submit(running)
    rig.only.refusal = WorkerLost("gone")
    rig.submit(waiting)
    again = rig.replace(rig.only)
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
