"""What each instance was sent, and who was begun when one is lost."""

from __future__ import annotations

from runtime.batching.seats import Seats, is_begun
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch
from tests.support.instances import FakeInstance
from tests.support.scheduling import A
from tests.support.tasks import RecordingTask


def batch(predicted_ns: float = 0, *, alone: bool = False) -> Batch:
    return Batch(A, [RecordingTask(A)], 100, predicted_ns=predicted_ns, alone=alone)


def test_the_end_of_a_batch_is_counted_from_the_end_of_the_one_before() -> None:
    seats = Seats()
    seats.add(instance := FakeInstance())
    first, second = batch(50), batch(30)
    seats.send(first, 0)
    assert seats.seats[0].ends_ns == 150
    seats.send(second, 0)
    assert seats.seats[0].ends_ns == 180
    seats.release(instance, first, Stages.bare(100, 70, 200, 1))
    assert seats.seats[0].ends_ns == 200
    assert (seats.busy, seats.idle) == (True, -1)
    seats.release(instance, second, Stages.bare(100, 130, 300, 1))
    assert (seats.busy, seats.idle) == (False, 0)


def test_an_end_that_cannot_be_predicted_is_none() -> None:
    seats = Seats()
    seats.add(FakeInstance())
    seats.send(batch(), 0)
    assert seats.seats[0].ends_ns == 0


def test_an_instance_that_is_gone_is_of_no_account() -> None:
    seats = Seats()
    seats.add(instance := FakeInstance())
    seats.send(sent := batch(), 0)
    seats.remove(instance)
    seats.remove(instance)
    seats.release(instance, sent, Stages.bare(100, 1, 200, 1))
    assert (len(seats), seats.busy, seats.idle) == (0, False, -1)


def test_only_the_first_batch_may_have_begun_and_what_runs_alone_is_not_spared() -> None:
    sent = [batch(), batch(), batch(alone=True)]
    assert [is_begun(sent, at) for at in range(3)] == [True, False, True]
