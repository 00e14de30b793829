"""Prometheus metrics, made at each scrape from what the processes have counted.

Counters are sums over the service processes that run now; one that was restarted begins at zero again,
which Prometheus takes for a counter reset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from runtime.batching.statistics import Statistics, add_up
from runtime.clock import SECOND
from runtime.lifecycle.manager import Manager
from runtime.runner.control import Message
from runtime.service import learned

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_Labels = tuple[str, str]
_LABELS: Final = ("model", "version")
_COUNTERS: Final = {
    "admitted": "Requests that entered the queue.",
    "rejected": "Requests that were refused at once.",
    "completed": "Requests that were answered with outputs.",
    "failed": "Requests that were answered with an error after they were admitted.",
    "expired": "Requests that were admitted and became too late.",
    "cancelled": "Requests whose caller went away before they were answered.",
    "retried": "Requests that were run again because their worker died.",
    "isolated": "Requests that failed alone, after the batch that failed with them was halved.",
}
_WORK: Final = {
    "batches_rerun": ("reruns", "Parts of failed batches that were run again."),
    "padding_rows": ("padding_rows", "Rows executed only to fill up to an allowed batch size."),
    "predictions": ("predictions", "Completed batches whose time in the worker was predicted."),
}
_SECONDS: Final = {
    "queue": (
        "queue_ns",
        "Time that answered requests spent queued, from admission to the closing of their batch.",
    ),
    "execution": ("execution_ns", "Time that the model's method ran, counted once for each execution."),
    "prediction_expected": ("predicted_ns", "Time in the worker that was predicted for batches."),
    "prediction_measured": ("measured_ns", "Time in the worker that these batches really took."),
    "prediction_error": ("mispredicted_ns", "What these two differed by, whichever way, batch by batch."),
}
_BY_REASON: Final = {
    "batches_dispatched": ("reasons", "Answered batches by why they left the queue when they did."),
    "requests_dropped": ("drops", "Requests that were refused at once or dropped from the queue."),
}
_TIMES: Final = {
    "queue_delay": (
        "queue_times",
        "queue_ns",
        "From admission to the closing of the batch, answered requests.",
    ),
    "request_duration": ("request_times", "request_ns", "From admission to the answer, answered requests."),
    "execution_duration": ("execution_times", "execution_ns", "Each execution of the model's method."),
    "hold": ("hold_times", "hold_ns", "How long batches waited for company beside an idle instance."),
}
_TIME_EXPONENTS: Final = range(13, 37)
"""Bounds of the histograms of times: powers of two of a nanosecond, from 8 microseconds to 69 seconds."""
_ROW_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def render(manager: Manager, replies: Sequence[Message]) -> bytes:
    """The text exposition of all metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(manager, replies))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, manager: Manager, replies: Sequence[Message]) -> None:
        self._manager = manager
        self._replies = replies

    def collect(self) -> Iterator[Metric]:
        models = [model for reply in self._replies for model in reply["models"]]
        totals = add_up(models)
        queued: Counter[_Labels] = Counter()
        for model in models:
            queued[model["name"], model["version"]] += model["queued_rows"]
        for name, help_text in _COUNTERS.items():
            yield _counter(f"requests_{name}", help_text, totals, name)
        for name, (counted, help_text) in _WORK.items():
            yield _counter(name, help_text, totals, counted)
        for name, (counted, help_text) in _SECONDS.items():
            yield _counter(f"{name}_seconds", help_text, totals, counted, SECOND)
        for name, (counted, help_text) in _BY_REASON.items():
            yield _by_reason(name, help_text, totals, counted)
        for name, (buckets, sum_ns, help_text) in _TIMES.items():
            times = HistogramMetricFamily(f"runtime_{name}_seconds", help_text, labels=_LABELS)
            for labels, total in totals.items():
                times.add_metric(labels, _cumulated(getattr(total, buckets)), getattr(total, sum_ns) / SECOND)
            yield times
        yield _batch_rows(totals)
        yield from learned.metrics(models)
        yield from self._gauges(queued)

    def _gauges(self, queued: Mapping[_Labels, int]) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("runtime_queued_rows", "Rows that wait for an instance.", labels=_LABELS)
        for labels, rows in queued.items():
            waiting.add_metric(labels, rows)
        yield waiting
        available = GaugeMetricFamily(
            "runtime_instances_available", "Instances that can execute.", labels=_LABELS
        )
        restarts = CounterMetricFamily(
            "runtime_worker_restarts", "Worker processes started again.", labels=_LABELS
        )
        for served in self._manager.served:
            key = (served.model.info.name, served.model.info.version)
            available.add_metric(key, served.available)
            restarts.add_metric(key, sum(instance.restarts for instance in served.instances))
        yield available
        yield restarts
        active = GaugeMetricFamily("runtime_active_calls", "RPCs accepted and not over.")
        active.add_metric((), sum(reply["active_calls"] for reply in self._replies))
        yield active


def _counter(
    name: str, help_text: str, totals: Mapping[_Labels, Statistics], counted: str, unit: int = 1
) -> Metric:
    """One attribute of the statistics as a counter, in so many of its units."""
    family = CounterMetricFamily(f"runtime_{name}", help_text, labels=_LABELS)
    for labels, total in totals.items():
        family.add_metric(labels, getattr(total, counted) / unit)
    return family


def _by_reason(name: str, help_text: str, totals: Mapping[_Labels, Statistics], counted: str) -> Metric:
    family = CounterMetricFamily(f"runtime_{name}", help_text, labels=(*_LABELS, "reason"))
    for labels, total in totals.items():
        for reason, count in sorted(getattr(total, counted).items()):
            family.add_metric((*labels, reason), count)
    return family


def _cumulated(times: Sequence[int]) -> list[tuple[str, float]]:
    """A histogram of powers of two in Prometheus' form."""
    bounds: list[tuple[str, float]] = [
        (repr((1 << exponent) / SECOND), sum(times[: exponent + 1])) for exponent in _TIME_EXPONENTS
    ]
    return [*bounds, ("+Inf", sum(times))]


def _batch_rows(totals: Mapping[_Labels, Statistics]) -> Metric:
    family = HistogramMetricFamily("runtime_batch_rows", "Rows of each executed batch.", labels=_LABELS)
    for labels, total in totals.items():
        counts = {rows: executions.count for rows, executions in total.executions.items()}
        buckets: list[tuple[str, float]] = [
            (str(bound), sum(count for rows, count in counts.items() if rows <= bound))
            for bound in _ROW_BOUNDS
        ]
        buckets.append(("+Inf", sum(counts.values())))
        family.add_metric(labels, buckets, sum(rows * count for rows, count in counts.items()))
    return family
