"""Loads and runs: what is refused, what merging keeps, and that JSON loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.histogram import Histogram
from runtime.profiling.records import Load, Outcome, Run, Window


def window(second: int, latencies_ms: list[int], *, expired: int = 0) -> Window:
    made = Window(second * SECOND, (second + 1) * SECOND, rows=2 * len(latencies_ms), cpu_ns=5)
    for latency in latencies_ms:
        made.response.record(latency * MILLISECOND)
        made.service.record(latency * MILLISECOND // 2)
        made.slip.record(latency)
    made.counts[Outcome.OK] = len(latencies_ms)
    made.counts[Outcome.EXPIRED] = expired
    return made


def run() -> Run:
    return Run(
        load=Load(mode="open", rate=4.0, trace=(1, 2)),
        windows=[window(0, [10, 20, 300]), window(1, [10, 10], expired=3)],
        elapsed_ns=3 * SECOND,
        late_slo_ms=100.0,
        invalid=["slipped"],
        server={"batch_rows": {"4": 2}},
        timeline=[(0, 3, 0, 10_000, 20_000, 1)],
        labels={"rows": 2},
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "half-open"},
        {"mode": "closed", "concurrency": 0},
        {"mode": "closed", "concurrency": 2, "processes": 3},
        {"mode": "closed", "processes": 0},
        {"mode": "closed", "duration_s": 0.0},
        {"mode": "closed", "duration_s": -1.0},
        {"mode": "closed", "timeout_ms": -1.0},
        {"mode": "open"},
        {"mode": "open", "rate": float("nan")},
        {"mode": "open", "rate": 1.0, "arrivals": "sometimes"},
        {"mode": "open", "arrivals": "trace"},
        {"mode": "open", "rate": 1.0, "burst": 0},
        {"mode": "open", "rate": 1.0, "max_in_flight": 0},
    ],
)
def test_fields_that_describe_no_load_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has a message of its own
        Load(**fields)


def test_a_count_may_stand_for_the_duration() -> None:
    assert Load(mode="closed", duration_s=0.0, count=10).count == 10


def test_a_run_survives_json() -> None:
    made = run()
    assert Run.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_a_load_of_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError):
        Load.from_dict({"mode": "closed", "colour": "red"})


def test_a_window_with_other_outcomes_is_refused() -> None:
    with pytest.raises(ValueError, match="5 counts"):
        Window.from_dict({**Window(0, 1).to_dict(), "counts": [1]})


def test_the_total_merges_counts_and_histograms_and_spans_the_windows() -> None:
    made = run()
    total = made.total
    assert (total.start_ns, total.end_ns, total.rows, total.cpu_ns) == (0, 2 * SECOND, 10, 10)
    assert total.counts == [5, 0, 0, 3, 0]
    assert total.response == Histogram(ms * MILLISECOND for ms in (10, 20, 300, 10, 10))
    assert len(made.windows[0].response) == 3


def test_a_run_without_windows_has_an_empty_total() -> None:
    total = Run(Load(mode="closed"), []).total
    assert (total.requests, total.offered, total.achieved, total.goodput(1.0)) == (0, 0.0, 0.0, 0.0)


def test_rates_tell_offered_answered_and_in_time_apart() -> None:
    total = run().total
    assert (total.offered, total.achieved, total.goodput(100), total.late(100)) == (4.0, 2.5, 2.0, 1)
    assert total.goodput(0) == total.achieved


def test_the_summary_is_in_units_people_use() -> None:
    figures = run().summary()
    assert figures["p50_ms"] == pytest.approx(10, rel=1 / 256)
    assert (figures["max_ms"], figures["late"], figures["expired"], figures["rows_per_s"]) == (300, 1, 3, 5.0)
