"""The queue of tasks: bounds, order, and what never leaves."""

from __future__ import annotations

import pytest

from runtime.batching.queue import TaskQueue
from runtime.batching.task import State
from runtime.errors import QueueFull
from tests.support.tasks import RecordingTask, key

A, B = key("a"), key("b")
ALONE = key("alone", batchable=False)
NO_LIMIT = 1 << 60


def queue(max_rows: int = 100, max_bytes: int = 1000) -> TaskQueue:
    return TaskQueue(max_rows=max_rows, max_bytes=max_bytes)


def filled(*tasks: RecordingTask) -> TaskQueue:
    filled = queue()
    for now, task in enumerate(tasks, 1):
        filled.add(task, now)
    return filled


def test_an_empty_queue_is_false_and_has_no_oldest() -> None:
    assert not queue()
    assert len(queue()) == 0
    assert queue().oldest() is None


def test_admission_counts_rows_and_bytes_and_stamps_the_task() -> None:
    task = RecordingTask(A, 3, size=12)
    held = queue()
    held.add(task, 77)
    assert (len(held), held.rows, held.size_bytes) == (1, 3, 12)
    assert (task.state, task.enqueued_ns) == (State.QUEUED, 77)
    assert held


def test_full_queue_rejects_at_once_by_rows() -> None:
    held = queue(max_rows=4)
    held.add(RecordingTask(A, 3), 1)
    late = RecordingTask(A, 2)
    with pytest.raises(QueueFull, match="3 rows of at most 4"):
        held.add(late, 1)
    assert late.state is State.NEW
    held.add(RecordingTask(A, 1), 1)


def test_full_queue_rejects_at_once_by_bytes() -> None:
    held = queue(max_bytes=10)
    held.add(RecordingTask(A, size=8), 1)
    with pytest.raises(QueueFull, match="8 bytes of at most 10"):
        held.add(RecordingTask(B, size=3), 1)
    assert (held.rows, held.size_bytes) == (1, 8)


def test_a_task_over_the_limits_is_admitted_to_an_empty_queue() -> None:
    held = queue(max_rows=1, max_bytes=1)
    held.add(RecordingTask(A, 50, size=500), 1)
    assert held.rows == 50


def test_tasks_of_one_key_leave_in_the_order_they_came() -> None:
    tasks = [RecordingTask(A, 1) for _ in range(3)]
    held = filled(*tasks)
    assert held.take(A, 2, NO_LIMIT, 9) == (tasks[:2], [])
    assert held.take(A, 2, NO_LIMIT, 9) == (tasks[2:], [])
    assert all(task.state is State.RUNNING for task in tasks)
    assert (held.rows, held.size_bytes, len(held)) == (0, 0, 0)
    assert not held


def test_a_batch_stops_before_the_task_that_does_not_fit() -> None:
    tasks = [RecordingTask(A, 2), RecordingTask(A, 3), RecordingTask(A, 1)]
    held = filled(*tasks)
    assert held.take(A, 4, NO_LIMIT, 9) == ([tasks[0]], [])
    assert tasks[1].state is State.QUEUED
    assert held.take(A, 4, NO_LIMIT, 9) == (tasks[1:], [])


def test_a_batch_stops_before_the_bytes_that_do_not_fit() -> None:
    tasks = [RecordingTask(A, size=6), RecordingTask(A, size=4), RecordingTask(A, size=1)]
    held = filled(*tasks)
    assert held.take(A, 100, 10, 9) == (tasks[:2], [])


def test_the_first_task_leaves_whatever_its_size() -> None:
    tasks = [RecordingTask(A, 50, size=50), RecordingTask(A)]
    assert filled(*tasks).take(A, 4, 4, 9) == (tasks[:1], [])


def test_what_cannot_be_merged_leaves_alone() -> None:
    tasks = [RecordingTask(ALONE), RecordingTask(ALONE)]
    held = filled(*tasks)
    assert held.take(ALONE, 100, NO_LIMIT, 9) == (tasks[:1], [])
    assert held.oldest() is ALONE


def test_what_has_lost_a_worker_leaves_alone_and_takes_nobody_along() -> None:
    tasks = [RecordingTask(A) for _ in range(4)]
    tasks[1].attempts = 1
    held = filled(*tasks)
    assert held.take(A, 9, NO_LIMIT, 9) == (tasks[:1], [])
    assert held.take(A, 9, NO_LIMIT, 9) == (tasks[1:2], [])
    assert held.take(A, 9, NO_LIMIT, 9) == (tasks[2:], [])


def test_expired_tasks_are_handed_over_apart_and_do_not_count() -> None:
    tasks = [
        RecordingTask(A, 4, deadline_ns=9),
        RecordingTask(A, 4, deadline_ns=10),
        RecordingTask(A, 4, deadline_ns=5),
    ]
    held = filled(*tasks)
    assert held.take(A, 4, NO_LIMIT, 9) == ([tasks[1]], [tasks[0], tasks[2]])
    assert not held


def test_a_lane_of_expired_tasks_only_is_emptied() -> None:
    tasks = [RecordingTask(A, deadline_ns=1), RecordingTask(A, deadline_ns=2)]
    held = filled(*tasks)
    assert held.take(A, 4, NO_LIMIT, 9) == ([], tasks)
    assert (held.rows, held.size_bytes, held.oldest()) == (0, 0, None)


def test_the_oldest_lane_is_the_one_whose_head_waits_longest() -> None:
    held = filled(RecordingTask(B), RecordingTask(A), RecordingTask(B))
    assert held.oldest() is B
    held.take(B, 1, NO_LIMIT, 9)
    assert held.oldest() is A
    held.take(A, 1, NO_LIMIT, 9)
    assert held.oldest() is B


def test_a_removed_task_never_leaves() -> None:
    tasks = [RecordingTask(A), RecordingTask(A), RecordingTask(B)]
    held = filled(*tasks)
    assert held.remove(tasks[0])
    assert not held.remove(tasks[0])
    assert held.remove(tasks[2])
    assert held.oldest() is A
    assert held.take(A, 9, NO_LIMIT, 9) == ([tasks[1]], [])
    assert not held.remove(tasks[1])


def test_what_is_put_back_goes_ahead_in_its_order_and_over_the_limits() -> None:
    tasks = [RecordingTask(A, 2) for _ in range(4)]
    held = queue(max_rows=8)
    for now, task in enumerate(tasks):
        held.add(task, now)
    taken, _ = held.take(A, 4, NO_LIMIT, 9)
    held.add(RecordingTask(B, 4), 50)
    held.put_back(taken)
    assert held.rows == 12
    assert held.oldest() is A
    assert held.take(A, 100, NO_LIMIT, 9) == (tasks, [])


def test_putting_back_makes_the_lane_again() -> None:
    task = RecordingTask(A)
    held = filled(task)
    held.put_back(held.take(A, 1, NO_LIMIT, 9)[0])
    assert (held.oldest(), len(held), task.state) == (A, 1, State.QUEUED)


def test_clearing_returns_everything_once() -> None:
    tasks = [RecordingTask(A), RecordingTask(B), RecordingTask(A)]
    held = filled(*tasks)
    assert held.clear() == [tasks[0], tasks[2], tasks[1]]
    assert held.clear() == []
    assert (held.rows, held.size_bytes, len(held)) == (0, 0, 0)
    assert not held.remove(tasks[0])
