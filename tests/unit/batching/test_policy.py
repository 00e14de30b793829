"""The greedy policy, case by case."""

from __future__ import annotations

import pytest

from runtime.batching.policy import Dispatch, Greedy, Seat
from runtime.batching.queue import TaskQueue
from runtime.clock import MILLISECOND
from tests.support.tasks import RecordingTask, key

A, B = key("a"), key("b")
SHORT, LONG = MILLISECOND, MILLISECOND + 1


def queue(*tasks: RecordingTask) -> TaskQueue:
    held = TaskQueue(max_rows=100, max_bytes=1000)
    for now, task in enumerate(tasks, 1):
        held.add(task, now)
    return held


def seat(outstanding: int, execution_ns: int = 0) -> Seat:
    made = Seat()
    made.outstanding = outstanding
    made.execution_ns = execution_ns
    return made


@pytest.mark.parametrize(
    ("seats", "chosen"),
    [
        ([], None),
        ([(0, 0)], 0),
        ([(0, LONG)], 0),
        ([(1, 0)], None),  # nothing is known of its batches
        ([(1, LONG)], None),
        ([(1, SHORT)], 0),  # one batch ahead of need
        ([(2, SHORT)], None),  # and never two
        ([(1, SHORT), (0, LONG)], 1),
        ([(0, 0), (0, 0)], 0),
        ([(1, LONG), (1, SHORT)], 1),
        ([(2, SHORT), (1, SHORT), (1, 1)], 1),
    ],
)
def test_work_goes_to_the_least_loaded_instance_that_may_take_it(
    seats: list[tuple[int, int]], chosen: int | None
) -> None:
    decision = Greedy().decide(queue(RecordingTask(A)), [seat(*state) for state in seats])
    assert decision == (None if chosen is None else Dispatch(A, chosen))


def test_nothing_leaves_an_empty_queue() -> None:
    assert Greedy().decide(queue(), [seat(0)]) is None


def test_the_oldest_lane_goes_first() -> None:
    assert Greedy().decide(queue(RecordingTask(B), RecordingTask(A)), [seat(0)]) == Dispatch(B, 0)


def test_what_has_lost_a_worker_goes_to_an_idle_instance_only() -> None:
    retry = RecordingTask(A)
    retry.attempts = 1
    assert Greedy().decide(queue(retry), [seat(1, SHORT)]) is None
    assert Greedy().decide(queue(retry), [seat(1, SHORT), seat(0, SHORT)]) == Dispatch(A, 1)


def test_nothing_is_sent_behind_what_has_lost_a_worker() -> None:
    busy = seat(1, SHORT)
    busy.alone = True
    assert Greedy().decide(queue(RecordingTask(A)), [busy]) is None


def test_how_far_ahead_is_a_parameter() -> None:
    held = queue(RecordingTask(A))
    assert Greedy(ahead_ns=LONG).decide(held, [seat(1, LONG)]) == Dispatch(A, 0)
    assert Greedy(ahead_ns=0).decide(held, [seat(1, 1)]) is None


def test_execution_times_are_smoothed() -> None:
    learning = Seat()
    learning.note(1000)
    assert learning.execution_ns == 1000
    learning.note(2000)
    assert learning.execution_ns == 1250
    for _ in range(40):
        learning.note(8)
    assert learning.execution_ns < 16


def test_a_batch_that_did_not_run_teaches_nothing() -> None:
    learning = Seat()
    learning.note(1000)
    learning.note(0)
    assert learning.execution_ns == 1000
