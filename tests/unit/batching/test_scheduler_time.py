"""When work is not begun, and when the scheduler asks to be woken."""

from __future__ import annotations

import pytest

from runtime.batching.policy import NOTHING, Decision, Greedy
from runtime.batching.task import State
from runtime.clock import SECOND
from runtime.errors import DeadlineExceeded, DeadlineUnreachable
from tests.support.scheduling import NO_LIMIT, A, B, OneAhead, Rig
from tests.support.tasks import RecordingTask

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


def test_who_expires_while_all_are_busy_is_told_at_that_instant() -> None:
    rig = Rig()
    rig.occupied()
    due = rig.clock.now_ns + 10
    task = RecordingTask(A, deadline_ns=due)
    rig.submit(task)
    assert rig.alarms == [due]
    rig.clock.advance(10)
    rig.scheduler.pump()
    assert isinstance(task.error, DeadlineExceeded)
    assert rig.scheduler.statistics.drops == {"deadline_exceeded": 1}
    assert rig.alarms == [due, 0]


def test_what_a_policy_gives_up_is_told_so_and_never_starts() -> None:
    class GivesUp(Greedy):
        def decide(self, queue, seats, now_ns):  # type: ignore[no-untyped-def]
            late = [task for lane in queue.lanes.values() for task in lane if task.deadline_ns]
            return Decision(drop=late) if late else super().decide(queue, seats, now_ns)

    rig = Rig(policy=GivesUp(8, NO_LIMIT))
    late, patient = RecordingTask(A, deadline_ns=SECOND), RecordingTask(A)
    rig.submit(late, patient)
    assert isinstance(late.error, DeadlineUnreachable)
    assert rig.only.running[0].tasks == [patient]
    s = rig.scheduler.statistics
    assert (s.expired, s.drops, rig.balance()) == (1, {"deadline_unreachable": 1}, (2, 2))


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


def test_cancelling_what_runs_is_passed_on_to_its_instance_and_nobody_else() -> None:
    rig = Rig(instances=2, policy=OneAhead(1))
    tasks = [RecordingTask(A) for _ in range(4)]
    rig.submit(*tasks)
    first, second = rig.instances
    assert [batch.tasks for batch in first.running] == [[tasks[0]], [tasks[1]]]
    rig.scheduler.cancel(tasks[1])
    assert first.recalled == [(first.running[1], tasks[1])]
    assert second.recalled == []
    rig.finish_all()
    assert len(tasks[1].outcomes) == 1
    assert (tasks[1].state, rig.scheduler.statistics.cancelled) == (State.DONE, 0)


def test_cancelling_what_is_done_does_nothing() -> None:
    rig = Rig()
    task = rig.occupied()
    rig.only.finish(rig.scheduler)
    rig.scheduler.cancel(task)
    assert rig.balance() == (1, 1)
    assert rig.only.recalled == []


# -- the alarm --------------------------------------------------------------------------------------


class Waits(Greedy):
    """Lets nothing leave, and asks to be asked at an instant."""

    at = 0

    def decide(self, queue, seats, now_ns):  # type: ignore[no-untyped-def]
        return Decision(until_ns=self.at) if self.at else NOTHING


def test_the_alarm_is_set_for_the_earlier_of_the_next_deadline_and_what_the_policy_wants() -> None:
    policy = Waits(8, NO_LIMIT)
    rig = Rig(policy=policy)
    now = rig.clock.now_ns
    policy.at = now + 50
    rig.submit(RecordingTask(A))
    rig.submit(RecordingTask(A, deadline_ns=now + 70))
    assert rig.alarms == [now + 50]
    rig.submit(early := RecordingTask(A, deadline_ns=now + 30))
    assert rig.alarms == [now + 50, now + 30]
    rig.scheduler.cancel(early)
    rig.scheduler.pump()
    policy.at = 0
    rig.scheduler.pump()
    assert rig.alarms[2:] == [now + 50, now + 70]


def test_no_alarm_is_set_for_those_who_are_patient() -> None:
    rig = Rig()
    rig.occupied()
    rig.submit(RecordingTask(A))
    rig.finish_all()
    assert rig.alarms == []


@pytest.mark.parametrize("end", ["leaves", "cancelled", "closed", "lost"])
def test_no_alarm_is_set_while_nothing_is_queued(end: str) -> None:
    rig = Rig()
    rig.occupied()
    task = RecordingTask(A, deadline_ns=rig.clock.now_ns + 10)
    rig.submit(task)
    assert rig.alarms == [rig.clock.now_ns + 10]
    if end == "leaves":
        rig.only.finish(rig.scheduler)
        assert task.state is State.RUNNING
    elif end == "cancelled":
        rig.scheduler.cancel(task)
    else:
        rig.scheduler.close()
        if end == "lost":
            rig.scheduler.detach(rig.only)
    assert rig.alarms[1:] == [0]


def test_an_instant_is_asked_for_once() -> None:
    rig = Rig()
    rig.occupied()
    for _ in range(5):
        rig.submit(RecordingTask(A, deadline_ns=rig.clock.now_ns + 10))
    assert len(rig.alarms) == 1
