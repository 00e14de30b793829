"""Runs of the profiler made by hand."""

from __future__ import annotations

from typing import Any

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.histogram import Histogram
from runtime.profiling.records import Load, Run, Window

SERVER = {
    "requests": 100,
    "failed": 0,
    "rows": 100,
    "executions": 40,
    "mean_rows": 2.5,
    "mean_ms": {
        "queue": 1.0, "merge": 0.1, "compute": 3.0, "split": 0.1, "hop": 0.3, "transport": 0.5, "total": 4.5,
    },
    "batches": {"1": 10, "3": 30},
    "batch_ms": {"1": 2.5, "3": 3.5},
    "busy": 0.4,
}  # fmt: skip


def make_run(
    latencies_ms: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0),
    *,
    windows: int = 4,
    counts: tuple[int, int, int, int] = (0, 0, 0, 0),
    load: Load | None = None,
    **fields: Any,
) -> Run:
    """A run whose windows last a second each and have the same answers.

    Args:
        latencies_ms: response times of the OK answers of each window; service times are half of that.
        windows: how many.
        counts: failed, rejected, expired, dropped of each window.
        load: what was asked for; by default an open loop at the rate of all requests.
        fields: of the run.
    """
    made = []
    for index in range(windows):
        response = Histogram(round(value * MILLISECOND) for value in latencies_ms)
        service = Histogram(round(value * MILLISECOND / 2) for value in latencies_ms)
        made.append(
            Window(
                index * SECOND, (index + 1) * SECOND, response, service,
                Histogram([1000] * len(latencies_ms)), [len(latencies_ms), *counts],
                rows=len(latencies_ms), cpu_ns=100_000,
            )
        )  # fmt: skip
    rate = max(1, len(latencies_ms) + sum(counts))
    chosen = load or Load(mode="open", rate=rate, duration_s=windows)
    return Run(chosen, made, elapsed_ns=(windows + 1) * SECOND, **fields)
