from __future__ import annotations

import pytest

from runtime.cli import demo
from runtime.cli.demo_load import Batches, Tally, parse_batches
from runtime.clock import MILLISECOND
from runtime.errors import LoadFailed

METRICS = """\
# HELP runtime_batch_rows Rows of each executed batch.
# TYPE runtime_batch_rows histogram
runtime_batch_rows_bucket{model="a",version="1",le="1.0"} 2.0
runtime_batch_rows_bucket{model="a",version="1",le="2.0"} 5.0
runtime_batch_rows_bucket{model="a",version="1",le="+Inf"} 6.0
runtime_batch_rows_count{model="a",version="1"} 6.0
runtime_batch_rows_sum{model="a",version="1"} 18.0
runtime_batch_rows_bucket{model="b",version="1",le="1.0"} 1.0
runtime_batch_rows_bucket{model="b",version="1",le="2.0"} 1.0
runtime_batch_rows_bucket{model="b",version="1",le="+Inf"} 1.0
runtime_batch_rows_count{model="b",version="1"} 1.0
runtime_batch_rows_sum{model="b",version="1"} 1.0
"""


def test_batch_sizes_are_added_up_over_models() -> None:
    batches = parse_batches(METRICS)
    assert batches == Batches((1.0, 2.0, float("inf")), (3, 3, 1), 19)
    assert (batches.total, batches.mean_rows) == (7, 19 / 7)


def test_a_server_without_the_metric_is_an_error() -> None:
    with pytest.raises(LoadFailed, match="has no metric runtime_batch_rows"):
        parse_batches("# TYPE other counter\nother_total 1.0\n")


def test_only_what_was_executed_since_is_counted() -> None:
    later, earlier = Batches((1.0, 2.0), (5, 4), 13), Batches((1.0, 2.0), (2, 1), 4)
    assert later.since(earlier) == Batches((1.0, 2.0), (3, 3), 9)
    assert Batches((), (), 0).mean_rows == 0


def test_percentiles_are_times_that_occurred() -> None:
    tally = Tally(latencies_ns=[index * MILLISECOND for index in range(100, 0, -1)])
    assert tally.percentiles_ms() == {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    assert Tally(latencies_ns=[MILLISECOND]).percentiles_ms() == dict.fromkeys(
        ("p50", "p90", "p95", "p99", "max"), 1
    )
    assert Tally().percentiles_ms() == {}


def test_rates_of_nothing_are_zero() -> None:
    assert (Tally().rate, Tally().accuracy) == (0, 0)
    tally = Tally(rows=4, correct=3, latencies_ns=[1, 2], elapsed_s=0.5)
    assert (tally.rate, tally.accuracy, tally.requests) == (4, 0.75, 2)


def test_bars_show_the_sizes_that_occurred() -> None:
    by_rows = [
        {"at_most": bound, "count": count}
        for bound, count in ((1.0, 1), (2.0, 40), (4.0, 0), (8.0, 20), (float("inf"), 1))
    ]
    lines = [line.split() for line in demo.bars(by_rows)]
    assert [(line[0], line[2], len(line[3])) for line in lines if len(line) == 4] == [
        ("1", "1", 1),
        ("2", "40", 40),
        ("5-8", "20", 20),
    ]
    assert lines[-1] == ["over", "8", "rows", "1", "#"]


@pytest.mark.parametrize(
    ("tally", "stopped", "code"),
    [
        (Tally(rows=100, correct=96), 0, 0),
        (Tally(rows=100, correct=95), 0, 1),
        (Tally(rows=100, correct=96, failures=["UNAVAILABLE"]), 0, 1),
        (Tally(rows=100, correct=96), 1, 1),
        (Tally(), 0, 1),
    ],
)
def test_the_demo_fails_when_a_call_or_the_accuracy_or_the_server_does(
    tally: Tally, stopped: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = demo.Measured(Tally(), tally, Batches((), (), 0))
    assert demo.verdict(measured, stopped) == code
    assert ("failed" in capsys.readouterr().err) == bool(code)
