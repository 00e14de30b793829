"""What came of one case under one rule: the requests of all its runs, and the figures over them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.batching.models import per_second
from benchmarks.batching.setup import Request, Trace
from runtime.clock import MILLISECOND


class Run:
    """The requests of one run, in the order in which they were sent.

    Attributes:
        born_ns: when.
        ms: how long each took; negative if it was not answered.
        in_time: whether it was answered before its caller gave up.
        shapes, levels: of each.
    """

    __slots__ = ("born_ns", "in_time", "levels", "ms", "shapes")

    def __init__(self, requests: Sequence[Request]) -> None:
        self.born_ns = array("q", [request.born_ns for request in requests])
        self.ms = array(
            "d", [(r.answered_ns - r.born_ns) / MILLISECOND if r.answered_ns else -1.0 for r in requests]
        )
        self.in_time = bytes(
            [r.answered_ns > 0 and (not r.due_ns or r.answered_ns <= r.due_ns) for r in requests]
        )
        self.shapes = bytes([request.shape for request in requests])
        self.levels = bytes([request.priority for request in requests])


@dataclass(slots=True)
class Figures:
    """Of all runs of one case together.

    Attributes:
        runs: the requests of each.
        batches: how many were executed.
        rows: in them.
        idle_alarms, overdue_alarms: see ``Trace``.
    """

    runs: list[Run] = field(default_factory=list)
    batches: int = 0
    rows: int = 0
    idle_alarms: int = 0
    overdue_alarms: int = 0
    _sorted: list[float] = field(default_factory=list)

    def add(self, trace: Trace) -> None:
        """Take in one run."""
        self.runs.append(Run(trace.requests))
        self.batches += len(trace.batches)
        self.rows += sum(trace.batches)
        self.idle_alarms += trace.idle_alarms
        self.overdue_alarms += trace.overdue_alarms
        self._sorted.clear()

    @property
    def latencies(self) -> Sequence[float]:
        """Of all that were answered, ascending, ms."""
        if not self._sorted:
            self._sorted = sorted(ms for run in self.runs for ms in run.ms if ms >= 0)
        return self._sorted

    @property
    def mean(self) -> float:
        """Latency, ms."""
        return sum(self.latencies) / len(self.latencies)

    @property
    def p50(self) -> float:
        """Latency, ms."""
        return percentile(self.latencies, 0.5)

    @property
    def p99(self) -> float:
        """Latency, ms."""
        return percentile(self.latencies, 0.99)

    @property
    def mean_batch(self) -> float:
        """Rows."""
        return self.rows / self.batches

    @property
    def in_time(self) -> float:
        """Share of all requests that were answered before their callers gave up."""
        return self.in_time_of(0)

    def in_time_of(self, first: int, last: int | None = None) -> float:
        """The same of some of the requests of each run, by their numbers."""
        chosen = [run.in_time[first:last] for run in self.runs]
        return sum(map(sum, chosen)) / sum(map(len, chosen))

    @property
    def rate(self) -> float:
        """Answers per second, from the first tenth of the requests on until the last one was sent."""
        answers, span = 0, 0.0
        for run in self.runs:
            begin, end = run.born_ns[len(run.born_ns) // 10], run.born_ns[-1]
            ended = [born + ms * MILLISECOND for born, ms in zip(run.born_ns, run.ms, strict=True) if ms >= 0]
            answers += sum([begin < at <= end for at in ended])
            span += end - begin
        return per_second(answers / span)

    def p99_of(self, *, shape: int = -1, level: int = -1) -> float:
        """Latency, ms, of the requests of one shape, or of one priority level."""
        chosen = [
            ms
            for run in self.runs
            for ms, its_shape, its_level in zip(run.ms, run.shapes, run.levels, strict=True)
            if ms >= 0 and (its_shape == shape or its_level == level)
        ]
        return percentile(sorted(chosen), 0.99)

    def in_time_within(self, begins_ns: Sequence[int], length_ns: float, *, skip_ns: float = 0) -> float:
        """Share in time of what was sent in one window of each run.

        Args:
            begins_ns: of the windows, one for each run.
            length_ns: of the window.
            skip_ns: of it, that do not count.
        """
        hits = [
            in_time
            for run, begin in zip(self.runs, begins_ns, strict=True)
            for born, in_time in zip(run.born_ns, run.in_time, strict=True)
            if begin + skip_ns <= born < begin + length_ns
        ]
        return sum(hits) / len(hits)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the ascending values does not exceed; 0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
