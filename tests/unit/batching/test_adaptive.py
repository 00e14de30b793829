"""The adaptive policy, step by step, with what it has learned laid out by hand."""

from __future__ import annotations

import pytest

from runtime.batching.adaptive import MIN_HAND_OVER_NS, MIN_STARVE_NS, OVERDUE, TURN, Adaptive
from runtime.batching.policy import NOTHING
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch
from runtime.clock import MILLISECOND, SECOND
from tests.support.scheduling import A, B, Bench
from tests.support.tasks import RecordingTask, key

GAINS = {rows: 3 + 0.15 * rows for rows in (1, 2, 4, 8, 16, 32, 64)}
"""Milliseconds by rows, of a model that gains from batching; or that does not, or is padded."""
GAINS_NOTHING = {rows: 8.0 * rows for rows in (1, 2, 4, 8, 16)}
PADDED = {8: 80.0, 16: 150.0}
HAND_OVER_NS = 300_000


def tasks(count: int, rows: int = 1, **known: int) -> list[RecordingTask]:
    return [RecordingTask(A, rows, **known) for _ in range(count)]


# -- nothing learned --------------------------------------------------------------------------------


def test_an_idle_instance_takes_all_that_is_queued() -> None:
    for cost in ({}, GAINS):
        bench = Bench(cost=cost)
        bench.add(*(queued := tasks(3, 2)))
        decision = bench.decide()
        assert (decision.tasks, decision.seat, decision.reason) == (queued, 0, "idle")
        assert (decision.held_ns, list(decision.drop), decision.until_ns) == (0, [], 0)


def test_what_does_not_fit_waits_and_the_batch_is_full() -> None:
    bench = Bench(max_batch_size=4)
    bench.add(*(queued := tasks(5)))
    decision = bench.decide()
    assert (decision.tasks, decision.reason) == (queued[:4], "full")


def test_nothing_leaves_an_empty_queue_or_without_an_instance() -> None:
    assert Bench().decide() == NOTHING
    bench = Bench(instances=0)
    bench.add(*tasks(1))
    assert bench.decide() == NOTHING


def test_while_nothing_is_known_nobody_is_refused_dropped_or_held() -> None:
    bench = Bench(instances=2)
    hasty = RecordingTask(A, deadline_ns=bench.now + 1)
    assert bench.policy.refusal(hasty, bench.queue, bench.seats, bench.now) is None
    bench.add(hasty, *tasks(3))
    decision = bench.decide()
    assert (len(decision.tasks), decision.reason, decision.predicted_ns) == (4, "idle", 0)


def test_what_a_profile_says_is_no_reason_to_refuse_or_drop_anybody() -> None:
    bench = Bench()
    bench.policy = Adaptive(bench.limits, {1: 1000.0, 64: 2000.0})
    hasty = RecordingTask(A, deadline_ns=bench.due(1))
    assert bench.policy.refusal(hasty, bench.queue, bench.seats, bench.now) is None
    bench.add(hasty)
    decision = bench.decide()
    assert decision.tasks == [hasty]
    assert decision.predicted_ns == pytest.approx(SECOND)


def test_the_time_that_a_batch_will_take_is_predicted_from_those_like_it() -> None:
    bench = Bench(cost=GAINS)
    bench.add(*tasks(8))
    assert bench.decide().predicted_ns == pytest.approx(4.2 * MILLISECOND, rel=0.02)


def test_a_key_learns_for_itself_and_starts_from_the_first_one_s_curve() -> None:
    bench = Bench(cost=GAINS)
    bench.learn({1: 50.0}, B)
    bench.learn({1: 3.15})
    for of, ms in ((A, 3.15), (B, 50.0)):
        bench.add(task := RecordingTask(of))
        assert bench.decide().predicted_ns == pytest.approx(ms * MILLISECOND, rel=0.05)
        bench.queue.take([task])
    bench.add(RecordingTask(key("new")))
    assert bench.decide().predicted_ns == pytest.approx(3.15 * MILLISECOND, rel=0.05)


def test_an_execution_that_is_counted_already_teaches_nothing_twice() -> None:
    bench = Bench(cost=GAINS)
    curve = A.curve
    assert curve is not None
    before = curve.batches
    stages = Stages.bare(bench.now, 900 * MILLISECOND, 0, 2)._replace(joined=True)
    bench.policy.finished(Batch(A, [RecordingTask(A)], bench.now), stages)
    assert curve.batches == before


def test_what_was_learned_can_be_looked_at() -> None:
    bench = Bench()
    bench.learn(GAINS, hand_over_ns=HAND_OVER_NS, return_ns=70_000)
    insight = bench.policy.insight()
    assert insight["hand_over_ns"] == pytest.approx(HAND_OVER_NS)
    assert insight["return_ns"] == pytest.approx(70_000)
    assert insight["alpha_ns"] == pytest.approx(3 * MILLISECOND, rel=0.05)
    assert [rows for rows, *_ in insight["curve"]] == list(GAINS)  # type: ignore[attr-defined]
    assert set(insight) == {"curve", "alpha_ns", "hand_over_ns", "return_ns", "away", "arrivals_per_s"}


# -- which instance: just in time -------------------------------------------------------------------


def ready(cost: dict[int, float] | None = None, hand_over_ns: int = HAND_OVER_NS) -> Bench:
    """With one row queued, of a model whose batches take so long to reach it."""
    bench = Bench()
    bench.learn(cost or GAINS_NOTHING, hand_over_ns=hand_over_ns)
    bench.add(*tasks(1))
    return bench


def test_a_busy_instance_is_sent_the_next_batch_a_hand_over_before_it_is_idle() -> None:
    bench = ready()
    bench.occupy(ends_ns=bench.now + 10 * MILLISECOND)
    waits = bench.decide()
    assert not waits.tasks
    commit = bench.now + 10 * MILLISECOND - HAND_OVER_NS
    assert waits.until_ns == pytest.approx(commit, abs=2)
    bench.now = waits.until_ns - 1
    assert bench.decide() == waits
    bench.now = waits.until_ns
    decision = bench.decide()
    assert (len(decision.tasks), decision.seat, decision.reason) == (1, 0, "idle")


def test_never_more_than_one_batch_is_committed_ahead() -> None:
    bench = ready()
    bench.occupy(ends_ns=bench.now, batches=2)
    assert bench.decide() == NOTHING


def test_an_instance_of_which_nothing_is_known_is_not_committed_to() -> None:
    bench = ready()
    bench.occupy(ends_ns=0)
    assert bench.decide() == NOTHING


def test_an_instance_that_is_long_overdue_is_not_counted_on() -> None:
    bench = ready()
    bench.occupy(ends_ns=bench.now)
    bench.now += int(OVERDUE * HAND_OVER_NS * 0.99)
    assert bench.decide().tasks
    bench.now += int(OVERDUE * HAND_OVER_NS * 0.02)
    assert bench.decide() == NOTHING


def test_a_short_way_is_not_committed_early_for() -> None:
    bench = ready(hand_over_ns=MIN_HAND_OVER_NS - 1)
    bench.occupy(ends_ns=bench.now)
    assert bench.decide() == NOTHING


def test_of_several_busy_instances_the_one_that_ends_first_is_chosen() -> None:
    bench = Bench(instances=3)
    bench.learn(GAINS_NOTHING, hand_over_ns=HAND_OVER_NS)
    bench.add(*tasks(1))
    for seat, ms in enumerate((5, 2, 9)):
        bench.occupy(seat, ends_ns=bench.now + ms * MILLISECOND)
    assert bench.decide().until_ns == pytest.approx(bench.due(2) - HAND_OVER_NS, abs=2)
    bench.now += 2 * MILLISECOND
    assert bench.decide().seat == 1
    bench.seats[1].sent *= 2
    assert bench.decide().until_ns == pytest.approx(bench.due(3) - HAND_OVER_NS, abs=2)


def test_an_idle_instance_goes_before_one_that_is_soon_idle() -> None:
    bench = Bench(instances=2)
    bench.learn(GAINS_NOTHING, hand_over_ns=HAND_OVER_NS)
    bench.add(*tasks(1))
    bench.occupy(0, ends_ns=bench.now)
    assert bench.decide().seat == 1


def test_the_way_is_learned_only_from_batches_that_did_not_wait_for_another() -> None:
    bench = ready()
    for _ in range(50):
        bench.answer(A, [1], 8, waited_ns=5 * MILLISECOND, hand_over_ns=9 * MILLISECOND)
    assert bench.policy.insight()["hand_over_ns"] == pytest.approx(HAND_OVER_NS)


def test_one_slow_way_does_not_spoil_what_is_known_of_it() -> None:
    bench = ready()
    bench.answer(A, [1], 8, hand_over_ns=SECOND)
    learned = bench.policy.insight()["hand_over_ns"]
    assert HAND_OVER_NS < learned < 1.25 * HAND_OVER_NS  # type: ignore[operator]


# -- which lane -------------------------------------------------------------------------------------


def test_the_lane_whose_head_is_due_first_leaves() -> None:
    bench = Bench()
    b, a = RecordingTask(B), RecordingTask(A)
    bench.add(b)
    bench.now += 1
    bench.add(a)
    assert bench.decide().tasks == [b]
    bench.add(hasty := RecordingTask(A, deadline_ns=bench.due(1)))
    assert bench.decide().tasks == [hasty, a]


def test_a_fuller_batch_has_a_little_credit() -> None:
    bench = Bench(cost={1: 10, 8: 20}, max_batch_size=8)
    bench.learn({1: 10, 8: 20}, B)
    bench.add(RecordingTask(B))
    bench.now += 15 * MILLISECOND
    bench.add(*(full := tasks(8)))
    assert bench.decide().tasks == full  # due 15 ms later, but 17.5 ms of credit more
    bench.queue.take(full)
    bench.now += 15 * MILLISECOND
    bench.add(*tasks(8))
    assert bench.decide().tasks[0].key is B


def test_an_urgent_level_goes_before_any_other_lane() -> None:
    bench = Bench(cost=GAINS)
    bench.add(*tasks(40, priority=2))
    bench.now += SECOND // 2
    bench.add(urgent := RecordingTask(B, priority=1))
    assert bench.decide().tasks == [urgent]


def test_the_lane_of_the_starved_has_its_turn() -> None:
    bench = Bench(cost={1: 5})
    bench.learn({1: 5}, B)
    bench.add(starved := RecordingTask(B, priority=3))
    bench.now += MIN_STARVE_NS + 1
    left: list[str] = []
    for _ in range(2 * TURN):
        bench.add(RecordingTask(A, priority=1))
        decision = bench.decide()
        left.append("starved" if starved in decision.tasks else "urgent")
        if starved not in decision.tasks:
            bench.queue.take(decision.tasks)
    assert left.count("starved") == 2
    assert left.index("starved") < TURN


def test_nobody_has_starved_who_waits_for_a_second_only() -> None:
    bench = Bench(cost={1: 5})
    bench.add(RecordingTask(B, priority=3))
    bench.now += MIN_STARVE_NS
    for _ in range(2 * TURN):
        bench.add(RecordingTask(A, priority=1))
        decision = bench.decide()
        assert decision.tasks[0].key is A
        bench.queue.take(decision.tasks)


def test_the_starved_of_a_lane_come_along_with_the_urgent() -> None:
    bench = Bench(max_batch_size=16)
    bench.add(*(low := tasks(4, priority=2)))
    bench.now += MIN_STARVE_NS + 1
    bench.add(*(high := tasks(20, priority=1)))
    assert bench.decide().tasks == [*low[:2], *high[:14]]


# -- several idle instances -------------------------------------------------------------------------


def test_idle_instances_share_rows_that_cost_their_own_time() -> None:
    bench = Bench(instances=4, cost=GAINS_NOTHING)
    bench.add(*(queued := tasks(8)))
    decision = bench.decide()
    assert (decision.tasks, decision.reason) == (queued[:2], "spread")


def test_idle_instances_do_not_share_what_costs_as_much_in_parts() -> None:
    bench = Bench(instances=4, cost=GAINS)
    bench.add(*(queued := tasks(8)))
    decision = bench.decide()
    assert (decision.tasks, decision.reason) == (queued, "idle")


def test_the_last_idle_instances_are_not_all_taken_where_others_are_coming() -> None:
    def parts(gap_ms: float) -> int:
        bench = Bench(instances=2, cost={1: 10, 2: 15, 4: 22, 8: 44})
        for _ in range(200):
            bench.now += int(gap_ms * MILLISECOND)
            bench.policy.arrived(RecordingTask(A), bench.now)
        bench.add(*tasks(4))
        return len(bench.decide().tasks)

    assert parts(gap_ms=100) == 2
    assert parts(gap_ms=2) == 4


# -- efficiency -------------------------------------------------------------------------------------


def test_rows_that_would_be_padded_far_wait_for_the_next_batch() -> None:
    bench = Bench(cost=PADDED, max_batch_size=16, allowed_batch_sizes=(8, 16))
    bench.add(*(queued := tasks(9)))
    decision = bench.decide()
    assert (decision.tasks, decision.reason) == (queued[:8], "efficient")
    bench.add(*tasks(6))
    assert (len((decision := bench.decide()).tasks), decision.reason) == (15, "idle")


def test_a_large_task_at_the_head_leaves_whatever_is_efficient() -> None:
    bench = Bench(cost=PADDED, max_batch_size=16, allowed_batch_sizes=(8, 16))
    bench.add(large := RecordingTask(A, 9))
    assert bench.decide().tasks == [large]
