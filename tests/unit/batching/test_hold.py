"""An idle instance waits for company that is known to be coming, and for nobody else."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable

import pytest

from runtime.batching.hold import SHORTEST_NS, Hold
from runtime.batching.latency import LatencyCurve
from runtime.clock import MILLISECOND, SECOND

LIMIT = 32
BEGIN = 100 * SECOND


def curve_of(alpha_ms: float, beta_ms: float) -> LatencyCurve:
    return LatencyCurve(
        LIMIT, profile={rows: (alpha_ms + beta_ms * rows) * MILLISECOND for rows in (1, 2, 32)}
    )


GAINS = curve_of(3.0, 0.15)
GAINS_LITTLE = curve_of(0.05, 8.0)


def asked(
    hold: Hold, now: int, rows: int = 1, *, limit: int = LIMIT, curve: LatencyCurve = GAINS,
    residual: float = math.inf, slack: float = math.inf,
) -> float:  # fmt: skip
    return hold.wait(rows, limit, curve, now, residual_ns=residual, slack_ns=slack)


def after_returns(
    clients: int = 8, rounds: int = 40, *, apart: int = 20_000, hold: Hold | None = None
) -> tuple[Hold, int]:
    """Clients that come back 0.2 ms after each batch, one after the other: when the last one is answered."""
    hold = hold or Hold()
    now = BEGIN
    for _ in range(rounds):
        hold.completed(clients, now, GAINS.mean(1))
        for client in range(clients):
            hold.arrived(now + 200_000 + apart * client)
        now += 5 * MILLISECOND
    hold.completed(clients, now, GAINS.mean(1))
    return hold, now


def after_clumps(clumps: int = 40, size: int = 4, *, hold: Hold | None = None) -> tuple[Hold, int]:
    """Callers that send some requests 15 us apart, now and then: when the first request of a clump comes."""
    hold = hold or Hold()
    *starts, last = poisson(clumps + 1, 100.0 * MILLISECOND)
    for now in starts:
        for request in range(size):
            hold.arrived(now + 15_000 * request)
        hold.completed(size, now + 5 * MILLISECOND, GAINS.mean(1))
    hold.arrived(last)
    return hold, last


class Run:
    """One instance, greedy but for the hold, and a curve that it learns; executions as of ``GAINS``.

    Args:
        is_held: whether batches are held at all.
        is_closed: whether whoever is answered sends again about 0.3 ms later.
    """

    def __init__(self, *, is_held: bool = True, is_closed: bool = False) -> None:
        self.hold = Hold()
        self.curve = LatencyCurve(LIMIT)
        self.is_held = is_held
        self.is_closed = is_closed
        self.chance = random.Random(1)
        self.coming: list[int] = []
        self.queue: list[int] = []
        self.waited = 0
        self.sizes: list[int] = []
        self.times: list[int] = []

    def serve(self, arrivals: Iterable[int], *, batches: int = 1_000_000) -> None:
        """Requests that come at these instants."""
        self.coming = sorted(arrivals)
        now = 0
        while (self.coming or self.queue) and len(self.sizes) < batches:
            now = self._gather(now if self.queue else max(now, self.coming[0]))
            tasks, self.queue = self.queue[:LIMIT], self.queue[LIMIT:]
            execution = int(GAINS.mean(len(tasks)) * self.chance.lognormvariate(0, 0.05))
            now += execution
            self._arrive(now)
            self.curve.observe(len(tasks), execution)
            self.hold.completed(len(tasks), now, self.curve.mean(1))
            self.times += [now - at for at in tasks]
            self.sizes.append(len(tasks))
            for _ in tasks if self.is_closed else ():
                heapq.heappush(self.coming, now + 200_000 + int(self.chance.expovariate(1e-5)))

    def _arrive(self, now: int) -> None:
        while self.coming and self.coming[0] <= now:
            self.queue.append(heapq.heappop(self.coming))
            self.hold.arrived(self.queue[-1])

    def _gather(self, now: int) -> int:
        """Wait as long as the hold says; return when the batch leaves."""
        began = now
        self._arrive(now)
        while self.is_held and (wait := asked(self.hold, now, min(len(self.queue), LIMIT), curve=self.curve)):
            now = min([now + math.ceil(wait), *self.coming[:1]])
            self._arrive(now)
        self.waited += now - began
        self.hold.released()
        return now

    @property
    def mean(self) -> float:
        return sum(self.times) / len(self.times)


def poisson(count: int, mean_ns: float) -> list[int]:
    chance = random.Random(7)
    at = float(BEGIN)
    return [int(at := at + chance.expovariate(1.0 / mean_ns)) for _ in range(count)]


# -- returning clients ------------------------------------------------------------------------------


def test_the_first_client_that_returns_is_held_for_the_others() -> None:
    hold, answered = after_returns()
    now = answered + 200_000
    hold.arrived(now)
    wait = asked(hold, now)
    assert 100_000 <= wait <= 1 * MILLISECOND  # the last of them comes within 0.14 ms
    assert (hold.away, hold.held_since) == (7, now)


def test_nobody_is_waited_for_twice() -> None:
    hold, answered = after_returns(apart=300_000)
    for client in range(8):
        now = answered + 200_000 + 300_000 * client
        hold.arrived(now)
        if client < 4:
            assert asked(hold, now, client + 1) > 0.0
    assert hold.away == 0
    assert asked(hold, now, 8) == 0.0


def test_a_client_that_does_not_return_is_waited_for_once() -> None:
    hold, answered = after_returns()
    for client in range(7):
        hold.arrived(answered + 200_000 + 20_000 * client)
    left = answered + MILLISECOND
    hold.completed(7, left + 4 * MILLISECOND, GAINS.mean(1))
    assert hold.away == 7


def test_a_single_client_never_waits() -> None:
    hold, answered = after_returns(clients=1)
    hold.arrived(answered + 200_000)
    assert asked(hold, answered + 200_000) == 0.0


def test_clients_that_stopped_returning_are_no_longer_waited_for() -> None:
    hold, now = after_returns()
    for _ in range(150):
        now += 50 * MILLISECOND
        hold.arrived(now)
        now += 4 * MILLISECOND
        hold.completed(8, now, GAINS.mean(1))
    hold.arrived(now + 200_000)
    assert asked(hold, now + 200_000) == 0.0


def test_what_was_learned_outlasts_very_many_batches() -> None:
    hold, answered = after_returns(rounds=9000)
    fresh, at = after_returns(rounds=400)
    for each, now in ((hold, answered + 200_000), (fresh, at + 200_000)):
        each.arrived(now)
    assert asked(hold, answered + 200_000) == pytest.approx(asked(fresh, at + 200_000))


def test_late_or_disordered_instants_do_no_harm() -> None:
    hold, answered = after_returns()
    hold.completed(8, answered - 50_000, GAINS.mean(1))
    hold.arrived(answered - 100_000)
    assert 0.0 <= asked(hold, answered - 100_000) <= GAINS.alpha
    hold.arrived(answered + 3600 * SECOND)
    assert asked(hold, answered + 3600 * SECOND) == 0.0


# -- clumps -----------------------------------------------------------------------------------------


def test_the_first_of_a_clump_is_held_for_the_rest() -> None:
    hold, now = after_clumps()
    assert 100_000 <= asked(hold, now) <= 1 * MILLISECOND


def test_a_clump_that_is_over_is_not_waited_for() -> None:
    hold, now = after_clumps()
    asked(hold, now)
    assert asked(hold, now + SHORTEST_NS) == 0.0


def test_the_rest_of_a_clump_is_worth_less_than_a_long_batch_of_another_instance() -> None:
    hold, now = after_clumps()
    assert asked(hold, now, residual=0.0) <= asked(hold, now, residual=math.inf)


# -- bounds -----------------------------------------------------------------------------------------


def test_it_never_waits_before_it_has_seen_enough() -> None:
    hold = Hold()
    for batch in range(7):
        now = BEGIN + batch * 5 * MILLISECOND
        hold.completed(8, now, GAINS.mean(1))
        for client in range(8):
            hold.arrived(now + 200_000 + client)
            assert asked(hold, now + 200_000 + client) == 0.0


def test_it_never_waits_for_an_unknown_model() -> None:
    hold, now = after_clumps()
    assert asked(hold, now, curve=LatencyCurve(LIMIT)) == 0.0


def test_it_never_waits_while_a_row_takes_no_time_that_was_measured() -> None:
    hold = Hold()
    for batch in range(20):
        hold.arrived(BEGIN + batch)
        hold.completed(1, BEGIN + batch, 0.0)
    assert hold.rate(BEGIN + 20) == 0.0
    assert asked(hold, BEGIN + 20, curve=LatencyCurve(LIMIT)) == 0.0


def test_it_never_waits_where_more_come_than_can_be_told_apart() -> None:
    hold = Hold()
    hold.completed(1, BEGIN, GAINS.mean(1))
    for request in range(5000):
        hold.arrived(BEGIN + 20_000 * request)
    for _ in range(8):
        hold.completed(1, BEGIN + 100 * MILLISECOND, GAINS.mean(1))
    hold.arrived(BEGIN + 100 * MILLISECOND)
    hold.away = 0
    assert asked(hold, BEGIN + 100 * MILLISECOND) == 0.0


def test_it_never_waits_where_batching_gains_nothing() -> None:
    for hold, now in (after_returns(), after_clumps()):
        assert asked(hold, now, curve=GAINS_LITTLE) == 0.0


def test_a_full_batch_leaves_at_once() -> None:
    hold, now = after_clumps()
    assert asked(hold, now, rows=4, limit=4) == 0.0


def test_the_cap_bounds_the_wait_and_zero_turns_it_off() -> None:
    hold, now = after_clumps(hold=Hold(0.0))
    assert asked(hold, now) == 0.0
    hold, answered = after_returns(hold=Hold(150_000.0))
    hold.arrived(answered)
    assert 0.0 < asked(hold, answered) <= 150_000.0


def test_a_near_deadline_shortens_the_wait_or_forbids_it() -> None:
    hold, answered = after_returns()
    hold.arrived(answered)
    assert asked(hold, answered, slack=SHORTEST_NS - 1.0) == 0.0
    assert asked(hold, answered, slack=-5.0) == 0.0
    assert 0.0 < asked(hold, answered, slack=220_000.0) <= 220_000.0


def test_all_waits_for_one_batch_are_together_no_longer_than_alpha() -> None:
    hold, answered = after_returns()
    now = answered + 200_000
    hold.arrived(now)
    began = now
    while wait := asked(hold, now):
        assert now + wait - began <= GAINS.alpha + 1.0
        now += max(1, int(wait) // 2)  # somebody asks earlier than planned
    assert now - began <= GAINS.alpha


def test_a_released_hold_begins_anew() -> None:
    hold, now = after_clumps()
    assert asked(hold, now)
    hold.released()
    assert hold.held_since == 0
    assert asked(hold, now + 10_000)
    assert hold.held_since == now + 10_000


# -- figures ----------------------------------------------------------------------------------------


def test_the_rate_follows_the_arrivals_and_fades() -> None:
    hold = Hold()
    assert hold.rate(BEGIN) == 0.0
    hold.arrived(BEGIN)
    hold.completed(1, BEGIN, 3e6)
    assert hold.rate(BEGIN) == 0.0
    arrivals = poisson(2000, 1e6)
    for at in arrivals:
        hold.arrived(at)
    assert hold.rate(arrivals[-1]) == pytest.approx(1e-6, rel=0.5)
    assert hold.rate(arrivals[-1] + 30 * MILLISECOND) == pytest.approx(hold.rate(arrivals[-1]) / math.e)


def test_away_counts_answers_that_were_not_followed_by_a_request() -> None:
    hold = Hold()
    hold.arrived(BEGIN)
    assert hold.away == 0
    hold.completed(3, BEGIN, 3e6)
    hold.completed(2, BEGIN + MILLISECOND, 3e6)  # of another instance, meanwhile
    assert hold.away == 5
    hold.arrived(BEGIN + MILLISECOND)
    assert hold.away == 4
    hold.completed(2, BEGIN + 10 * MILLISECOND, 3e6)  # who has not returned by now does not count
    assert hold.away == 2


# -- what comes of it -------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_ms", [60.0, 10.0, 1.0, 0.3])
def test_independent_arrivals_are_as_fast_as_without_a_hold(mean_ms: float) -> None:
    arrivals = poisson(3000, mean_ms * MILLISECOND)
    held, greedy = Run(), Run(is_held=False)
    held.serve(arrivals)
    greedy.serve(arrivals)
    assert held.mean <= 1.01 * greedy.mean
    assert held.waited <= 0.01 * (arrivals[-1] - arrivals[0])


def test_clumps_are_faster_than_without_a_hold() -> None:
    chance = random.Random(3)
    starts = poisson(500, 120.0 * MILLISECOND)
    arrivals = [at + chance.randrange(50_000) for at in starts for _ in range(chance.randint(2, 6))]
    held, greedy = Run(), Run(is_held=False)
    held.serve(arrivals)
    greedy.serve(arrivals)
    assert held.mean < 0.8 * greedy.mean


@pytest.mark.parametrize("clients", [2, 4, 8, 16])
def test_clients_that_return_share_their_batches(clients: int) -> None:
    """Even two, of whom a greedy instance only ever sees one at a time, and so never a batch of both."""
    run = Run(is_closed=True)
    run.serve([BEGIN + 700_000 * client for client in range(clients)], batches=400)
    assert sum(run.sizes[100:]) > 0.9 * clients * 300
