"""The pure parts of the served benchmark: arrivals, verdicts, and what its model writes down."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.served import arrivals, sleeper
from benchmarks.served.arrivals import SECOND
from benchmarks.served.bar import Row, line, ratio_row, table


def test_the_rate_of_arrivals_follows_the_steps() -> None:
    instants = arrivals.stepped([(10, 100), (10, 1000), (10, 100)], seed=1)
    assert list(instants) == sorted(instants)
    counts = [sum(start * SECOND <= one < (start + 10) * SECOND for one in instants) for start in (0, 10, 20)]
    assert counts == pytest.approx([1000, 10_000, 1000], rel=0.1)
    assert sum(counts) == len(instants)


def test_clumps_have_the_size_and_the_rate_that_was_asked_for() -> None:
    instants = arrivals.clumps(1000, 20, 4, seed=1)
    assert list(instants) == sorted(instants)
    assert len(instants) == pytest.approx(20_000, rel=0.05)
    gaps = np.diff(instants)
    clumps = 1 + int((gaps >= arrivals.CLUMP_SPREAD_NS).sum())
    assert len(instants) / clumps == pytest.approx(4, rel=0.05)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert arrivals.clumps(10, 50, 4, seed=3) == arrivals.clumps(10, 50, 4, seed=3)
    assert arrivals.clumps(10, 50, 4, seed=3) != arrivals.clumps(10, 50, 4, seed=4)
    assert arrivals.stepped([(1, 50)], seed=3) == arrivals.stepped([(1, 50)], seed=3)


def test_padding_up_costs_what_it_costs_by_hand() -> None:
    at = [0, 1_000_000, 2_000_000, 3_000_000]  # one runs alone for 3 ms; the other three as four, for 6 ms
    assert arrivals.padded_up_mean_ms(at, 2, 1, (1, 2, 4)) == pytest.approx((3 + 8 + 7 + 6) / 4)


def test_no_more_than_the_largest_size_is_taken() -> None:
    assert arrivals.padded_up_mean_ms([0, 0, 0], 2, 1, (1, 2)) == pytest.approx((4 + 4 + 7) / 3)


def test_a_figure_fails_beyond_either_bound_and_only_there() -> None:
    assert [Row("1", "x", value, 1.0, 2.0).passed for value in (0.99, 1.0, 2.0, 2.01)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_figure_without_a_bar_has_no_verdict() -> None:
    assert (Row("1", "x", 5.0).verdict, Row("1", "x", 5.0).passed, Row("1", "x", 5.0).bar) == ("", True, "")


def test_a_failure_says_that_it_was_disturbed_and_stays_one() -> None:
    row = Row("1", "x", 3.0, most=2.0, strangers=1.0)
    assert (row.verdict, row.passed) == ("FAIL (disturbed)", False)


def test_a_comparison_takes_the_median_of_ratios_and_grants_slack() -> None:
    row = ratio_row("2", "x", [(10, 10), (30, 20), (90, 10)], least=1.3, unit="ms")
    assert row.measured == 1.5
    assert (row.least, row.most) == (1.25, math.inf)
    assert row.note == "30 against 10 ms"


def test_rows_are_shown_with_their_bars() -> None:
    row = Row("3", "in time", 64.7, 58.8, unit="%", note="of all", strangers=0.1)
    assert "| 3 | in time | ≥ 58.8% | 64.7% | pass | of all | 0.10 |" in table([row])
    assert line(row).split() == ["pass", "3", "in", "time", "≥", "58.8%", "64.7%", "of", "all"]
    assert row.to_dict() | {"least": 58.8, "most": None, "passed": True} == row.to_dict()


def test_the_model_writes_down_what_it_executed(tmp_path: Path) -> None:
    sleeper.set_speed(tmp_path, 1.0)
    model = sleeper.Sleeper(0, 0, tmp_path, tags=True)
    batches = [np.array([[7, 0], [8, 0]]), np.array([[9, 0]])]
    for batch in batches:
        assert model(batch) is batch
    executed = list(sleeper.read_log(tmp_path))
    assert [one.tags for one in executed] == [(7, 8), (9,)]
    assert [one.rows for one in executed] == [2, 1]
    assert executed[0].begun_ns <= executed[0].ended_ns <= executed[1].begun_ns


def test_the_model_is_as_slow_as_it_is_told_in_between(tmp_path: Path) -> None:
    sleeper.set_speed(tmp_path, 1.0)
    model = sleeper.Sleeper(0.01, 0.01, tmp_path)
    for factor in (1.0, 3.0, 0.5):
        sleeper.set_speed(tmp_path, factor)
        model(np.zeros((2, 1), np.int64))
    took = [one.ended_ns - one.begun_ns for one in sleeper.read_log(tmp_path)]
    assert took == [30_000, 90_000, 15_000]


def test_a_model_that_has_executed_nothing_has_an_empty_log(tmp_path: Path) -> None:
    assert list(sleeper.read_log(tmp_path)) == []
