"""Books what became of each request of one generator process.

Two threads write: the taker books answers; the pacer books drops and processor time and makes windows. Each
figure has one writer, so that nothing on the way of an answer takes a lock.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Sequence
from typing import Final

from runtime.profiling.records import Outcome, Window
from runtime.profiling.sender import CANCELLED, Tag

_STATUSES: Final = 17
_DEADLINE_EXCEEDED: Final = 4
_REJECTIONS: Final = (8, 14)  # RESOURCE_EXHAUSTED, UNAVAILABLE


def outcome_of(code: int) -> Outcome:
    """What a gRPC status counts as."""
    if code == 0:
        return Outcome.OK
    if code == _DEADLINE_EXCEEDED:
        return Outcome.EXPIRED
    return Outcome.REJECTED if code in _REJECTIONS else Outcome.FAILED


class Ledger:
    """Windows of one process.

    Args:
        start_ns: where the measurement begins; what was intended before is warm-up and not booked.
        window_ns: length of a window.
        rows: rows of each payload.
        has_slip: whether sends had set times (open loop).

    Attributes:
        windows: from ``start_ns`` on, without a gap.
        given_up: set once calls are cancelled because the run is over: they count as expired.
        not_ok: answers that were not OK, warm-up included.
    """

    def __init__(self, start_ns: int, window_ns: int, rows: Sequence[int], *, has_slip: bool) -> None:
        self.windows: list[Window] = []
        self.given_up = False
        self.not_ok = 0
        self._start_ns = start_ns
        self._window_ns = window_ns
        self._rows = rows
        self._has_slip = has_slip
        self._outcomes = [outcome_of(code) for code in range(_STATUSES)]
        self._fresh = array("q")
        self._ripe = array("q")
        self._growing = threading.Lock()
        self._cpu_ns = time.process_time_ns()
        self.cover(start_ns)

    def cover(self, until_ns: int) -> None:
        """Make windows up to an instant, and one to spare (pacer, ahead of the answers; any thread may)."""
        with self._growing:
            while len(self.windows) <= (until_ns - self._start_ns) // self._window_ns + 1:
                start = self._start_ns + len(self.windows) * self._window_ns
                self.windows.append(Window(start, start + self._window_ns))

    def book(self, tag: Tag, code: int, at_ns: int) -> Outcome:
        """Book an answer (taker)."""
        intended, sent, payload = tag
        outcome = self._outcomes[code]
        if outcome:
            self.not_ok += 1
            if code == CANCELLED and self.given_up:
                outcome = Outcome.EXPIRED
        else:
            self._fresh.append(at_ns - intended)
        if intended >= self._start_ns:
            index = (intended - self._start_ns) // self._window_ns
            if index >= len(self.windows):
                self.cover(intended)
            window = self.windows[index]
            window.counts[outcome] += 1
            if self._has_slip:
                window.slip.record(sent - intended)
            if not outcome:
                window.response.record(at_ns - intended)
                window.service.record(at_ns - sent)
                window.rows += self._rows[payload]
        return outcome

    def drop(self, intended_ns: int) -> None:
        """Book a request that was not sent (pacer)."""
        if intended_ns >= self._start_ns:
            self.cover(intended_ns)
            self.windows[(intended_ns - self._start_ns) // self._window_ns].counts[Outcome.DROPPED] += 1

    def book_cpu(self, at_ns: int) -> None:
        """Book the processor time since the last call in the window of ``at_ns`` (pacer)."""
        used, self._cpu_ns = self._cpu_ns, time.process_time_ns()
        if at_ns >= self._start_ns:
            index = min((at_ns - self._start_ns) // self._window_ns, len(self.windows) - 1)
            self.windows[index].cpu_ns += self._cpu_ns - used

    def recent(self) -> array[int]:
        """Response times of OK answers between the last two calls but one (pacer).

        The list that was just replaced may be appended to for one instant more, hence the delay of one call.
        """
        ready, self._ripe, self._fresh = self._ripe, self._fresh, array("q")
        return ready
