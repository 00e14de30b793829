"""The queue of tasks: bounds, order, and what never leaves."""

from __future__ import annotations

import weakref

import pytest

from runtime.batching.queue import SLACK_NS, Group, Lane, TaskQueue
from runtime.batching.task import BatchKey, State, Task
from runtime.errors import QueueFull
from tests.support.tasks import RecordingTask, WeaklyKnown, key

A, B = key("a"), key("b")


def queue(max_rows: int = 100, max_bytes: int = 1000) -> TaskQueue:
    return TaskQueue(max_rows=max_rows, max_bytes=max_bytes)


def filled(*tasks: RecordingTask) -> TaskQueue:
    """A queue to which the tasks came one after the other, at 1, 2, 3, ..."""
    filled = queue()
    for now, task in enumerate(tasks, 1):
        filled.add(task, now)
    return filled


def order(held: TaskQueue, of: BatchKey = A) -> list[Task]:
    return list(held.lanes[of])


# -- admission --------------------------------------------------------------------------------------


def test_an_empty_queue_is_false_and_has_no_lanes() -> None:
    assert not queue()
    assert len(queue()) == 0
    assert not queue().lanes
    assert queue().next_deadline_ns == 0


def test_admission_counts_rows_and_bytes_and_stamps_the_task() -> None:
    task = RecordingTask(A, 3, size=12)
    held = queue()
    held.add(task, 77)
    assert (len(held), held.rows, held.size_bytes, held.lanes[A].rows) == (1, 3, 12, 3)
    assert (task.state, task.enqueued_ns) == (State.QUEUED, 77)
    assert held


def test_full_queue_rejects_at_once_by_rows() -> None:
    held = queue(max_rows=4)
    held.add(RecordingTask(A, 3), 1)
    with pytest.raises(QueueFull, match="3 rows of at most 4"):
        held.check(2, 1)
    held.check(1, 1)
    assert len(held) == 1


def test_full_queue_rejects_at_once_by_bytes() -> None:
    held = queue(max_bytes=10)
    held.add(RecordingTask(A, size=8), 1)
    with pytest.raises(QueueFull, match="8 bytes of at most 10"):
        held.check(1, 3)
    held.check(1, 2)
    assert (held.rows, held.size_bytes) == (1, 8)


def test_an_empty_queue_has_room_for_everybody() -> None:
    held = queue(max_rows=1, max_bytes=1)
    held.check(50, 500)
    held.add(RecordingTask(A, 50, size=500), 1)
    assert held.rows == 50
    with pytest.raises(QueueFull):
        held.check(0, 0)


# -- order ------------------------------------------------------------------------------------------


def test_tasks_of_equal_patience_leave_in_the_order_they_came() -> None:
    tasks = [RecordingTask(A) for _ in range(3)]
    assert order(filled(*tasks)) == tasks
    hasty = [RecordingTask(A, deadline_ns=9) for _ in range(3)]
    assert order(filled(*hasty)) == hasty


def test_who_is_due_first_leaves_first() -> None:
    patient, due_at_9, due_at_5 = (
        RecordingTask(A), RecordingTask(A, deadline_ns=9), RecordingTask(A, deadline_ns=5)
    )  # fmt: skip
    held = filled(patient, due_at_9, due_at_5)
    assert order(held) == [due_at_5, due_at_9, patient]
    assert held.lanes[A].head is due_at_5


def test_nobody_is_overtaken_by_who_comes_a_second_later() -> None:
    patient = RecordingTask(A)
    more_than_a_second = RecordingTask(A, deadline_ns=9 * SLACK_NS)
    held = filled(patient, more_than_a_second)
    just_in_time = RecordingTask(A, deadline_ns=SLACK_NS)
    held.add(just_in_time, SLACK_NS - 1)
    held.add(too_late := RecordingTask(A, deadline_ns=SLACK_NS + 3), SLACK_NS + 1)
    assert order(held) == [just_in_time, patient, more_than_a_second, too_late]


def test_an_urgent_level_leaves_before_all_others_and_each_is_ordered_by_itself() -> None:
    low, low_but_due = RecordingTask(A, priority=3), RecordingTask(A, priority=3, deadline_ns=7)
    high, middle = RecordingTask(A, priority=1), RecordingTask(A, priority=2, deadline_ns=6)
    held = filled(low, low_but_due, middle, high)
    assert order(held) == [high, middle, low_but_due, low]
    assert (held.lanes[A].level, held.lanes[A].head) == (1, high)
    held.remove(high)
    assert (held.lanes[A].level, held.lanes[A].head) == (2, middle)


def test_each_key_has_a_lane_while_somebody_stands_in_it() -> None:
    held = filled(RecordingTask(B), RecordingTask(A), last := RecordingTask(B))
    assert list(held.lanes) == [B, A]
    held.take([*held.lanes[A]])
    assert list(held.lanes) == [B]
    held.take([held.lanes[B].head])
    assert order(held, B) == [last]
    held.remove(last)
    assert not held.lanes
    assert not held


# -- out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "places", [[0], [0, 1, 2], [1], [5], [2, 4], [0, 3], [0, 1, 2, 3], [3, 4, 5], [0, 2, 4], range(6)]
)
def test_tasks_are_taken_wherever_they_stand(places: list[int]) -> None:
    tasks = [
        *(RecordingTask(A, rows, priority=1) for rows in (1, 2, 4)),
        *(RecordingTask(A, rows, priority=2) for rows in (8, 16)),
        RecordingTask(A, 32, priority=3),
    ]
    held = filled(*tasks)
    taken: list[Task] = [tasks[place] for place in places]
    left = [task for task in tasks if task not in taken]
    held.take(taken)
    rows = sum(task.rows for task in left)
    assert all(task.state is State.RUNNING for task in taken)
    assert (len(held), held.rows, held.size_bytes) == (len(left), rows, 4 * len(left))
    if left:
        assert order(held) == left
        assert held.lanes[A].rows == rows
        assert set(held.lanes[A].levels) == {task.priority for task in left}
    else:
        assert not held.lanes


def test_what_was_chosen_in_another_order_is_taken_as_well() -> None:
    tasks = [RecordingTask(A, priority=priority) for priority in (1, 1, 2, 3)]
    held = filled(*tasks)
    held.take([tasks[3], tasks[0]])
    assert order(held) == [tasks[1], tasks[2]]


def test_a_removed_task_never_leaves() -> None:
    tasks = [RecordingTask(A), RecordingTask(A), RecordingTask(B)]
    held = filled(*tasks)
    assert held.remove(tasks[0])
    assert not held.remove(tasks[0])
    assert held.remove(tasks[2])
    assert (tasks[0].state, list(held.lanes)) == (State.NEW, [A])
    held.take([tasks[1]])
    assert not held.remove(tasks[1])
    assert tasks[1].state is State.RUNNING


def test_the_right_one_of_those_who_came_at_once_is_removed() -> None:
    tasks = [RecordingTask(A, rows) for rows in (1, 2, 4)]
    held = queue()
    for task in tasks:
        held.add(task, 1)
    assert held.remove(tasks[1])
    assert order(held) == [tasks[0], tasks[2]]
    assert held.lanes[A].rows == 5


def test_what_is_put_back_stands_where_it_stood_whatever_the_limits() -> None:
    tasks = [RecordingTask(A, 2) for _ in range(4)]
    held = queue(max_rows=8)
    for now, task in enumerate(tasks):
        held.add(task, now)
    held.take(tasks[:2])
    held.add(RecordingTask(B, 4), 50)
    held.put_back([tasks[1], tasks[0]])
    assert held.rows == 12
    assert order(held) == tasks
    assert tasks[0].enqueued_ns == 0


def test_clearing_returns_everything_once() -> None:
    tasks = [RecordingTask(A, deadline_ns=9), RecordingTask(B), RecordingTask(A, priority=1)]
    held = filled(*tasks)
    lost = RecordingTask(B)
    held.put_again([lost])
    assert set(held.clear()) == {*tasks, lost}
    assert held.clear() == []
    assert (held.rows, held.size_bytes, len(held), held.next_deadline_ns) == (0, 0, 0, 0)
    assert not held.remove(tasks[0])
    assert not held.lanes
    assert not held.again


# -- what runs again --------------------------------------------------------------------------------


def test_closed_lists_wait_apart_and_leave_as_they_came() -> None:
    first, second, third = ([RecordingTask(A, 2), RecordingTask(A)], [RecordingTask(B)], [RecordingTask(A)])
    held = filled(*(queued := [RecordingTask(A)]))
    for depth, tasks in enumerate((first, second, third)):
        held.put_again(list(tasks), depth)
    assert (len(held), held.rows, order(held)) == (5, 6, queued)
    assert held.take_again() == Group([*first], 0)
    assert [task.state for task in first] == [State.RUNNING] * 2
    assert [held.take_again(), held.take_again()] == [([*second], 1), ([*third], 2)]
    assert (len(held), held.rows) == (1, 1)


def test_who_waits_in_a_closed_list_can_be_removed_and_the_empty_list_goes() -> None:
    tasks = [RecordingTask(A), RecordingTask(A)]
    other = RecordingTask(A)
    held = queue()
    held.put_again(list(tasks))
    held.put_again([other])
    assert held.remove(tasks[0])
    assert [group.tasks for group in held.again] == [[tasks[1]], [other]]
    assert held.remove(tasks[1])
    assert not held.remove(tasks[1])
    assert [group.tasks for group in held.again] == [[other]]
    assert (len(held), held.rows) == (1, 1)


def test_who_waits_in_a_closed_list_expires_as_well() -> None:
    due, patient = RecordingTask(A, deadline_ns=5), RecordingTask(A)
    held = queue()
    held.put_again([due, patient])
    assert held.next_deadline_ns == 5
    assert held.take_expired(5) == [due]
    assert held.take_again().tasks == [patient]


# -- deadlines --------------------------------------------------------------------------------------


def test_exactly_those_whose_deadline_has_passed_are_expired_the_earliest_first() -> None:
    at_10, at_9, at_5, never, other = (
        RecordingTask(A, deadline_ns=10), RecordingTask(A, deadline_ns=9), RecordingTask(A, deadline_ns=5),
        RecordingTask(A), RecordingTask(B, deadline_ns=8),
    )  # fmt: skip
    held = filled(at_10, at_9, at_5, never, other)
    assert held.next_deadline_ns == 5
    assert held.take_expired(4) == []
    assert held.take_expired(9) == [at_5, other, at_9]
    assert held.next_deadline_ns == 10
    assert order(held) == [at_10, never]
    assert held.take_expired(1 << 62) == [at_10]
    assert held.next_deadline_ns == 0
    assert order(held) == [never]


def test_who_has_left_does_not_expire_and_who_is_back_does_once() -> None:
    tasks = [RecordingTask(A, deadline_ns=5), RecordingTask(A, deadline_ns=6), RecordingTask(A)]
    held = filled(*tasks)
    held.take(tasks[:2])
    assert (held.next_deadline_ns, held.take_expired(9)) == (0, [])
    held.put_back(tasks[:2])
    held.take(tasks[:2])
    held.put_back(tasks[:1])
    assert held.next_deadline_ns == 5
    assert held.take_expired(9) == tasks[:1]
    assert held.take_expired(9) == []


def test_a_deadline_that_was_moved_while_the_task_ran_counts_as_it_is_now() -> None:
    tasks = [RecordingTask(A, deadline_ns=500), RecordingTask(A)]
    held = filled(*tasks)
    held.take(tasks[:1])
    tasks[0].deadline_ns = 1
    held.put_again(tasks[:1])
    assert held.next_deadline_ns == 1
    assert held.take_expired(2) == tasks[:1]


def test_those_who_have_left_are_kept_neither_long_nor_in_great_number() -> None:
    gone: weakref.WeakSet[WeaklyKnown] = weakref.WeakSet()
    held = filled(stays := RecordingTask(A))
    for now in range(1000):
        task = WeaklyKnown(A, deadline_ns=1_000_000 - now)
        gone.add(task)
        held.add(task, now)
        held.take([task])
    del task
    assert len(gone) <= 70
    held.remove(stays)
    assert not gone


def test_a_lane_counts_its_own_rows() -> None:
    lane = Lane(A)
    for rows in (3, 4):
        lane.insert(RecordingTask(A, rows))
    assert lane.rows == 7
    lane.remove(lane.head)
    assert (lane.rows, lane.level) == (4, 0)
