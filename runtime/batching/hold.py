"""Whether an idle instance waits a moment for company. Pure.

With independent arrivals an idle instance should take at once what is queued: waiting can only lose. It can
gain where arrivals depend on one another, and two such patterns are learned here:

- *Returning clients*: a client that sends its next request when it has the answer to the last one comes back
  soon after a batch was answered. Taking the first that return leaves the others to wait for a whole batch.
- *Clumps*: a caller sends several requests in one go, and the first of them is here.

The hold says how long to wait, from what the wait is expected to save those who are queued, those who come
in time and those who come too late, less what it costs them. It never exceeds ``alpha``, which is what
one batch less saves, so a model that gains little from batching is hardly ever held. Nobody is waited for
twice: who was answered and has sent again is no longer expected.

A request counts as one row where it is expected, and so for too little if it brings more: then the hold is
shorter than it could be, never longer.

Source: the constants were chosen by simulation and are insensitive where that was tested.
"""

from __future__ import annotations

import math
from typing import Final

from runtime.batching.arrivals import ENOUGH, LIKELY, Gaps, Returns
from runtime.batching.latency import LatencyCurve

SHORTEST_NS: Final = 100_000
"""Shorter waits are none: the event loop cannot keep them."""

SHARES: Final = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)
"""Waits that are tried, as shares of the longest that is allowed."""

BURST: Final = 1.5
"""Company must come at so many times the mean rate to be worth waiting for."""

TAIL: Final = 2.0
"""What those who would just miss the batch gain counts so many times: they are the slow ones."""

RATE_SPAN: Final = 10.0
"""The mean rate is taken over about so many executions of one row."""


class Hold:
    """Learns when requests come, and says how long to wait for the next ones.

    Args:
        cap_ns: no wait is longer than that either; 0 = never wait.

    Attributes:
        away: requests that were answered lately and have not been followed by another one.
        held_since: when the present wait began, 0 if there is none.

    Concurrency: none of its own; the scheduler's lock guards it. Instants must not decrease.
    """

    __slots__ = ("_arrived_ns", "_cap_ns", "_gaps", "_rate", "_returns", "_span_ns", "away", "held_since")

    def __init__(self, cap_ns: float = math.inf) -> None:
        self._cap_ns = cap_ns
        self._gaps = Gaps()
        self._returns = Returns()
        self._arrived_ns = 0
        self._rate = 0.0
        self._span_ns = 0.0
        self.away = 0
        self.held_since = 0

    def arrived(self, now_ns: int) -> None:
        """Count a request that was admitted."""
        if self._arrived_ns:
            self._gaps.add(now_ns - self._arrived_ns)
        if self._span_ns:
            self._rate = self.rate(now_ns) + 1.0 / self._span_ns
            self._returns.add(now_ns)
        self._arrived_ns = now_ns
        if self.away:
            self.away -= 1

    def completed(self, tasks: int, now_ns: int, single_ns: float) -> None:
        """Count a batch that was answered.

        Args:
            tasks: requests that it answered.
            now_ns: now.
            single_ns: how long one row takes, which is the unit of all that is short or long here.
        """
        if now_ns - self._returns.last_ns > single_ns:
            self.away = 0
        self.away += tasks
        if single_ns > 0.0:
            self._span_ns = RATE_SPAN * single_ns
        self._returns.completed(tasks, now_ns)

    def rate(self, now_ns: int) -> float:
        """Requests per nanosecond, lately; 0 before the first batch was answered."""
        if not self._rate:
            return 0.0
        return self._rate * math.exp((self._arrived_ns - now_ns) / self._span_ns)

    def released(self) -> None:
        """The wait is over: the batch has left, or there is nobody any more who waits."""
        self.held_since = 0

    def wait(
        self, rows: int, limit: int, curve: LatencyCurve, now_ns: int, *, residual_ns: float, slack_ns: float
    ) -> float:
        """How many nanoseconds to wait at most for company, 0 for none.

        To be asked when exactly one instance is idle and all that is queued fits into one batch. Who waits
        asks again at each arrival and at the end of the wait, until the answer is 0.

        Args:
            rows: that are queued.
            limit: most rows of a batch.
            curve: of the batch.
            now_ns: now.
            residual_ns: after which the first of the busy instances is expected to be idle, infinity if none
                is busy.
            slack_ns: the wait that the first deadline allows, infinity if there is none.

        Complexity: below a microsecond where the model or the deadline leaves nothing to wait for.
        """
        held = now_ns - self.held_since if self.held_since else 0
        budget = min(min(curve.alpha, self._cap_ns) - held, slack_ns)
        if budget < SHORTEST_NS or rows >= limit:
            return 0.0
        if self._returns.completions < ENOUGH or self._gaps.count < ENOUGH:
            return 0.0
        question = _Question(rows, limit, curve, self.rate(now_ns), residual_ns)
        returns = self._returns
        since = now_ns - returns.last_ns
        wait = self._for_returning(question, budget, since, returns.tasks, self.away)
        wait = wait or self._for_clump(question, budget, now_ns)
        if wait and not self.held_since:
            self.held_since = now_ns
        return wait

    def awaits(self, tasks: int, rows: int, limit: int, curve: LatencyCurve, now_ns: int) -> bool:
        """Whether a batch that is executed now will be waited for, once it is answered.

        Args:
            tasks: requests that it will answer.
            rows: that are queued.
            limit: most rows of a batch.
            curve: of the batch.
            now_ns: now.
        """
        budget = min(curve.alpha, self._cap_ns)
        if budget < SHORTEST_NS or rows >= limit or self._returns.completions < ENOUGH:
            return False
        question = _Question(rows, limit, curve, self.rate(now_ns), math.inf)
        return self._for_returning(question, budget, 0, tasks, tasks) > 0.0

    def _for_returning(
        self, question: _Question, budget: float, since_ns: int, tasks: int, away: int
    ) -> float:
        """The most valuable wait for those of ``tasks`` whom a batch answered ``since_ns`` ago."""
        most = best = 0.0
        room = min(away, question.room)
        if room:
            waits = _waits(budget)
            for wait, expected in zip(waits, self._returns.expected(since_ns, tasks, waits), strict=True):
                company = expected if expected < room else room
                if company >= 0.5 and company >= BURST * question.rate * wait:
                    value = question.returning(wait, company)
                    if value > most:
                        most, best = value, wait
                if expected >= room:
                    break  # nobody else is expected
        return best

    def _for_clump(self, question: _Question, budget: float, now_ns: int) -> float:
        """The most valuable wait for the next one of a clump."""
        most = best = 0.0
        budget /= max(1.0, 3.0 * question.rate * budget)  # no longer than a third of the mean gap
        if budget >= SHORTEST_NS:
            waits = _waits(budget)
            gain, cost = question.clump()
            chances = self._gaps.next(now_ns - self._arrived_ns, waits)
            for wait, (chance, mean) in zip(waits, chances, strict=True):
                value = chance * gain - cost * mean
                if chance > LIKELY and value > most:
                    most, best = value, wait
        return best


def _waits(longest: float) -> list[float]:
    """The waits to try, ascending."""
    return [SHORTEST_NS, *[wait for share in SHARES if (wait := share * longest) > SHORTEST_NS]]


class _Question:
    """What a wait is worth, in nanoseconds of everybody's time together.

    Args:
        rows: that would go now.
        limit: most rows of a batch.
        curve: of the batch.
        rate: at which others come whatever is decided.
        residual_ns: after which another instance takes those who miss the batch.
    """

    __slots__ = ("curve", "now", "rate", "residual", "room", "rows")

    def __init__(self, rows: int, limit: int, curve: LatencyCurve, rate: float, residual_ns: float) -> None:
        alone = curve.mean(rows)
        self.rows = rows
        self.room = limit - rows
        self.curve = curve
        self.rate = rate
        self.residual = min(alone, residual_ns)
        self.now = rows * alone

    def returning(self, wait: float, company: float) -> float:
        """Worth of waiting that long for so many: they are spared the batch that would go without them."""
        others = self.rate * max(0.0, self.residual - wait)
        mean = self.curve.mean
        apart = self.now + TAIL * company * (self.residual + mean(company + others))
        together = (self.rows + TAIL * company) * (wait + mean(self.rows + company))
        return apart - together - others * wait

    def clump(self) -> tuple[float, float]:
        """What is gained if one more comes in time, and what each nanosecond of waiting for that costs."""
        others = self.rate * self.residual
        mean = self.curve.mean
        apart = self.now + self.residual + mean(1.0 + others)
        together = (self.rows + 1) * mean(self.rows + 1)
        return apart - together, self.rows + 1 + others
