"""What Prometheus is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.batching.statistics import Statistics
from runtime.clock import MILLISECOND, SECOND
from runtime.lifecycle.manager import Manager
from runtime.runner.control import Message
from runtime.service.metrics import render

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def reply(statistics: Statistics | None = None, insight: dict[str, Any] | None = None) -> Message:
    """What one service process tells of one model version."""
    model = {
        "name": "m",
        "version": "1",
        "queued_rows": 3,
        "statistics": (statistics or Statistics()).to_record(),
        "insight": insight or {},
    }
    return {"models": [model], "active_calls": 2}


def scrape(*replies: Message) -> Samples:
    manager = cast("Manager", SimpleNamespace(served=[]))
    text = render(manager, replies).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, metric: str, **labels: str) -> float:
    return samples[metric, frozenset({"model": "m", "version": "1", **labels}.items())]


@pytest.mark.parametrize(
    ("metric", "counted"),
    [
        ("runtime_requests_isolated_total", "isolated"),
        ("runtime_requests_rejected_total", "rejected"),
        ("runtime_batches_rerun_total", "reruns"),
        ("runtime_padding_rows_total", "padding_rows"),
        ("runtime_predictions_total", "predictions"),
    ],
)
def test_counts_are_summed_over_the_processes(metric: str, counted: str) -> None:
    first, second = Statistics(), Statistics()
    setattr(first, counted, 2)
    setattr(second, counted, 5)
    samples = scrape(reply(first), reply(second))
    assert value(samples, metric) == 7


def test_predictions_are_told_beside_what_was_measured() -> None:
    samples = scrape(
        reply(Statistics(predicted_ns=3 * SECOND, measured_ns=SECOND, mispredicted_ns=2 * SECOND))
    )
    assert value(samples, "runtime_prediction_expected_seconds_total") == 3
    assert value(samples, "runtime_prediction_measured_seconds_total") == 1
    assert value(samples, "runtime_prediction_error_seconds_total") == 2


def test_batches_and_drops_are_told_by_reason() -> None:
    samples = scrape(
        reply(Statistics(reasons={"held": 2, "full": 1}, drops={"queue_full": 4})),
        reply(Statistics(reasons={"held": 3}, drops={"deadline_unreachable": 1})),
    )
    assert value(samples, "runtime_batches_dispatched_total", reason="held") == 5
    assert value(samples, "runtime_batches_dispatched_total", reason="full") == 1
    assert value(samples, "runtime_requests_dropped_total", reason="queue_full") == 4
    assert value(samples, "runtime_requests_dropped_total", reason="deadline_unreachable") == 1


def test_holds_are_a_histogram_of_the_batches_that_were_held() -> None:
    held = Statistics(hold_ns=3 * MILLISECOND)
    held.hold_times[MILLISECOND.bit_length()] += 1
    held.hold_times[(2 * MILLISECOND).bit_length()] += 1
    samples = scrape(reply(held))
    assert value(samples, "runtime_hold_seconds_count") == 2
    assert value(samples, "runtime_hold_seconds_sum") == 0.003
    assert value(samples, "runtime_hold_seconds_bucket", le=repr(2**20 / SECOND)) == 1


LEARNED = {
    "curve": [[1, 2 * MILLISECOND, 3 * MILLISECOND], [8, 4 * MILLISECOND, 0.0]],
    "alpha_ns": 1 * MILLISECOND,
    "hand_over_ns": 50_000,
    "return_ns": 70_000,
    "away": 2,
    "arrivals_per_s": 10.5,
}


def test_what_was_learned_is_told() -> None:
    samples = scrape(reply(insight=LEARNED))
    curve = "runtime_predicted_execution_seconds"
    assert value(samples, curve, rows="1", quantile="mean") == 0.002
    assert value(samples, curve, rows="1", quantile="p95") == 0.003
    assert value(samples, curve, rows="8", quantile="mean") == 0.004
    assert [key for key in samples if ("quantile", "p95") in key[1] and ("rows", "8") in key[1]] == []
    assert value(samples, "runtime_hold_budget_seconds") == 0.001
    assert value(samples, "runtime_hand_over_seconds") == 0.00005
    assert value(samples, "runtime_return_seconds") == 0.00007
    assert value(samples, "runtime_callers_away") == 2
    assert value(samples, "runtime_arrivals_per_second") == 10.5


def test_of_what_several_processes_learned_durations_are_averaged_and_rates_added() -> None:
    slower = LEARNED | {"alpha_ns": 3 * MILLISECOND, "curve": [[1, 4 * MILLISECOND, 0.0]]}
    untrained = {"curve": [], "alpha_ns": 0.0, "away": 0, "arrivals_per_s": 0.0}
    samples = scrape(reply(insight=LEARNED), reply(insight=slower), reply(insight=untrained))
    assert value(samples, "runtime_hold_budget_seconds") == 0.002
    assert value(samples, "runtime_predicted_execution_seconds", rows="1", quantile="mean") == 0.003
    assert value(samples, "runtime_predicted_execution_seconds", rows="1", quantile="p95") == 0.003
    assert (value(samples, "runtime_callers_away"), value(samples, "runtime_arrivals_per_second")) == (4, 21)


def test_a_policy_that_learns_nothing_has_no_gauges() -> None:
    names = {name for name, _ in scrape(reply())}
    assert "runtime_queued_rows" in names
    assert "runtime_hold_budget_seconds" not in names
    assert "runtime_predicted_execution_seconds" not in names
