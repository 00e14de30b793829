"""The greedy policy, case by case, and what a policy sees of an instance."""

from __future__ import annotations

import pytest

from runtime.batching.policy import NOTHING, Decision, Greedy, Seat
from runtime.batching.queue import TaskQueue
from runtime.batching.task import Batch
from tests.support.scheduling import NO_LIMIT, Bench
from tests.support.tasks import RecordingTask, key

A, B = key("a"), key("b")
ALONE = key("alone", batchable=False)
NOW = 50


def queue(*tasks: RecordingTask) -> TaskQueue:
    held = TaskQueue(max_rows=100, max_bytes=1000)
    for now, task in enumerate(tasks, 1):
        held.add(task, now)
    return held


def seat(outstanding: int) -> Seat:
    made = Seat()
    made.sent = [Batch(A, [RecordingTask(A)], 1) for _ in range(outstanding)]
    return made


def greedy(max_batch_size: int = 8, max_batch_bytes: int = NO_LIMIT) -> Greedy:
    return Greedy(max_batch_size, max_batch_bytes)


def test_a_seat_counts_the_batches_sent() -> None:
    assert [seat(count).outstanding for count in (0, 1, 2)] == [0, 1, 2]
    assert seat(0).ends_ns == 0


@pytest.mark.parametrize(
    ("seats", "chosen"),
    [([], -1), ([0], 0), ([1], -1), ([2], -1), ([1, 0], 1), ([0, 0], 0), ([2, 1, 0, 0], 2)],
)
def test_an_idle_instance_takes_what_is_queued_and_a_busy_one_nothing(seats: list[int], chosen: int) -> None:
    task = RecordingTask(A)
    decision = greedy().decide(queue(task), [seat(outstanding) for outstanding in seats], NOW)
    assert decision == (NOTHING if chosen < 0 else Decision([task], chosen, "idle"))


def test_nothing_leaves_an_empty_queue() -> None:
    assert greedy().decide(queue(), [seat(0)], NOW) == NOTHING


def test_the_lane_that_is_due_first_goes_first_and_an_urgent_one_before_it() -> None:
    b, a = RecordingTask(B, priority=2), RecordingTask(A, priority=2)
    assert greedy().decide(queue(b, a), [seat(0)], NOW).tasks == [b]
    due = RecordingTask(A, deadline_ns=9, priority=2)
    assert greedy().decide(queue(b, a, due), [seat(0)], NOW).tasks == [due, a]
    urgent = RecordingTask(B, priority=1)
    assert greedy().decide(queue(b, due, urgent), [seat(0)], NOW).tasks == [urgent, b]


def test_a_batch_has_no_more_rows_or_bytes_than_the_limits_and_says_when_it_is_full() -> None:
    tasks = [RecordingTask(A, 3, size=4) for _ in range(4)]
    assert greedy(max_batch_size=8).decide(queue(*tasks), [seat(0)], NOW)[:3] == (tasks[:2], 0, "full")
    assert greedy(max_batch_bytes=4).decide(queue(*tasks), [seat(0)], NOW).tasks == tasks[:1]


def test_the_limit_of_a_key_goes_before_that_of_the_model() -> None:
    of = key("lowered")
    of.limit = 2
    tasks = [RecordingTask(of) for _ in range(4)]
    assert greedy().decide(queue(*tasks), [seat(0)], NOW).tasks == tasks[:2]


def test_what_cannot_be_merged_leaves_alone() -> None:
    tasks = [RecordingTask(ALONE), RecordingTask(ALONE)]
    assert greedy().decide(queue(*tasks), [seat(0)], NOW).tasks == tasks[:1]


def test_the_greedy_policy_refuses_nobody_and_learns_nothing() -> None:
    policy = greedy()
    task = RecordingTask(A, deadline_ns=1)
    assert policy.refusal(task, queue(), [seat(1)], NOW) is None
    policy.arrived(task, NOW)
    bench = Bench()
    bench.policy = policy  # type: ignore[assignment]
    bench.learn({1: 5})
    assert policy.insight() == {}
    assert A.curve is None
