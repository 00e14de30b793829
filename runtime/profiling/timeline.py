"""What has happened so far, in steps of 100 ms by the time of the answers: for live figures and for plots."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.link import TICK_NS, Tick
from runtime.profiling.records import Load

RECENT_STEPS: Final = 10
"""Steps that live figures are taken from: one second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a run is coming along.

    Attributes:
        elapsed_s: since the load began, warm-up included.
        fraction: of the whole, 0 to 1.
        is_warm_up: whether nothing counts yet.
        ok, not_ok: answers so far.
        rate: OK answers per second, p50_ms, p99_ms: response times, all over the last second.
        in_flight: calls open.
    """

    elapsed_s: float
    fraction: float
    is_warm_up: bool
    ok: int
    not_ok: int
    rate: float
    p50_ms: float
    p99_ms: float
    in_flight: int


@dataclass(slots=True)
class _Step:
    responses: array[int] = field(default_factory=lambda: array("q"))
    not_ok: int = 0
    in_flight: dict[int, int] = field(default_factory=dict)

    def percentile(self, q: float) -> int:
        return _percentile(self.responses, q)


class Timeline:
    """Ticks of all processes put together.

    Args:
        start_ns: when the load began.
        load: for how far it is.
    """

    def __init__(self, start_ns: int, load: Load) -> None:
        self.last_ns = start_ns
        self._start_ns = start_ns
        self._load = load
        self._steps: defaultdict[int, _Step] = defaultdict(_Step)
        self._ok = 0
        self._not_ok = 0

    def add(self, share: int, tick: Tick) -> None:
        """Book a tick; the step is that in which its span lies for the most part."""
        index = max(0, (tick.at_ns - self._start_ns - TICK_NS // 2) // TICK_NS)
        step = self._steps[index]
        step.responses.extend(tick.responses)
        step.not_ok += tick.not_ok
        step.in_flight[share] = tick.in_flight
        self._ok += len(tick.responses)
        self._not_ok += tick.not_ok
        self.last_ns = max(self.last_ns, tick.at_ns)

    def rows(self) -> list[tuple[int, ...]]:
        """``(t_ms, ok, not ok, p50_us, p99_us, in flight)`` from the beginning, without a gap."""
        rows: list[tuple[int, ...]] = []
        in_flight: dict[int, int] = {}
        for index in range(max(self._steps, default=-1) + 1):
            step = self._steps.get(index, _Step())
            in_flight |= step.in_flight
            p50, p99 = step.percentile(0.5) // 1000, step.percentile(0.99) // 1000
            rows.append(
                (
                    index * TICK_NS // MILLISECOND,
                    len(step.responses),
                    step.not_ok,
                    p50,
                    p99,
                    sum(in_flight.values()),
                )
            )
        return rows

    def progress(self, now_ns: int) -> Progress:
        """Live figures."""
        newest = max(self._steps, default=0)
        recent = [self._steps[i] for i in range(newest - RECENT_STEPS + 1, newest + 1) if i in self._steps]
        responses = array("q")
        for step in recent:
            responses.extend(step.responses)
        elapsed_s = max(0, now_ns - self._start_ns) / SECOND
        span_s = max(1, min(newest + 1, RECENT_STEPS)) * TICK_NS / SECOND
        return Progress(
            elapsed_s=elapsed_s,
            fraction=self._fraction(elapsed_s),
            is_warm_up=elapsed_s < self._load.warm_up_s,
            ok=self._ok,
            not_ok=self._not_ok,
            rate=len(responses) / span_s,
            p50_ms=_percentile(responses, 0.5) / MILLISECOND,
            p99_ms=_percentile(responses, 0.99) / MILLISECOND,
            in_flight=sum(recent[-1].in_flight.values()) if recent else 0,
        )

    def _fraction(self, elapsed_s: float) -> float:
        if self._load.count:
            return min(1.0, (self._ok + self._not_ok) / self._load.count)
        return min(1.0, elapsed_s / (self._load.warm_up_s + self._load.duration_s))


def _percentile(values: array[int], q: float) -> int:
    """Nearest rank; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0
