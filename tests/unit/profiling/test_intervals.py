"""Intervals hold the truth as often as they say, also when requests of a window share their fate."""

from __future__ import annotations

import json
import math
import random
from statistics import NormalDist

import pytest

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.histogram import RELATIVE_ERROR, Histogram
from runtime.profiling.intervals import (
    Interval,
    achieved_interval,
    goodput_interval,
    mean_interval,
    percentile_interval,
    share_interval,
    student_t,
)
from runtime.profiling.records import Outcome, Window

MEDIAN_NS = 10 * MILLISECOND
SPREAD = 0.5
SIMULATIONS = 300


def simulated(rng: random.Random, windows: int, requests: int, shared: float) -> list[Histogram]:
    """Log-normal latencies; ``shared`` is the spread that all requests of a window have in common."""
    made = []
    for _ in range(windows):
        common = rng.gauss(0, shared)
        made.append(
            Histogram(int(MEDIAN_NS * math.exp(common + rng.gauss(0, SPREAD))) for _ in range(requests))
        )
    return made


def coverage(percentile: float, *, windows: int, requests: int, shared: float) -> float:
    rng = random.Random(20)
    spread = math.hypot(SPREAD, shared)
    truth = MEDIAN_NS * math.exp(NormalDist(0, spread).inv_cdf(percentile / 100))
    hits = 0
    for _ in range(SIMULATIONS):
        made = percentile_interval(simulated(rng, windows, requests, shared), percentile)
        assert made is not None
        hits += made.low <= truth <= made.high
    return hits / SIMULATIONS


@pytest.mark.parametrize("shared", [0.0, 0.2], ids=["independent", "windows differ"])
@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_intervals_of_a_percentile_cover_the_truth(percentile: float, shared: float) -> None:
    assert coverage(percentile, windows=10, requests=100, shared=shared) >= 0.93


def test_three_windows_are_enough_for_coverage() -> None:
    assert coverage(50, windows=3, requests=100, shared=0.2) >= 0.93


def test_an_interval_is_no_wider_than_independent_requests_warrant() -> None:
    made = percentile_interval(simulated(random.Random(3), 20, 500, 0.0), 50)
    assert made is not None
    half = 1.96 * SPREAD * math.sqrt(math.pi / 2 / 10_000)
    buckets = (1 + 2 * RELATIVE_ERROR) ** 2
    assert math.exp(2 * half) <= made.high / made.low < math.exp(2 * 1.25 * half) * buckets


def test_one_window_takes_its_requests_for_independent() -> None:
    made = percentile_interval([Histogram(range(1, 101))], 50)
    assert made == Interval(50, 40, 61)


def test_a_percentile_that_the_run_is_too_short_for_is_not_bounded() -> None:
    made = percentile_interval([Histogram(range(1, 101))], 99.9)
    assert made is not None
    assert made.high == math.inf
    assert json.loads(json.dumps(made.to_dict()))["high"] is None


def test_a_low_percentile_of_few_requests_has_no_lower_bound() -> None:
    made = percentile_interval([Histogram([5, 6, 7])], 1)
    assert made is not None
    assert made.low == 0


def test_equal_latencies_have_an_interval_of_one_bucket() -> None:
    made = percentile_interval([Histogram([MEDIAN_NS] * 50) for _ in range(5)], 90)
    assert made == Interval(MEDIAN_NS, MEDIAN_NS, MEDIAN_NS)


def test_windows_without_an_answer_do_not_matter_and_none_at_all_gives_no_interval() -> None:
    some = [Histogram(range(1, 101)), Histogram()]
    assert percentile_interval(some, 50) == percentile_interval(some[:1], 50)
    assert percentile_interval([Histogram()], 50) is None


def test_more_confidence_needs_a_wider_interval() -> None:
    data = simulated(random.Random(4), 10, 100, 0.1)
    usual, sure = percentile_interval(data, 50), percentile_interval(data, 50, 0.999)
    assert usual is not None
    assert sure is not None
    assert sure.low < usual.low < usual.value < usual.high < sure.high


@pytest.mark.parametrize("shared", [0.0, 0.02])
def test_intervals_of_a_share_cover_the_truth(shared: float) -> None:
    rng = random.Random(5)
    hits = 0
    for _ in range(SIMULATIONS):
        good = []
        for _ in range(10):
            share = 0.95 + rng.uniform(-shared, shared)
            good.append(sum(rng.random() < share for _ in range(100)))
        made = share_interval(good, [100] * 10)
        assert made is not None
        hits += made.low <= 0.95 <= made.high
    assert hits / SIMULATIONS >= 0.93


def test_a_share_of_all_requests_is_still_uncertain() -> None:
    made = share_interval([50, 50], [50, 50])
    assert made is not None
    assert made.value == made.high == 1.0
    assert 0.95 < made.low < 1.0


def test_a_share_of_no_request_is_unknown() -> None:
    assert share_interval([0, 0], [0, 0]) is None


def test_intervals_of_a_mean_cover_the_truth() -> None:
    rng = random.Random(6)
    made = [mean_interval([rng.gauss(100, 5) for _ in range(5)]) for _ in range(1000)]
    hits = sum(interval is not None and interval.low <= 100 <= interval.high for interval in made)
    assert 0.93 <= hits / 1000 <= 0.97


def test_the_mean_of_one_window_bounds_nothing_and_of_none_is_unknown() -> None:
    assert mean_interval([4.0]) == Interval(4.0, 0.0, math.inf)
    assert mean_interval([]) is None


def test_a_rate_is_never_below_zero() -> None:
    made = mean_interval([0.0, 10.0])
    assert made is not None
    assert (made.value, made.low) == (5.0, 0.0)


def test_achieved_rate_and_goodput_are_means_over_windows() -> None:
    windows = [Window(0, SECOND), Window(SECOND, 2 * SECOND)]
    for window, late in zip(windows, (1, 3), strict=True):
        window.counts[Outcome.OK] = 10
        window.response.record(MILLISECOND, 10 - late)
        window.response.record(SECOND, late)
    assert achieved_interval(windows) == Interval(10.0, 10.0, 10.0)
    good = goodput_interval(windows, slo_ms=100)
    assert good is not None
    assert good.value == 8.0
    assert good.high == pytest.approx(8.0 + 12.7062)


@pytest.mark.parametrize(
    ("df", "q", "quantile"),
    [
        (1, 0.975, 12.7062),
        (2, 0.975, 4.30265),
        (9, 0.975, 2.26216),
        (9, 0.9995, 4.78091),
        (30, 0.95, 1.69726),
        (120, 0.975, 1.97993),
        (5, 0.5, 0.0),
    ],
)
def test_student_t_agrees_with_the_tables(df: int, q: float, quantile: float) -> None:
    assert student_t(df, q) == pytest.approx(quantile, rel=1e-5, abs=1e-9)
