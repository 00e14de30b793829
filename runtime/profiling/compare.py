"""Two results side by side: what changed, whether it is more than noise, and whether it is a regression.

Called by the command line and by CI. Pure: results in, records out.

Points are the same if the same load was offered under the same labels, for however long and from however
many processes. A figure is compared by the ratio B / A and the interval of that ratio, made from the two
intervals. Verdicts of a figure:
    REGRESSED   worse by more than the bound, and the interval does not hold 1
    IMPROVED    better by more than the bound, and the interval does not hold 1
    SAME        the whole interval is within the bound, or the change is real but smaller than the bound
    UNCLEAR     the interval holds 1 but reaches beyond the bound: measure longer
    INVALID     the generator was the limit in one of the runs: nothing follows

Many figures are compared at once, and one in twenty would differ by chance alone. The confidence is
therefore that of *all* verdicts together (Bonferroni). Runs of the same point in one result are repeats:
three or more of them count as one window each, so that what varies from run to run is in the interval;
fewer give all their windows.

Source: Zou and Donner, "Construction of confidence limits about effect measures: a general approach",
Statistics in Medicine 27 (2008): the interval of a difference, here of logarithms, from the two intervals
(MOVER).
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runtime.profiling.intervals import (
    CONFIDENCE,
    Interval,
    achieved_interval,
    goodput_interval,
    percentile_interval,
    share_interval,
)
from runtime.profiling.records import Run, Window

FORMAT: Final = 1
"""Version of the result file."""

REPEATS: Final = 3
"""Runs of one point from which each run counts as one window."""

_OFFERED: Final = {
    "closed": ("mode", "concurrency", "timeout_ms"),
    "open": ("mode", "rate", "arrivals", "burst", "trace", "timeout_ms"),
}
"""Fields of a load that make it the same load."""


class Verdict(enum.Enum):
    """See the module."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    SAME = "same"
    UNCLEAR = "unclear"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that is compared.

    Attributes:
        name: as shown, with its unit. interval: the figure over windows, with a confidence and the SLO in
        ms (0 for none); None if it has none. higher_is_better: which way is worse.
    """

    name: str
    interval: Callable[[Sequence[Window], float, float], Interval | None]
    higher_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one point in both results.

    Attributes:
        point: load and labels, for people.
        metric: name of the figure.
        a: the figure in the first result.
        b: the figure in the second.
        ratio: B / A with its interval; None if one of them has no figure.
        is_significant: the interval does not hold 1.
        verdict: see the module.
    """

    point: str
    metric: str
    a: Interval | None
    b: Interval | None
    ratio: Interval | None
    is_significant: bool
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            "point": self.point,
            "metric": self.metric,
            "a": self.a and self.a.to_dict(),
            "b": self.b and self.b.to_dict(),
            "ratio": self.ratio and self.ratio.to_dict(),
            "is_significant": self.is_significant,
            "verdict": self.verdict.value,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The whole comparison.

    Attributes:
        comparisons: every figure of every point that both results have.
        notes: what else people should know: points that only one has, environments that differ.
    """

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_regressed(self) -> bool:
        """Whether any figure has."""
        return any(c.verdict is Verdict.REGRESSED for c in self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {"comparisons": [c.to_dict() for c in self.comparisons], "notes": list(self.notes)}


def percentile_metric(percentile: float) -> Metric:
    """A percentile of the response time, in ns."""
    return Metric(
        f"p{percentile:g}",
        lambda windows, confidence, _: percentile_interval(
            [window.response for window in windows], percentile, confidence
        ),
    )


def _ok_share(windows: Sequence[Window], confidence: float, _: float) -> Interval | None:
    return share_interval([w.ok for w in windows], [w.requests for w in windows], confidence)


def _goodput(windows: Sequence[Window], confidence: float, slo_ms: float) -> Interval | None:
    return goodput_interval(windows, slo_ms, confidence) if slo_ms else None


METRICS: Final = (
    percentile_metric(50),
    percentile_metric(90),
    percentile_metric(99),
    Metric(
        "achieved",
        lambda windows, confidence, _: achieved_interval(windows, confidence),
        higher_is_better=True,
    ),
    Metric("goodput", _goodput, higher_is_better=True),
    Metric("ok share", _ok_share, higher_is_better=True),
)
"""What is compared unless something else is asked for."""


def compare(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    *,
    bound_percent: float = 5.0,
    metrics: Sequence[Metric] = METRICS,
    confidence: float = CONFIDENCE,
) -> Report:
    """Compare two results, as read from their files.

    Args:
        a: the result to compare with.
        b: the result in question.
        bound_percent: by how much a figure may be worse.
        metrics: what to compare.
        confidence: that no verdict is owed to chance.

    Raises:
        ValueError: one is no result of this format, or they have no point in common.
    """
    runs_a, runs_b = _points(a), _points(b)
    common = [key for key in runs_a if key in runs_b]
    if not common:
        raise ValueError("the two results have no point in common")
    pairs = [(key, metric) for key in common for metric in metrics]
    each = 1 - (1 - confidence) / max(1, len(pairs))
    made = [
        _comparison(metric, runs_a[key], runs_b[key], bound=bound_percent / 100, confidence=each)
        for key, metric in pairs
    ]
    notes = [f"only in A: {point_name(runs_a[key][0])}" for key in runs_a if key not in runs_b]
    notes += [f"only in B: {point_name(runs_b[key][0])}" for key in runs_b if key not in runs_a]
    notes += _differences({"model": a.get("model")}, {"model": b.get("model")})
    notes += _differences(a.get("environment") or {}, b.get("environment") or {})
    return Report(tuple(c for c in made if c.a or c.b), tuple(notes))


def ratio_interval(a: Interval, b: Interval) -> Interval | None:
    """Interval of b / a; None if a is 0.

    An end that one of them does not bound is not bounded here either.
    """
    if a.value <= 0:
        return None
    if b.value <= 0:
        return Interval(0.0, 0.0, b.high / a.low if a.low > 0 else math.inf, a.confidence)
    difference = math.log(b.value) - math.log(a.value)
    down = math.hypot(math.log(b.value) - _log(b.low), _log(a.high) - math.log(a.value))
    up = math.hypot(_log(b.high) - math.log(b.value), math.log(a.value) - _log(a.low))
    return Interval(math.exp(difference), math.exp(difference - down), _exp(difference + up), a.confidence)


def point_name(run: Run) -> str:
    """The point in words: what was offered, and the labels."""
    load = run.load
    if load.mode == "closed":
        words = [f"{load.concurrency} in flight"]
    elif load.arrivals == "trace":
        words = [f"trace of {len(load.trace)}"]
    else:
        words = [f"{load.rate:g}/s {load.arrivals}"]
    return ", ".join(words + [f"{name} {value}" for name, value in run.labels.items()])


def _comparison(
    metric: Metric, a: Sequence[Run], b: Sequence[Run], *, bound: float, confidence: float
) -> Comparison:
    slo_ms = a[0].late_slo_ms if a[0].late_slo_ms == b[0].late_slo_ms else 0.0
    figure_a = metric.interval(_clusters(a), confidence, slo_ms)
    figure_b = metric.interval(_clusters(b), confidence, slo_ms)
    ratio = ratio_interval(figure_a, figure_b) if figure_a and figure_b else None
    is_significant = ratio is not None and not ratio.low <= 1 <= ratio.high
    if any(run.invalid for run in (*a, *b)):
        verdict = Verdict.INVALID
    else:
        verdict = _verdict(ratio, bound, higher_is_better=metric.higher_is_better)
    return Comparison(point_name(a[0]), metric.name, figure_a, figure_b, ratio, is_significant, verdict)


def _verdict(ratio: Interval | None, bound: float, *, higher_is_better: bool) -> Verdict:
    """Judge a ratio; the bound is symmetric in the logarithm: a tenth more, or the same factor less."""
    if ratio is None:
        return Verdict.UNCLEAR
    most, least = 1 + bound, 1 / (1 + bound)
    if ratio.low <= 1 <= ratio.high:
        return Verdict.SAME if least <= ratio.low and ratio.high <= most else Verdict.UNCLEAR
    if least <= ratio.value <= most:
        return Verdict.SAME
    return Verdict.IMPROVED if (ratio.value > 1) is higher_is_better else Verdict.REGRESSED


def _clusters(runs: Sequence[Run]) -> list[Window]:
    """What counts as independent: the windows, or the runs if there are enough of them."""
    if len(runs) >= REPEATS:
        return [run.total for run in runs]
    return [window for run in runs for window in run.windows]


def _points(result: Mapping[str, Any]) -> dict[str, list[Run]]:
    """Runs of a result by what they measured.

    Raises:
        ValueError: it is no result of this format.
    """
    if result.get("format") != FORMAT:
        raise ValueError(f"a result of format {FORMAT} is needed, not {result.get('format')!r}")
    points: dict[str, list[Run]] = {}
    try:
        for run in map(Run.from_dict, result["points"]):
            load = run.load.to_dict()
            key = json.dumps([[load[name] for name in _OFFERED[run.load.mode]], run.labels], sort_keys=True)
            points.setdefault(key, []).append(run)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a point of the result cannot be read: {error!r}") from error
    return points


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Facts of the environment that are not the same in both."""
    names = sorted(name for name in {*a, *b} if a.get(name) != b.get(name))
    return [f"{name}: {a.get(name)} in A, {b.get(name)} in B" for name in names]


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
