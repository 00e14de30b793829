"""Prometheus metrics, made at each scrape from what the processes have counted.

Counters are sums over the service processes that run now; one that was restarted begins at zero again,
which Prometheus takes for a counter reset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from runtime.clock import SECOND
from runtime.lifecycle.manager import Manager
from runtime.runner.control import Message

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_LABELS: Final = ("model", "version")
_COUNTERS: Final = {
    "admitted": "Requests that entered the queue.",
    "rejected": "Requests that the full queue refused.",
    "completed": "Requests that were answered with outputs.",
    "failed": "Requests that were answered with an error after they were admitted.",
    "expired": "Requests whose deadline passed while they were queued.",
    "cancelled": "Requests whose caller went away while they were queued.",
    "retried": "Requests that were run again because their worker died.",
}
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
        totals = _sum([model for reply in self._replies for model in reply["models"]])
        for name, help_text in _COUNTERS.items():
            counter = CounterMetricFamily(f"runtime_requests_{name}", help_text, labels=_LABELS)
            for labels, total in totals.items():
                counter.add_metric(labels, total[name])
            yield counter
        for name, help_text in {
            "queue": "Time that requests spent queued, from admission to the closing of their batch.",
            "execution": "Time that the model's method ran, counted once for each batch.",
        }.items():
            seconds = CounterMetricFamily(f"runtime_{name}_seconds", help_text, labels=_LABELS)
            for labels, total in totals.items():
                seconds.add_metric(labels, total[f"{name}_ns"] / SECOND)
            yield seconds
        yield _batch_rows(totals)
        yield from self._gauges(totals)

    def _gauges(self, totals: dict[tuple[str, str], dict[str, Any]]) -> Iterator[Metric]:
        queued = GaugeMetricFamily("runtime_queued_rows", "Rows that wait for an instance.", labels=_LABELS)
        for labels, total in totals.items():
            queued.add_metric(labels, total["queued_rows"])
        yield queued
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


def _batch_rows(totals: dict[tuple[str, str], dict[str, Any]]) -> Metric:
    family = HistogramMetricFamily("runtime_batch_rows", "Rows of each executed batch.", labels=_LABELS)
    for labels, total in totals.items():
        sizes = {int(size): count for size, count in total["batch_sizes"].items()}
        buckets: list[tuple[str, float]] = [
            (str(bound), sum(count for size, count in sizes.items() if size <= bound))
            for bound in _ROW_BOUNDS
        ]
        buckets.append(("+Inf", sum(sizes.values())))
        family.add_metric(labels, buckets, sum(size * count for size, count in sizes.items()))
    return family


def _sum(models: Iterable[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Add up the counts of all service processes, model by model."""
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    for model in models:
        total = totals.setdefault((model["name"], model["version"]), {"batch_sizes": {}})
        for name, value in model.items():
            if name == "batch_sizes":
                for size, count in value.items():
                    total[name][size] = total[name].get(size, 0) + count
            elif isinstance(value, int):
                total[name] = total.get(name, 0) + value
    return totals
