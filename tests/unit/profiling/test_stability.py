"""When a measurement is believed."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.records import Outcome, Window
from runtime.profiling.stability import (
    MeasurementMode,
    StabilityRule,
    State,
    judge,
    measurement_windows,
)


def windows(*figures: tuple[int, int], length_ns: int = SECOND) -> list[Window]:
    """Adjacent windows, each of so many answers with such a latency in ms."""
    made = []
    for index, (answers, latency_ms) in enumerate(figures):
        window = Window(index * length_ns, (index + 1) * length_ns)
        window.counts[Outcome.OK] = answers
        if answers:
            window.response.record(latency_ms * MILLISECOND, answers)
        made.append(window)
    return made


def test_the_defaults_are_those_of_navigator() -> None:
    rule = StabilityRule()
    assert (rule.measurement_mode, rule.measurement_interval) == (MeasurementMode.TIME_WINDOWS, 5000)
    assert (rule.measurement_request_count, rule.stability_percentage, rule.max_trials) == (None, 10.0, 10)


def test_too_few_windows_ask_for_more() -> None:
    verdict = judge(windows((100, 10), (100, 10)), StabilityRule())
    assert (verdict.state, verdict.reason) == (State.MORE, "2 of 3 windows measured")


def test_three_windows_that_agree_are_stable() -> None:
    verdict = judge(windows((100, 100), (110, 100), (105, 109)), StabilityRule())
    assert (verdict.state, verdict.first) == (State.STABLE, 0)


def test_only_the_last_windows_count() -> None:
    verdict = judge(windows((1, 900), (50, 90), (100, 10), (100, 10), (100, 10)), StabilityRule())
    assert (verdict.state, verdict.first) == (State.STABLE, 2)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ((111, 100), "throughput varies by 11.0 %"),
        ((100, 112), "average latency varies by 12.0 %"),
        ((0, 0), "a window without an answer"),
    ],
)
def test_a_disagreement_asks_for_more_and_says_why(last: tuple[int, int], reason: str) -> None:
    verdict = judge(windows((100, 100), (100, 100), last), StabilityRule())
    assert verdict.state is State.MORE
    assert verdict.reason == f"{reason} in the last 3 of 3 windows"


def test_disagreement_after_the_last_trial_is_unstable() -> None:
    measured = windows(*[(100, 100 * (1 + index % 2)) for index in range(10)])
    assert judge(measured[:9], StabilityRule()).state is State.MORE
    assert judge(measured, StabilityRule()).state is State.UNSTABLE


def test_a_percentile_may_decide_in_place_of_the_average() -> None:
    measured = windows((1000, 10), (1000, 10), (1000, 10))
    measured[2].response.record(20 * MILLISECOND, 30)
    assert judge(measured, StabilityRule()).state is State.STABLE
    verdict = judge(measured, StabilityRule(percentile=99))
    assert (verdict.state, verdict.reason.split(" by ")[0]) == (State.MORE, "p99 varies")


def test_latencies_of_zero_agree_with_each_other_only() -> None:
    assert judge(windows((5, 0), (5, 0), (5, 0)), StabilityRule()).state is State.STABLE
    assert "from 0" in judge(windows((5, 0), (5, 0), (5, 1)), StabilityRule()).reason


def test_short_windows_are_merged_into_time_windows_and_a_short_rest_is_left_out() -> None:
    short = windows(*[(10, 5)] * 11, length_ns=500 * MILLISECOND)
    made = measurement_windows(short, StabilityRule(measurement_interval=2000))
    assert [(w.start_ns // SECOND, w.end_ns // SECOND, w.ok) for w in made] == [(0, 2, 40), (2, 4, 40)]
    assert all(window.ok == 10 for window in short)


def test_short_windows_are_merged_until_they_hold_enough_answers() -> None:
    rule = StabilityRule(measurement_mode=MeasurementMode.COUNT_WINDOWS, measurement_request_count=25)
    made = measurement_windows(windows((10, 5), (10, 5), (10, 5), (30, 5), (20, 5)), rule)
    assert [window.ok for window in made] == [30, 30]


def test_count_windows_without_a_count_hold_fifty_answers() -> None:
    rule = StabilityRule(measurement_mode=MeasurementMode.COUNT_WINDOWS)
    assert [w.ok for w in measurement_windows(windows(*[(20, 5)] * 6), rule)] == [60, 60]


@pytest.mark.parametrize(
    "fields",
    [
        {"measurement_interval": 0},
        {"measurement_request_count": 0},
        {"stability_percentage": 0},
        {"windows": 1},
        {"max_trials": 2},
        {"percentile": 100.0},
    ],
)
def test_a_rule_that_cannot_work_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"above 0|at least|lies in"):
        StabilityRule(**fields)
