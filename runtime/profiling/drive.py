"""Carries out one process' share of a load: two threads, the taker and the pacer.

The taker does nothing but wait for answers, stamp and book them; in a closed loop it sends the next request
at once. The pacer sleeps: until the next intended send in an open loop, else until the next tick. Two
threads, because the C library's wait ends only at whole milliseconds, while a sleep ends within some 15 us:
one thread would have to spin. At load a request costs no more than with one (measured).

Latency counts from the intended send. In an open loop the schedule does not wait for anything: a stopped
server finds all requests that were due meanwhile, up to ``max_in_flight``. In a closed loop a request is
intended when it is sent; a caller that was refused waits ``REFUSED_PAUSE_NS``, as otherwise a dead server
would be asked as fast as this process can.

Every request ends in the ledger: what is unanswered when patience ends is cancelled and counts as expired,
what was due and could not be sent counts as dropped.
"""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from runtime.clock import MILLISECOND, SECOND, now_ns
from runtime.profiling.arrivals import offsets, shares
from runtime.profiling.ledger import Ledger
from runtime.profiling.link import TICK_NS, Tick
from runtime.profiling.recording import Deck
from runtime.profiling.records import Load, Outcome
from runtime.profiling.sender import Sender

PATIENCE_NS: Final = 10 * SECOND
"""How long answers are waited for after the last send, for calls without a deadline."""

STOP_PATIENCE_NS: Final = SECOND
"""The same after an early stop; and what is added to the deadline of calls that have one."""

REFUSED_PAUSE_NS: Final = 10 * MILLISECOND
LEAD_NS: Final = 15_000
"""A sleep ends this much later than asked, in the median, with a timer slack of 1 ns."""

NEVER: Final = 1 << 62

Report = Callable[[Tick], bool]
"""Takes a tick; false when the run shall stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One process' part.

    Attributes:
        load: the whole load.
        share: which of its processes this is.
        start_ns: when the load, with its warm-up, begins.
        window_ns: length of the windows.
    """

    load: Load
    share: int
    start_ns: int
    window_ns: int

    @property
    def measured_ns(self) -> int:
        """Where the measurement begins."""
        return self.start_ns + round(self.load.warm_up_s * SECOND)

    @property
    def end_ns(self) -> int:
        """Nothing is sent from here on; far away when requests are counted."""
        return NEVER if self.load.count else self.measured_ns + round(self.load.duration_s * SECOND)

    @property
    def count(self) -> int:
        """Measured requests of this process; without bound when the time is."""
        return shares(self.load.count, self.load.processes)[self.share] if self.load.count else NEVER

    @property
    def concurrency(self) -> int:
        """Calls in flight of this process."""
        return shares(self.load.concurrency, self.load.processes)[self.share]

    @property
    def timeout_s(self) -> float | None:
        """Deadline of each call."""
        return self.load.timeout_ms / 1000 if self.load.timeout_ms else None


class Drive(Protocol):
    """A loop of either kind."""

    ledger: Ledger

    def run(self) -> int:
        """Carry out the plan.

        Returns:
            When sending ended, if that was before the plan's end (trace or count used up, or stopped), else
            0.
        """


class _Loop(ABC):
    """What both kinds share: payloads in turn, ticks, and the end."""

    def __init__(self, sender: Sender, plan: Plan, deck: Deck, report: Report) -> None:
        self.ledger = Ledger(
            plan.measured_ns,
            plan.window_ns,
            [payload.rows for payload in deck.payloads],
            has_slip=plan.load.mode == "open",
        )
        self._sender = sender
        self._plan = plan
        self._order = deck.order
        self._data = [payload.data for payload in deck.payloads]
        self._numbers: Iterator[int] = itertools.count(plan.share, plan.load.processes)
        self._report = report
        self._next_tick = plan.start_ns + TICK_NS
        self._not_ok = 0
        self._stopped = False
        self._error: BaseException | None = None
        if not plan.load.count:
            self.ledger.cover(plan.end_ns)

    def run(self) -> int:
        """Carry out the plan."""
        taker = threading.Thread(target=self._guarded_take, name="taker", daemon=True)
        self._sleep_until(self._plan.start_ns)
        taker.start()
        ended_ns = self._pace()
        self._drain()
        for _ in range(3):  # what was booked last is reported two ticks later
            self._tick(now_ns())
        if self._error is not None:
            raise self._error
        return ended_ns

    # -- for the kinds ------------------------------------------------------------------------------

    @abstractmethod
    def _pace(self) -> int:
        """Send until the end; return when it came."""

    @abstractmethod
    def _take(self) -> None:
        """Book answers until everything is over."""

    @abstractmethod
    def _in_flight(self) -> int:
        """Calls sent and not answered."""

    # -- pacer --------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Wait for what is in flight, then give it up."""
        timeout_ns = round(self._plan.load.timeout_ms * MILLISECOND)
        patience = timeout_ns + STOP_PATIENCE_NS if timeout_ns else PATIENCE_NS
        if self._stopped:
            patience = STOP_PATIENCE_NS
        self._wait_empty(now_ns() + patience)
        if self._in_flight() > 0:
            self.ledger.given_up = True
            self._sender.close()
            self._wait_empty(now_ns() + PATIENCE_NS)

    def _wait_empty(self, until_ns: int) -> None:
        while self._in_flight() > 0 and self._error is None and (at := now_ns()) < until_ns:
            self._sleep_until(at + 2 * MILLISECOND)

    def _sleep_until(self, due_ns: int) -> int:
        """Sleep, with ticks in between; returns now, a little before or after ``due_ns``."""
        at = now_ns()
        while due_ns - at > LEAD_NS:
            until = min(due_ns, self._next_tick)
            if until - at > LEAD_NS:
                time.sleep((until - at - LEAD_NS) / SECOND)
            at = now_ns()
            if at + LEAD_NS >= self._next_tick:
                self._tick(at)
                if self._stopped:
                    break
                at = now_ns()
        return at

    def _tick(self, at: int) -> None:
        """Book processor time, make windows, tell the engine."""
        if self._plan.load.count:
            self.ledger.cover(at + 2 * SECOND)
        self.ledger.book_cpu(at)
        not_ok, self._not_ok = self._not_ok, self.ledger.not_ok
        tick = Tick(at, self._not_ok - not_ok, self._in_flight(), self.ledger.recent())
        while self._next_tick <= at + LEAD_NS:
            self._next_tick += TICK_NS
        if not self._report(tick) or self._error is not None:
            self._stopped = True

    # -- taker --------------------------------------------------------------------------------------

    def _guarded_take(self) -> None:
        try:
            self._take()
        except BaseException as error:  # noqa: BLE001 - raised again by the pacer
            self._error = error


class OpenLoop(_Loop):
    """Sends at set times."""

    def __init__(self, sender: Sender, plan: Plan, deck: Deck, report: Report) -> None:
        super().__init__(sender, plan, deck, report)
        self._sent = 0  # the pacer's
        self._done = 0  # the taker's

    def _in_flight(self) -> int:
        return self._sent - self._done

    def _pace(self) -> int:
        plan, left = self._plan, self._plan.count
        give_up_ns = plan.end_ns + PATIENCE_NS
        for offset in offsets(plan.load, plan.share):
            due = plan.start_ns + offset
            if due >= plan.end_ns:
                return 0
            if due >= plan.measured_ns:
                if left == 0:
                    return min(now_ns(), due)
                left -= 1
            if self._offer(due, give_up_ns):
                return now_ns()
        return now_ns()

    def _offer(self, due: int, give_up_ns: int) -> bool:
        """Send at the set time, or drop; true if the run was stopped, the request is then not counted."""
        at = self._sleep_until(due)
        if at >= self._next_tick:  # never idle: nothing else would tick
            self._tick(at)
        if self._stopped:
            return True
        number = next(self._numbers)
        if self._in_flight() >= self._plan.load.max_in_flight or at > give_up_ns:
            self.ledger.drop(due)
            return False
        payload = self._order[number % len(self._order)]
        while (sent := now_ns()) < due:  # at most LEAD_NS, too short for another sleep
            pass
        self._sent += 1
        self._sender.send(self._data[payload], (due, sent, payload), self._plan.timeout_s)
        return False

    def _take(self) -> None:
        take, book, now = self._sender.take, self.ledger.book, now_ns
        while True:
            tag, code = take()
            book(tag, code, now())
            self._done += 1


class ClosedLoop(_Loop):
    """Keeps a number of calls in flight."""

    def __init__(self, sender: Sender, plan: Plan, deck: Deck, report: Report) -> None:
        super().__init__(sender, plan, deck, report)
        self._measured: Iterator[int] = itertools.count()
        self._refused: deque[int] = deque()
        self._retired = [0, 0]  # callers that have ended: by the pacer, by the taker
        self._end_ns = plan.end_ns

    def _in_flight(self) -> int:
        """Callers that have not ended, those that pause included."""
        return self._plan.concurrency - sum(self._retired)

    def _pace(self) -> int:
        for _ in range(self._plan.concurrency):
            self._send(0)
        while self._in_flight() > 0 and (at := now_ns()) < self._end_ns:
            self._sleep_until(min(at + REFUSED_PAUSE_NS, self._end_ns))
            self._resume()
            if self._stopped:
                self._end_ns = min(self._end_ns, now_ns())
        self._resume()
        return 0 if self._end_ns == self._plan.end_ns < NEVER else now_ns()

    def _drain(self) -> None:
        super()._drain()
        self._resume()

    def _wait_empty(self, until_ns: int) -> None:
        while self._in_flight() > 0 and self._error is None and (at := now_ns()) < until_ns:
            self._resume()
            self._sleep_until(at + 2 * MILLISECOND)

    def _resume(self) -> None:
        """Let those go on that were refused at least a pause ago."""
        while self._refused:
            at = now_ns()
            if self._refused[0] > at and at < self._end_ns:
                return
            self._refused.popleft()
            self._send(0)

    def _send(self, thread: int) -> None:
        """Let a caller ask once more, or end."""
        at = now_ns()
        is_over = at >= self._end_ns
        if at >= self._plan.measured_ns and not is_over:
            is_over = next(self._measured) >= self._plan.count
        if is_over:
            self._retired[thread] += 1
            return
        payload = self._order[next(self._numbers) % len(self._order)]
        self._sender.send(self._data[payload], (at, at, payload), self._plan.timeout_s)

    def _take(self) -> None:
        take, book, now = self._sender.take, self.ledger.book, now_ns
        while True:
            tag, code = take()
            at = now()
            if book(tag, code, at) == Outcome.REJECTED:
                self._refused.append(at + REFUSED_PAUSE_NS)
            else:
                self._send(1)
