"""Whether a measurement has settled: the last windows must agree with each other.

Called between windows by whoever runs a load; pure, so the same windows always get the same verdict. Fields
and defaults are those of Model Navigator's ``ProfilerConfig``, so that its configurations carry over.

A verdict is one of
    MORE      fewer windows than needed, or they disagree and another may be measured
    STABLE    the last windows agree in throughput and in latency
    UNSTABLE  the last windows disagree and no trial is left

Source: perf_analyzer's rule (docs/measurements_metrics.md): over the last three windows, the largest
throughput and the largest latency exceed the smallest by at most the stability percentage, and each window
has an answer. Navigator's looks at the average latency only; a percentile may be chosen instead.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from runtime.clock import MILLISECOND
from runtime.profiling.records import Window

DEFAULT_COUNT: Final = 50
"""Requests in a count window when none are configured; perf_analyzer's default."""


class MeasurementMode(enum.Enum):
    """What ends a window: its time, or its number of answers."""

    TIME_WINDOWS = "time_windows"
    COUNT_WINDOWS = "count_windows"


class State(enum.Enum):
    """See the module."""

    MORE = "more"
    STABLE = "stable"
    UNSTABLE = "unstable"


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilityRule:
    """When to believe a measurement.

    Attributes:
        measurement_mode: what ends a window. measurement_interval: ms of a time window; longer than the
        slowest cycle of the server, such as a garbage
            collection, or windows will not agree.
        measurement_request_count: answers in a count window, :data:`DEFAULT_COUNT` if None.
        stability_percentage: how much more the largest may be than the smallest, percent.
        max_trials: windows to measure at most.
        windows: how many of the last ones must agree.
        percentile: of the response time, in place of its average; None for the average.

    Raises:
        ValueError: a field is out of range.
    """

    measurement_mode: MeasurementMode = MeasurementMode.TIME_WINDOWS
    measurement_interval: float = 5000
    measurement_request_count: int | None = None
    stability_percentage: float = 10.0
    max_trials: int = 10
    windows: int = 3
    percentile: float | None = None

    def __post_init__(self) -> None:
        count = self.measurement_request_count
        for problem, reason in (
            (not self.measurement_interval > 0, "measurement_interval is above 0 ms"),
            (count is not None and count < 1, "measurement_request_count is at least 1"),
            (not self.stability_percentage > 0, "stability_percentage is above 0"),
            (self.windows < 2, "at least two windows can agree"),
            (self.max_trials < self.windows, f"max_trials is at least {self.windows}, as many as must agree"),
            (self.percentile is not None and not 0 < self.percentile < 100, "percentile lies in 0..100"),
        ):
            if problem:
                raise ValueError(reason)


@dataclass(frozen=True, slots=True)
class Stability:
    """The verdict.

    Attributes:
        state: the verdict.
        reason: why, with figures, for people.
        first: index of the first of the windows that it speaks about; they are the ones to report.
    """

    state: State
    reason: str
    first: int = 0


def judge(windows: Sequence[Window], rule: StabilityRule) -> Stability:
    """Judge the windows measured so far, in order; only the last ``rule.windows`` are looked at."""
    if len(windows) < rule.windows:
        return Stability(State.MORE, f"{len(windows)} of {rule.windows} windows measured")
    first = len(windows) - rule.windows
    reason = _disagreement(windows[first:], rule)
    if reason is None:
        within = f"within {rule.stability_percentage:g} %"
        return Stability(State.STABLE, f"the last {rule.windows} windows agree {within}", first)
    state = State.MORE if len(windows) < rule.max_trials else State.UNSTABLE
    return Stability(state, f"{reason} in the last {rule.windows} of {len(windows)} windows", first)


def measurement_windows(windows: Iterable[Window], rule: StabilityRule) -> list[Window]:
    """Merge short adjacent windows into those of the rule: long enough, or with enough answers.

    The windows given are left as they are. A rest that is too short for a window is left out.
    """
    made: list[Window] = []
    held: Window | None = None
    for window in windows:
        held = held or Window(window.start_ns, window.end_ns)
        held.merge(window)
        if _is_full(held, rule):
            made.append(held)
            held = None
    return made


def _is_full(window: Window, rule: StabilityRule) -> bool:
    if rule.measurement_mode is MeasurementMode.TIME_WINDOWS:
        return window.end_ns - window.start_ns >= round(rule.measurement_interval * MILLISECOND)
    return window.ok >= (rule.measurement_request_count or DEFAULT_COUNT)


def _disagreement(windows: Sequence[Window], rule: StabilityRule) -> str | None:
    """Why these windows do not agree; None if they do."""
    if not all(window.ok for window in windows):
        return "a window without an answer"
    latencies = [_latency_ns(window, rule.percentile) for window in windows]
    name = "average latency" if rule.percentile is None else f"p{rule.percentile:g}"
    for what, figures in (("throughput", [window.achieved for window in windows]), (name, latencies)):
        low, high = min(figures), max(figures)
        if high > low * (1 + rule.stability_percentage / 100):
            over = f"by {100 * (high / low - 1):.1f} %" if low else "from 0"
            return f"{what} varies {over}"
    return None


def _latency_ns(window: Window, percentile: float | None) -> float:
    return window.response.mean_ns if percentile is None else window.response.percentile(percentile)
