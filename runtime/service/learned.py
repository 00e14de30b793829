"""Gauges of what the batching policies have learned, from what the service processes tell of them.

Each service process learns by itself. Rates and counts are summed over them; of durations the mean is told,
over those that have learned any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric

from runtime.clock import SECOND
from runtime.runner.control import Message

_Insight = Mapping[str, Any]
_ByLabels = Mapping[tuple[str, str], Sequence[_Insight]]
_LABELS: Final = ("model", "version")


def _mean_seconds(durations: Sequence[float]) -> float:
    known = [ns for ns in durations if ns]
    return fmean(known) / SECOND if known else 0.0


_GAUGES: Final[Mapping[str, tuple[str, Callable[[Sequence[float]], float], str]]] = {
    "arrivals_per_second": ("arrivals_per_s", sum, "Requests admitted in a second, lately."),
    "callers_away": ("away", sum, "Callers that were answered and may come back at once."),
    "hold_budget_seconds": (
        "alpha_ns",
        _mean_seconds,
        "What one batch less saves: the longest that any request is held for company.",
    ),
    "hand_over_seconds": ("hand_over_ns", _mean_seconds, "The way of a batch to an idle worker."),
    "return_seconds": ("return_ns", _mean_seconds, "The way of an answer back."),
}


def metrics(models: Iterable[Message]) -> Iterator[Metric]:
    """The gauges of all model versions.

    Args:
        models: what each service process tells of each version; ``insight`` is the policy's.
    """
    insights: dict[tuple[str, str], list[_Insight]] = {}
    for model in models:
        insights.setdefault((model["name"], model["version"]), []).append(model["insight"])
    yield _curves(insights)
    for name, (key, combine, help_text) in _GAUGES.items():
        family = GaugeMetricFamily(f"runtime_{name}", help_text, labels=_LABELS)
        for labels, found in insights.items():
            values = [insight[key] for insight in found if key in insight]
            if values:
                family.add_metric(labels, combine(values))
        yield family


def _curves(insights: _ByLabels) -> Metric:
    """The latency curves: mean and 95th percentile at each number of rows that was seen or profiled."""
    family = GaugeMetricFamily(
        "runtime_predicted_execution_seconds",
        "Predicted time in the worker of a batch of so many rows.",
        labels=(*_LABELS, "rows", "quantile"),
    )
    for labels, found in insights.items():
        knots: dict[int, list[tuple[float, float]]] = {}
        for insight in found:
            for rows, mean, high in insight.get("curve", ()):
                knots.setdefault(rows, []).append((mean, high))
        for rows, values in sorted(knots.items()):
            means, highs = zip(*values, strict=True)
            family.add_metric((*labels, str(rows), "mean"), _mean_seconds(means))
            if any(highs):  # not known before some batches were seen
                family.add_metric((*labels, str(rows), "p95"), _mean_seconds(highs))
    return family
