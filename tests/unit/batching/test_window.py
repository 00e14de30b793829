"""Under overload: whom to give up, and how many to run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runtime.batching.window import Choice, Window
from tests.support.scheduling import A
from tests.support.tasks import RecordingTask

START = 100


def choose(
    due: Sequence[int], rows: Sequence[int] | None = None, *, limit: int = 8, alpha: float = 10,
    beta: float = 1, instances: int = 1,
) -> Choice:  # fmt: skip
    """Of tasks that are due so long after the start (0: never), at a cost of alpha + beta * rows."""
    tasks = [
        RecordingTask(A, count, deadline_ns=START + at if at else 0)
        for at, count in zip(due, rows or [1] * len(due), strict=True)
    ]

    def cost(count: float) -> float:
        return alpha + beta * count

    return Window(tasks, limit=limit, start_ns=START, high=cost, mean=cost, instances=instances).choose()


# -- the largest batch in time for the first, if nobody behind will be late -------------------------


def test_everybody_leaves_if_everybody_is_in_time() -> None:
    assert choose([12, 12]) == Choice(0, 2)


def test_the_batch_is_cut_where_its_first_deadline_ends() -> None:
    assert choose([12, 99, 99, 99]) == Choice(0, 2)


def test_the_batch_is_cut_where_any_deadline_in_it_ends() -> None:
    assert choose([14, 12, 99, 99]) == Choice(0, 2)


def test_a_batch_has_no_more_rows_than_the_limit() -> None:
    assert choose([99] * 9, limit=4) == Choice(0, 4)
    assert choose([99] * 4, [3, 3, 3, 3], limit=8) == Choice(0, 2)


def test_one_that_is_larger_than_a_batch_counts_as_a_full_one() -> None:
    assert choose([18, 99], [20, 1], limit=8) == Choice(0, 1)


def test_who_has_no_deadline_is_always_in_time() -> None:
    assert choose([0, 0, 0]) == Choice(0, 3)
    assert choose([11, 0, 0]) == Choice(0, 1)


def test_those_behind_count_in_batches_one_after_the_other() -> None:
    # 1 row in 11, then 2 rows until 11 + 12: the second batch is in time until 23
    assert choose([11, 23, 23]) == Choice(0, 1)
    # one later and it is not: without the first, three rows would do more in their time than one
    assert choose([11, 22, 22]) == Choice(1, 2)


def test_several_instances_work_off_those_behind_faster() -> None:
    # the first batch is charged with half of its time only: the second begins at 5.5
    assert choose([11, 18, 18], instances=2) == Choice(0, 1)
    assert choose([11, 18, 18], instances=1) == Choice(1, 2)


# -- the largest batch without those in its way, if that is worth it --------------------------------


def test_one_that_would_make_all_others_late_is_given_up() -> None:
    assert choose([11, *[18] * 8]) == Choice(1, 8)


def test_as_few_as_possible_are_given_up() -> None:
    assert choose([11, 12, *[18] * 6]) == Choice(2, 6)
    assert choose([11, 17, *[17] * 6]) == Choice(1, 7)


def test_multi_row_tasks_weigh_what_they_have() -> None:
    # three small ones in the way of one large
    assert choose([11, 11, 11, 18], [1, 1, 1, 8]) == Choice(3, 1)
    # a large one in the way of three small ones stays
    assert choose([18, 18, 18, 18], [8, 1, 1, 1]) == Choice(0, 1)


def test_a_first_one_that_is_hopeless_is_given_up_for_any_who_is_not() -> None:
    assert choose([1, 99]) == Choice(1, 1)


# -- else the former all the same -------------------------------------------------------------------


def test_nobody_is_given_up_where_that_gets_fewer_rows_done() -> None:
    # rows cost in proportion: a small batch is as good as a large one, and nobody is lost for it
    assert choose([1, *[8] * 8], alpha=0) == Choice(0, 1)


def test_nobody_is_given_up_if_all_are_late_whatever_is_done() -> None:
    assert choose([1, 1, 1]) == Choice(0, 0)


def test_who_has_no_deadline_is_never_given_up() -> None:
    assert choose([0, 5, 5]) == Choice(0, 1)
    assert choose([5, 0, 12]) == Choice(1, 2)


@pytest.mark.parametrize("beta", [0, 1, 5])
def test_rows_of_nothing_are_worth_nothing(beta: float) -> None:
    assert choose([1, 1], [0, 0], beta=beta) == Choice(0, 0)
