"""The adaptive policy where time is short, and where it pays to wait."""

from __future__ import annotations

import pytest

from runtime.batching.adaptive import STALE
from runtime.batching.latency import TRAINED
from runtime.batching.policy import NOTHING, Decision
from runtime.batching.task import BatchKey
from runtime.clock import MILLISECOND
from runtime.errors import DeadlineUnreachable, QueueFull, RuntimeServingError
from tests.support.scheduling import A, B, Bench
from tests.support.tasks import RecordingTask, key

GAINS = {rows: 10.0 + rows for rows in (1, 2, 4, 8, 16)}
"""Milliseconds by rows: 11 for one, 26 for a full batch."""


def alone() -> BatchKey:
    return key("alone", batchable=False)


class Hasty(Bench):
    """A model that gains from batching, at most 16 rows of it, which was executed lately."""

    def __init__(self, instances: int = 1, **limits: object) -> None:
        super().__init__(instances, **{"max_batch_size": 16, **limits})
        self.learn(GAINS, times=20)

    def task(self, due_ms: float = 0, rows: int = 1, **known: int) -> RecordingTask:
        """With a deadline in so many milliseconds, 0 for none."""
        return RecordingTask(A, rows, deadline_ns=self.due(due_ms) if due_ms else 0, **known)

    def refusal(self, task: RecordingTask) -> RuntimeServingError | None:
        return self.policy.refusal(task, self.queue, self.seats, self.now)


# -- who is hopeless --------------------------------------------------------------------------------


def test_who_would_be_late_alone_and_at_once_is_dropped() -> None:
    bench = Hasty()
    hopeless = [bench.task(5), bench.task(10)]
    bench.add(bench.task(30), *hopeless, bench.task())
    assert bench.decide() == Decision(drop=hopeless)


def test_the_way_back_counts() -> None:
    bench = Hasty()
    bench.add(bench.task(13))
    assert bench.decide().tasks
    bench = Hasty()
    bench.learn(GAINS, times=4, return_ns=4 * MILLISECOND)
    bench.add(bench.task(13))
    assert len(bench.decide().drop) == 1


def test_a_busy_instance_makes_more_of_them_hopeless() -> None:
    bench = Hasty()
    bench.learn(GAINS, times=2, hand_over_ns=MILLISECOND)
    bench.add(task := bench.task(20))
    bench.occupy(ends_ns=bench.due(10))
    bench.now = bench.decide().until_ns
    assert bench.decide().drop == [task]


def test_nobody_is_dropped_before_enough_was_executed() -> None:
    bench = Bench(cost={1: 10, 2: 11, 4: 12})
    few = key("few")
    bench.learn({1: 10}, few, times=TRAINED - 1)
    bench.add(task := RecordingTask(few, deadline_ns=bench.due(1)))
    assert bench.decide().tasks == [task]
    bench.learn({1: 10}, few, times=1)
    task.deadline_ns = bench.due(1)
    assert bench.decide().drop == [task]


def test_who_has_no_deadline_is_never_dropped_nor_anybody_behind_him() -> None:
    bench = Hasty()
    patient = bench.task()
    bench.add(patient)
    bench.now += 10_000 * MILLISECOND
    bench.learn({1: 11}, times=1)
    bench.add(bench.task(2_000))
    assert bench.decide().tasks[0] is patient


@pytest.mark.parametrize("share", [0.5, 1.1])
def test_after_a_long_silence_somebody_goes_so_that_we_learn(share: float) -> None:
    bench = Hasty()
    bench.now += int(share * STALE * 11 * MILLISECOND)
    bench.add(task := bench.task(5))
    decision = bench.decide()
    assert (decision.tasks, decision.drop) == ((), [task]) if share < 1 else ([task], ())


def test_it_is_no_silence_while_somebody_executes() -> None:
    bench = Hasty(instances=2)
    bench.now += 1_000 * MILLISECOND
    bench.add(task := bench.task(5))
    bench.occupy(0, ends_ns=bench.now)
    assert bench.decide().drop == [task]


# -- deadlines shape batches ------------------------------------------------------------------------


def test_a_batch_is_as_small_as_its_first_deadline_needs() -> None:
    bench = Hasty()
    first = bench.task(13)
    bench.add(first, *[bench.task(500) for _ in range(15)])
    decision = bench.decide()
    assert decision.reason == "tight"
    assert first in decision.tasks
    assert 1 <= len(decision.tasks) <= 3


def test_a_batch_without_the_one_in_its_way_is_run_if_more_are_in_time_for_it() -> None:
    bench = Hasty()
    first = bench.task(13)
    bench.add(first, *[bench.task(30) for _ in range(15)])
    assert bench.decide() == Decision(drop=[first])
    bench.queue.remove(first)
    assert len(bench.decide().tasks) == 15


def test_nobody_is_given_up_for_those_who_are_less_urgent() -> None:
    bench = Hasty()
    urgent = bench.task(13, priority=1)
    bench.add(urgent, *[bench.task(30, priority=2) for _ in range(15)])
    decision = bench.decide()
    assert urgent in decision.tasks
    assert decision.reason == "tight"
    bench.add(*[bench.task(30, priority=1) for _ in range(15)])
    assert bench.decide() == Decision(drop=[urgent])


def test_only_the_next_few_batches_are_looked_ahead() -> None:
    bench = Hasty()
    bench.add(bench.task(13), *[bench.task(500) for _ in range(4 * 16 - 1)])
    small = bench.decide()
    bench.add(*[bench.task(501) for _ in range(10_000)])  # late whatever is done
    assert bench.decide().tasks == small.tasks


def test_a_batch_that_is_in_time_for_all_is_as_large_as_ever() -> None:
    bench = Hasty()
    bench.add(*[bench.task(40) for _ in range(20)])
    decision = bench.decide()
    assert (len(decision.tasks), decision.reason) == (16, "full")


def test_a_tight_batch_keeps_to_the_bytes_as_well() -> None:
    bench = Hasty(max_batch_bytes=100)
    first, last = bench.task(15), bench.task(500)
    bench.add(first, RecordingTask(A, size=100, deadline_ns=bench.due(20)), last)
    bench.add(*[bench.task(600) for _ in range(13)])
    decision = bench.decide()
    assert (decision.tasks[:2], decision.reason) == ([first, last], "tight")
    assert sum(task.size_bytes for task in decision.tasks) <= 100


def test_what_cannot_be_merged_is_never_merged_however_tight() -> None:
    bench = Hasty()
    of = alone()
    bench.learn({1: 11}, of)
    bench.now += 1_000 * MILLISECOND  # nothing is dropped after a silence
    tasks = [RecordingTask(of, deadline_ns=bench.due(due)) for due in (11.1, 100, 100)]
    bench.add(*tasks)
    while bench.queue:
        decision = bench.decide()
        assert len(decision.tasks) + len(decision.drop) == 1
        for task in (*decision.tasks, *decision.drop):
            bench.queue.remove(task)


def test_a_tight_batch_goes_out_although_others_might_still_come() -> None:
    bench = Returning()
    bench.queue.take(bench.queued)
    bench.arrive(RecordingTask(A, deadline_ns=bench.due(11.5)))
    assert bench.decide().tasks


# -- early refusal ----------------------------------------------------------------------------------


def test_only_the_hopeless_are_refused_and_told_when_to_retry() -> None:
    bench = Hasty()
    bench.occupy(ends_ns=bench.due(20))
    error = bench.refusal(bench.task(25))
    assert isinstance(error, DeadlineUnreachable)
    assert error.retry_after_ms == 20
    assert bench.refusal(bench.task(40)) is None


def test_an_idle_instance_can_begin_at_once() -> None:
    bench = Hasty(instances=2)
    bench.occupy(0, ends_ns=bench.due(20))
    assert bench.refusal(bench.task(15)) is None
    error = bench.refusal(bench.task(5))
    assert isinstance(error, DeadlineUnreachable)
    assert error.retry_after_ms == 1


def test_more_rows_take_longer_and_more_than_a_batch_as_long_as_one() -> None:
    bench = Hasty()
    assert bench.refusal(bench.task(20, rows=1)) is None
    assert isinstance(bench.refusal(bench.task(20, rows=16)), DeadlineUnreachable)
    assert bench.refusal(bench.task(40, rows=160)) is None


def test_who_might_be_in_time_is_not_refused_for_those_ahead_of_him() -> None:
    bench = Hasty()
    bench.add(*[bench.task(15) for _ in range(100)])
    assert bench.refusal(bench.task(15)) is None


def test_the_hopeless_are_not_refused_after_a_long_silence() -> None:
    bench = Hasty()
    assert bench.refusal(bench.task(1)) is not None
    bench.now += 1_000 * MILLISECOND
    assert bench.refusal(bench.task(1)) is None


def test_who_has_no_deadline_is_refused_behind_more_than_may_wait() -> None:
    bench = Hasty(max_queue_ms=100)
    bench.add(*[bench.task(rows=16) for _ in range(3)])
    assert bench.refusal(bench.task()) is None
    bench.add(*[bench.task(rows=16) for _ in range(2)])
    error = bench.refusal(bench.task())
    assert isinstance(error, QueueFull)
    assert error.retry_after_ms == pytest.approx(5 * 26, rel=0.05)
    assert bench.refusal(bench.task(60_000)) is None
    bench.seats *= 2
    assert bench.refusal(bench.task()) is None


def test_what_cannot_be_merged_waits_one_execution_each() -> None:
    bench = Bench(cost={1: 10}, max_queue_ms=100)
    of = alone()
    bench.learn({1: 10}, of)
    bench.add(*[RecordingTask(of) for _ in range(9)])
    task = RecordingTask(of)
    assert bench.policy.refusal(task, bench.queue, bench.seats, bench.now) is None
    bench.add(*[RecordingTask(of) for _ in range(2)])
    assert isinstance(bench.policy.refusal(task, bench.queue, bench.seats, bench.now), QueueFull)


def test_nobody_is_refused_while_there_is_no_instance() -> None:
    bench = Hasty(instances=0, max_queue_ms=1)
    bench.add(*[bench.task(rows=16) for _ in range(9)])
    assert bench.refusal(bench.task()) is None
    assert bench.refusal(bench.task(1)) is None


# -- holding ----------------------------------------------------------------------------------------


class Returning(Bench):
    """Two clients who come back 0.2 and 0.6 ms after their answer; the first has come back just now."""

    def __init__(self, *, hand_over_ns: int = 0, **limits: object) -> None:
        super().__init__(cost=GAINS, **limits)
        for _ in range(4):  # and some others now and then
            self.now += 20 * MILLISECOND
            self.policy.arrived(RecordingTask(A), self.now)
        for _ in range(30):
            self.answer(A, [1, 1], GAINS[2], hand_over_ns=hand_over_ns)
            self.now += MILLISECOND // 5
            self.policy.arrived(RecordingTask(A), self.now)
            self.now += MILLISECOND * 2 // 5
            self.policy.arrived(RecordingTask(A), self.now)
        self.answer(A, [1, 1], GAINS[2], hand_over_ns=hand_over_ns)
        self.now += MILLISECOND // 5
        self.queued = [RecordingTask(A)]
        self.arrive(*self.queued)


def test_a_batch_is_held_for_a_client_who_is_known_to_come_back_and_leaves_with_him() -> None:
    bench = Returning()
    began = bench.now
    held = bench.decide()
    assert not held.tasks
    assert began + MILLISECOND * 2 // 5 <= held.until_ns <= bench.due(10)
    bench.now += MILLISECOND * 2 // 5
    bench.arrive(second := RecordingTask(A))
    decision = bench.decide()
    assert (decision.tasks, decision.reason) == ([*bench.queued, second], "held")
    assert decision.held_ns == bench.now - began


def test_who_is_waited_for_in_vain_is_not_waited_for_any_longer() -> None:
    bench = Returning()
    while not (decision := bench.decide()).tasks:
        assert decision.until_ns > bench.now
        bench.now = decision.until_ns
    assert (decision.tasks, decision.reason) == (bench.queued, "held")
    assert decision.held_ns <= 10 * MILLISECOND  # what one batch less saves


def test_holding_can_be_forbidden() -> None:
    assert Returning(max_queue_delay_ms=0).decide().reason == "idle"


def test_holding_can_be_capped() -> None:
    bench = Returning(max_queue_delay_ms=0.5)
    held = bench.decide()
    assert bench.now < held.until_ns <= bench.due(0.5)


def test_nobody_is_held_where_batching_gains_nothing() -> None:
    bench = Returning()
    bench.learn({rows: 8.0 * rows for rows in (1, 2, 4, 8, 16, 32, 64)}, times=60)
    assert bench.decide().reason == "idle"


def test_nobody_is_held_while_another_instance_is_idle() -> None:
    bench = Returning()
    bench.seats.append(type(bench.seats[0])())
    assert bench.decide().tasks


def test_nobody_is_held_while_others_wait_too_or_the_batch_is_full() -> None:
    bench = Returning()
    bench.add(RecordingTask(B))
    assert bench.decide().reason == "idle"
    bench = Returning(max_batch_size=1)
    assert bench.decide().tasks


def test_what_cannot_be_merged_is_never_held() -> None:
    bench = Returning()
    of = alone()
    bench.learn({1: 11}, of, times=1)
    bench.queue.take(bench.queued)
    bench.now += MILLISECOND // 5
    bench.arrive(RecordingTask(of))
    assert bench.decide().reason == "idle"


def test_nobody_is_committed_ahead_who_will_find_company_when_the_running_batch_is_answered() -> None:
    bench = Returning(hand_over_ns=MILLISECOND)
    bench.occupy(ends_ns=bench.now)
    bench.seats[0].sent[0].tasks *= 2
    assert bench.decide() == NOTHING
    bench.add(*[RecordingTask(A) for _ in range(63)])
    assert len(bench.decide().tasks) == 64


def test_nobody_is_kept_for_company_that_may_not_be_waited_for() -> None:
    bench = Returning(hand_over_ns=MILLISECOND, max_queue_delay_ms=0.05)
    bench.occupy(ends_ns=bench.now)
    bench.seats[0].sent[0].tasks *= 2
    assert bench.decide().tasks == bench.queued


def test_who_will_find_no_company_is_committed_ahead_of_need() -> None:
    bench = Hasty()
    bench.learn(GAINS, hand_over_ns=MILLISECOND)
    bench.add(task := bench.task())
    bench.occupy(ends_ns=bench.now)
    assert bench.decide().tasks == [task]


def test_who_was_held_and_has_gone_leaves_nothing_of_his_wait_to_the_next() -> None:
    bench = Returning()
    assert bench.decide().until_ns
    bench.queue.remove(bench.queued[0])
    bench.now += 5_000 * MILLISECOND
    bench.arrive(RecordingTask(A))
    decision = bench.decide()
    assert (len(decision.tasks), decision.reason, decision.held_ns) == (1, "idle", 0)
