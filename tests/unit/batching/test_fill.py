"""Who is in a batch: the head, and what fits behind it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runtime.batching.fill import AGED_SHARE, LOOK_AHEAD, fill, first_fit
from runtime.batching.queue import Lane
from runtime.batching.task import BatchKey
from tests.support.scheduling import NO_LIMIT, A
from tests.support.tasks import RecordingTask, key

ALONE = key("alone", batchable=False)
NOW = 1_000


def lane(*tasks: RecordingTask, of: BatchKey = A) -> Lane:
    """Of tasks that came one after the other, at 1, 2, 3, ..."""
    made = Lane(of)
    for now, task in enumerate(tasks, 1):
        task.enqueued_ns = task.order_ns = now
        made.insert(task)
    return made


def of_rows(*rows: int, priority: int = 0) -> list[RecordingTask]:
    return [RecordingTask(A, count, priority=priority) for count in rows]


@pytest.mark.parametrize(
    ("rows", "max_rows", "chosen"),
    [
        ([1, 1, 1], 2, [0, 1]),
        ([1, 1, 1], 3, [0, 1, 2]),
        ([1, 1, 1], 9, [0, 1, 2]),
        ([2, 3, 1], 4, [0, 2]),
        ([3, 3, 3], 4, [0]),
        ([5, 1], 4, [0]),
        ([1, 5, 4, 3], 4, [0, 3]),
        ([0, 4, 0], 4, [0, 1]),
        ([0, 5, 0], 4, [0, 2]),
    ],
)
def test_the_head_leaves_and_what_fits_behind_it(
    rows: Sequence[int], max_rows: int, chosen: Sequence[int]
) -> None:
    tasks = of_rows(*rows)
    assert fill(lane(*tasks), max_rows, NO_LIMIT) == [tasks[index] for index in chosen]


def test_bytes_bound_a_batch_like_rows_do() -> None:
    tasks = [RecordingTask(A, size=size) for size in (6, 5, 4, 1)]
    assert fill(lane(*tasks), 99, 10) == [tasks[0], tasks[2]]
    assert fill(lane(*tasks), 99, 5) == [tasks[0]]
    assert fill(lane(*tasks), 99, 6) == [tasks[0]]


def test_not_everybody_is_looked_at_behind_the_first_that_does_not_fit() -> None:
    tasks = of_rows(1, *([8] * LOOK_AHEAD), 1, 1)
    assert fill(lane(*tasks), 8, NO_LIMIT) == [tasks[0], *tasks[-2:]]
    further = of_rows(1, *([8] * (LOOK_AHEAD + 1)), 1)
    assert fill(lane(*further), 8, NO_LIMIT) == [further[0]]


def test_what_cannot_be_merged_leaves_alone() -> None:
    tasks = [RecordingTask(ALONE), RecordingTask(ALONE)]
    assert fill(lane(*tasks, of=ALONE), 64, NO_LIMIT) == tasks[:1]
    assert fill(lane(*tasks, of=ALONE), 64, NO_LIMIT, NOW) == tasks[:1]


def test_less_urgent_levels_fill_what_urgent_ones_leave() -> None:
    low, high = of_rows(1, 2, priority=2), of_rows(3, 4, priority=1)
    assert fill(lane(*low, *high), 8, NO_LIMIT) == [*high, low[0]]
    assert fill(lane(*low, *high), 7, NO_LIMIT) == high


# -- the starved ------------------------------------------------------------------------------------


def test_the_starved_get_an_eighth_of_the_rows_and_everybody_else_the_rest() -> None:
    low, high = of_rows(*[1] * 9, priority=2), of_rows(*[1] * 64, priority=1)
    chosen = fill(lane(*low, *high), 64, NO_LIMIT, NOW)
    assert chosen == [*low[: 64 // AGED_SHARE], *high[: 64 - 64 // AGED_SHARE]]


def test_who_has_not_starved_waits_for_his_turn() -> None:
    low, high = of_rows(1, 1, priority=2), of_rows(*[1] * 16, priority=1)
    queued = lane(*low, *high)
    assert fill(queued, 16, NO_LIMIT, aged_ns=1) == high
    assert fill(queued, 16, NO_LIMIT, aged_ns=2) == [low[0], *high[:15]]
    assert fill(queued, 16, NO_LIMIT) == high


def test_only_one_level_means_nobody_is_ahead_of_his_turn() -> None:
    tasks = of_rows(3, 3, 3, priority=2)
    assert fill(lane(*tasks), 8, NO_LIMIT, NOW) == tasks[:2]


def test_the_starved_of_each_level_share_what_they_get() -> None:
    high, middle, low = (
        of_rows(*[1] * 16, priority=1),
        of_rows(1, priority=2),
        of_rows(1, 1, priority=3),
    )
    assert fill(lane(*low, *middle, *high), 16, NO_LIMIT, NOW) == [*middle, low[0], *high[:14]]


def test_the_starved_never_take_what_the_head_needs() -> None:
    low = of_rows(1, 1, 1, priority=2)
    for head in (RecordingTask(A, 16, priority=1), RecordingTask(A, 99, priority=1)):
        assert fill(lane(*low, head), 16, NO_LIMIT, NOW) == [head]
    head = RecordingTask(A, 15, priority=1)
    assert fill(lane(*low, head), 16, NO_LIMIT, NOW) == [low[0], head]
    large = RecordingTask(A, 1, size=8, priority=1)
    assert fill(lane(*low, large), 16, 11, NOW) == [large]
    assert fill(lane(*low, large), 16, 12, NOW) == [low[0], large]


def test_a_starved_task_of_many_rows_does_not_let_others_pass_it() -> None:
    low, high = of_rows(3, 1, priority=2), of_rows(*[1] * 16, priority=1)
    assert fill(lane(*low, *high), 16, NO_LIMIT, NOW) == high


# -- first fit --------------------------------------------------------------------------------------


def test_nobody_is_chosen_twice() -> None:
    tasks = of_rows(1, 2, 3)
    assert first_fit(tasks, 9, NO_LIMIT, [tasks[1]]) == [tasks[1], tasks[0], tasks[2]]


def test_of_nothing_nothing_is_chosen() -> None:
    assert first_fit([], 9, NO_LIMIT) == []


def test_in_its_turn_the_longest_starved_goes_first_whatever_the_head_needs() -> None:
    urgent, starved, fresh = (
        RecordingTask(A, 4, priority=1),
        RecordingTask(A, 3, priority=3),
        RecordingTask(A, 1, priority=1),
    )
    urgent.enqueued_ns, starved.enqueued_ns, fresh.enqueued_ns = NOW, 1, NOW
    waiting = Lane(A)
    for task in (urgent, starved, fresh):
        waiting.insert(task)
    assert starved in fill(waiting, 4, NO_LIMIT, NOW, lead=True)
    assert starved not in fill(waiting, 4, NO_LIMIT, NOW)
    assert starved not in fill(waiting, 4, NO_LIMIT, 1, lead=True)
