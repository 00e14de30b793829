"""The greedy policy, case by case."""

from __future__ import annotations

import pytest

from runtime.batching.policy import Dispatch, Greedy, Seat
from runtime.batching.queue import TaskQueue
from tests.support.tasks import RecordingTask, key

A, B = key("a"), key("b")


def queue(*tasks: RecordingTask) -> TaskQueue:
    held = TaskQueue(max_rows=100, max_bytes=1000)
    for now, task in enumerate(tasks, 1):
        held.add(task, now)
    return held


def seat(outstanding: int) -> Seat:
    made = Seat()
    made.outstanding = outstanding
    return made


@pytest.mark.parametrize(
    ("seats", "chosen"),
    [([], None), ([0], 0), ([1], None), ([2], None), ([1, 0], 1), ([0, 0], 0), ([2, 1, 0, 0], 2)],
)
def test_an_idle_instance_takes_what_is_queued_and_a_busy_one_nothing(
    seats: list[int], chosen: int | None
) -> None:
    decision = Greedy().decide(queue(RecordingTask(A)), [seat(outstanding) for outstanding in seats])
    assert decision == (None if chosen is None else Dispatch(A, chosen))


def test_nothing_leaves_an_empty_queue() -> None:
    assert Greedy().decide(queue(), [seat(0)]) is None


def test_the_oldest_lane_goes_first() -> None:
    assert Greedy().decide(queue(RecordingTask(B), RecordingTask(A)), [seat(0)]) == Dispatch(B, 0)
