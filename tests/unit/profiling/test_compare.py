"""Two results: a change is told from noise, and only a real one beyond the bound is a regression."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.compare import (
    METRICS,
    Metric,
    Report,
    Verdict,
    compare,
    percentile_metric,
    point_name,
    ratio_interval,
)
from runtime.profiling.intervals import Interval, achieved_interval
from runtime.profiling.records import Load, Outcome, Run, Window

LOAD = Load(mode="closed", concurrency=4)


def run(
    seed: int,
    *,
    slower: float = 1.0,
    windows: int = 10,
    fail_every: int = 0,
    shared: float = 0.0,
    **fields: Any,
) -> Run:
    """A run of log-normal latencies around 10 ms, 200 requests a second."""
    rng = random.Random(seed)
    made = []
    common = rng.gauss(0, shared) if shared else 0.0
    for second in range(windows):
        window = Window(second * SECOND, (second + 1) * SECOND)
        for index in range(200):
            if fail_every and index % fail_every == 0:
                window.counts[Outcome.REJECTED] += 1
                continue
            window.counts[Outcome.OK] += 1
            window.response.record(int(10 * MILLISECOND * slower * math.exp(common + rng.gauss(0, 0.3))))
        made.append(window)
    return Run(**{"load": LOAD, "late_slo_ms": 50.0, **fields}, windows=made)


def result(*runs: Run, **fields: Any) -> dict[str, Any]:
    """As it is read from a file."""
    written = {
        "format": 1,
        "environment": {},
        "model": "m:1",
        "points": [r.to_dict() for r in runs],
        **fields,
    }
    return json.loads(json.dumps(written))  # type: ignore[no-any-return]


def verdicts(report: Report) -> dict[str, Verdict]:
    return {comparison.metric: comparison.verdict for comparison in report.comparisons}


def test_the_same_again_is_no_regression() -> None:
    report = compare(result(run(1)), result(run(2)), bound_percent=10)
    assert not report.has_regressed
    assert verdicts(report)["p50"] is Verdict.SAME
    assert verdicts(report)["achieved"] is Verdict.SAME


def test_slower_by_more_than_the_bound_is_a_regression_of_each_percentile() -> None:
    report = compare(result(run(1)), result(run(2, slower=1.3)), bound_percent=10)
    assert report.has_regressed
    assert [verdicts(report)[name] for name in ("p50", "p90", "p99")] == [Verdict.REGRESSED] * 3
    p50 = report.comparisons[0]
    assert p50.ratio is not None
    assert p50.is_significant
    assert p50.ratio.low < 1.3 < p50.ratio.high


def test_faster_by_more_than_the_bound_is_an_improvement() -> None:
    report = compare(result(run(1)), result(run(2, slower=0.7)), bound_percent=10)
    assert verdicts(report)["p50"] is Verdict.IMPROVED
    assert not report.has_regressed


def test_a_real_change_within_the_bound_passes() -> None:
    report = compare(result(run(1)), result(run(2, slower=1.1)), bound_percent=20)
    p50 = report.comparisons[0]
    assert (p50.is_significant, p50.verdict) == (True, Verdict.SAME)


def test_a_change_that_noise_could_explain_is_unclear_and_passes() -> None:
    report = compare(result(run(1, windows=3)), result(run(2, windows=3, slower=1.1)), bound_percent=1)
    assert verdicts(report)["p99"] is Verdict.UNCLEAR
    assert not report.comparisons[2].is_significant
    assert not report.has_regressed


def test_refusals_are_a_regression_though_the_answered_are_as_fast() -> None:
    report = compare(result(run(1)), result(run(2, fail_every=4)), bound_percent=10)
    told = verdicts(report)
    assert [told[name] for name in ("achieved", "goodput", "ok share")] == [Verdict.REGRESSED] * 3
    assert told["p50"] is Verdict.SAME


def test_a_server_that_answers_nothing_has_regressed() -> None:
    report = compare(result(run(1)), result(run(2, fail_every=1)))
    assert verdicts(report)["achieved"] is Verdict.REGRESSED
    assert verdicts(report)["p50"] is Verdict.UNCLEAR
    assert [c.b for c in report.comparisons if c.metric == "p50"] == [None]


def test_nothing_follows_from_an_invalid_run() -> None:
    report = compare(result(run(1)), result(run(2, slower=3.0, invalid=["slipped"])))
    assert set(verdicts(report).values()) == {Verdict.INVALID}
    assert not report.has_regressed


def test_goodput_is_compared_only_under_the_same_slo() -> None:
    assert "goodput" not in verdicts(compare(result(run(1)), result(run(2, late_slo_ms=20.0))))


def test_same_results_seldom_differ_by_chance() -> None:
    alarms = sum(
        any(c.is_significant for c in compare(result(run(2 * n)), result(run(2 * n + 1))).comparisons)
        for n in range(20)
    )
    assert alarms <= 2


def test_three_repeats_show_what_varies_from_run_to_run() -> None:
    a = [run(seed, shared=0.1) for seed in (1, 2, 3)]
    b = [run(seed, shared=0.1) for seed in (4, 5, 6)]
    metric = (percentile_metric(50),)
    one = compare(result(a[0]), result(b[0]), metrics=metric).comparisons[0].ratio
    many = compare(result(*a), result(*b), metrics=metric).comparisons[0].ratio
    assert one is not None
    assert many is not None
    assert many.high / many.low > one.high / one.low
    assert many.low < 1 < many.high


def test_two_repeats_give_all_their_windows() -> None:
    metric = Metric("windows", lambda windows, *_: Interval(len(windows), 1, 1))
    made = compare(result(run(1), run(2)), result(run(3)), metrics=[metric]).comparisons[0]
    assert made.a is not None
    assert made.b is not None
    assert (made.a.value, made.b.value) == (20, 10)


def test_points_are_matched_by_what_was_offered_and_labels() -> None:
    longer = Load(mode="closed", concurrency=4, duration_s=99, seed=8, warm_up_s=3, processes=2)
    other = Load(mode="closed", concurrency=8)
    report = compare(
        result(run(1), run(2, labels={"rows": 4}), run(3, load=other)),
        result(run(4, load=longer), run(5, labels={"rows": 8})),
    )
    assert {comparison.point for comparison in report.comparisons} == {"4 in flight"}
    assert report.notes == (
        "only in A: 4 in flight, rows 4",
        "only in A: 8 in flight",
        "only in B: 4 in flight, rows 8",
    )


def test_another_model_or_environment_is_noted() -> None:
    a = result(run(1), environment={"cpu": "x", "cores": 2})
    b = result(run(2), environment={"cpu": "y", "cores": 2}, model="m:2")
    assert compare(a, b).notes == ("model: m:1 in A, m:2 in B", "cpu: x in A, y in B")


@pytest.mark.parametrize(
    ("b", "reason"),
    [
        ({"format": 2}, "format 1 is needed, not 2"),
        ({}, "not None"),
        ({"format": 1}, "cannot be read"),
        ({"format": 1, "points": [{"load": {}}]}, "cannot be read"),
        ({"format": 1, "points": [7]}, "cannot be read"),
        ({"format": 1, "points": []}, "no point in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(b: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        compare(result(run(1, windows=1)), b)


def test_a_report_can_be_written_as_json() -> None:
    report = compare(result(run(1, windows=1)), result(run(2, windows=1)))
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert len(written["comparisons"]) == len(METRICS)
    assert written["comparisons"][3]["ratio"]["high"] is None


def test_the_interval_of_a_ratio_covers_the_truth() -> None:
    rng = random.Random(9)
    hits = 0
    for _ in range(500):
        sides = []
        for truth in (100.0, 80.0):
            windows = [Window(k * SECOND, (k + 1) * SECOND) for k in range(8)]
            for window in windows:
                window.counts[Outcome.OK] = round(rng.gauss(truth, 5))
            sides.append(achieved_interval(windows))
        assert sides[0] is not None
        assert sides[1] is not None
        ratio = ratio_interval(sides[0], sides[1])
        assert ratio is not None
        hits += ratio.low <= 0.8 <= ratio.high
    assert hits / 500 >= 0.93


def test_what_one_side_does_not_bound_the_ratio_does_not_bound() -> None:
    known, unknown = Interval(2.0, 1.0, 4.0), Interval(2.0, 0.0, math.inf)
    for made in (ratio_interval(known, unknown), ratio_interval(unknown, known)):
        assert made is not None
        assert made.value == pytest.approx(1.0)
        assert (made.low, made.high) == (0.0, math.inf)


def test_there_is_no_ratio_to_nothing() -> None:
    nothing, known = Interval(0.0, 0.0, 3.0), Interval(2.0, 1.0, 4.0)
    assert ratio_interval(nothing, known) is None
    assert ratio_interval(known, nothing) == Interval(0.0, 0.0, 3.0)
    assert ratio_interval(Interval(2.0, 0.0, 4.0), nothing) == Interval(0.0, 0.0, math.inf)


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (LOAD, "4 in flight"),
        (Load(mode="open", rate=50), "50/s poisson"),
        (Load(mode="open", arrivals="trace", trace=(0, 1)), "trace of 2"),
    ],
)
def test_a_point_is_named_by_its_load(load: Load, name: str) -> None:
    assert point_name(Run(load, [])) == name
