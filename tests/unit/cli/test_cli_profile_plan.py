"""Flags of ``runtime profile``, without any server."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
import pytest

from runtime.cli import profile_plan
from runtime.cli.main import main
from runtime.cli.profile import profile
from runtime.cli.profile_live import Live, line
from runtime.cli.profile_measure import _joined
from runtime.profiling.records import Load
from runtime.profiling.stability import MeasurementMode
from runtime.profiling.store import Result
from runtime.profiling.timeline import Progress
from tests.support.runs import make_run


def read(*arguments: str) -> profile_plan.Plan:
    """The plan of a command line."""
    options: dict[str, Any] = profile.make_context("profile", ["m", *arguments]).params
    return profile_plan.plan(options, profile_plan.models(options, ("m",), {}))


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["profile", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a MODEL"),
        (["m", "--search"], "--search needs --slo-ms"),
        (["m", "--search", "--slo-ms", "5", "--concurrency", "1"], "it excludes --concurrency"),
        (["m", "--concurrency", "1", "--rate", "5"], "choose one of --concurrency and --rate"),
        (["m", "--concurrency", "0"], "above 0"),
        (["m", "--concurrency", "1.5"], "not whole"),
        (["m", "--rate", "x"], "no number"),
        (["m", "--rows", "0"], "above 0"),
        (["m", "--shape", "x"], "NAME=VALUE"),
        (["m", "-m", "n"], "exactly one MODEL"),
        (["m", "--fail-above", "5"], "--fail-above needs --compare"),
        (["m", "--json", "/nowhere/a.json"], "there is no folder /nowhere"),
        (["m", "--url", "127.0.0.1:1", "--instances", "2"], "leave out --url"),
        (["m", "--url", "127.0.0.1:1", "--header", "x"], "NAME=VALUE"),
        (["m", "--stability", "5", "--max-trials", "1"], "max_trials"),
        (["m", "--trace", "/nowhere"], "does not exist"),
    ],
)
def test_bad_usage_is_told_before_anything_starts(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RUNTIME_STORE", str(tmp_path / "models"))
    from frameworks import python
    from store import ModelStore

    python.save_model(
        "m", len, signatures={"__call__": {"batchable": False}}, store=ModelStore(tmp_path / "models")
    )
    assert message in failure(capsys, *arguments)


def test_without_a_load_there_is_a_sweep_of_calls_in_flight() -> None:
    assert [point.load.concurrency for point in read().points()] == [1, 4, 16, 64]


def test_each_value_of_a_sweep_is_a_point() -> None:
    points = list(read("--rate", "100:300:100", "--rows", "1,8").points())
    assert [(point.load.rate, point.labels["rows"]) for point in points] == [
        (100, "1"), (200, "1"), (300, "1"), (100, "8"), (200, "8"), (300, "8"),
    ]  # fmt: skip
    assert {point.load.arrivals for point in points} == {"poisson"}


def test_a_mix_of_rows_is_one_point() -> None:
    (point,) = read("--rows", "1:0.8,4:0.2", "--concurrency", "2").points()
    assert point.rows == ((1, 0.8), (4, 0.2))
    assert point.labels == {"rows": "1:0.8,4:0.2"}


def test_a_burst_makes_the_arrivals_bursts() -> None:
    (point,) = read("--rate", "10", "--burst", "5").points()
    assert (point.load.arrivals, point.load.burst) == ("burst", 5)


def test_a_trace_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("0\n0.5\n0.25\n")
    (point,) = read("--trace", str(path)).points()
    assert point.load.trace == (0, 250_000_000, 500_000_000)


def test_no_more_generators_than_calls_in_flight() -> None:
    loads = [point.load for point in read("--concurrency", "1,8", "--processes", "4").points()]
    assert [load.processes for load in loads] == [1, 4]


def test_models_are_mixed_by_weight() -> None:
    options = profile.make_context("profile", ["--shape", "x=3,4"]).params
    first, second = profile_plan.models(options, ("a:v1=3", "b:latest"), {"data": "sample"})
    assert (first.model, first.version, first.weight, first.shapes) == ("a", "v1", 3.0, {"x": (3, 4)})
    assert (second.model, second.version, second.weight, second.data) == ("b", "", 1.0, "sample")
    with pytest.raises(click.BadParameter):
        profile_plan.models(options, ("a=x",), {})


def test_windows_may_be_counted_in_requests() -> None:
    rule = read("--stability", "5", "--window-requests", "70").rule
    assert rule is not None
    assert (rule.measurement_mode, rule.measurement_request_count) == (MeasurementMode.COUNT_WINDOWS, 70)
    timed = read("--stability", "5", "--slo-ms", "3").rule
    assert timed is not None
    assert (timed.measurement_mode, timed.percentile) == (MeasurementMode.TIME_WINDOWS, 99.0)


def test_trials_are_joined_without_the_time_between_them() -> None:
    load = Load(mode="closed", concurrency=1)
    later = make_run(windows=3)
    for window in later.windows:
        window.start_ns += 10**12
        window.end_ns += 10**12
    joined = _joined([make_run(windows=2), later], load)
    assert joined.total.seconds == 5
    assert joined.total.achieved == 4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


NOW = Progress(
    elapsed_s=3,
    fraction=0.5,
    is_warm_up=False,
    ok=100,
    not_ok=2,
    rate=123.4,
    p50_ms=1.5,
    p99_ms=9.25,
    in_flight=7,
)


def test_live_figures_are_one_line() -> None:
    assert line("[1/2] closed 4", NOW) == (
        "[1/2] closed 4 ##########.......... 123/s p50 1.50 p99 9.25 ms, 7 in flight, 2 errors"
    )


def test_live_figures_are_shown_on_a_terminal_alone_and_cleared() -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        live = Live(2, stream)
        with live.run(Load(mode="closed", concurrency=4), {"rows": "2"}) as show:
            show(NOW)
        assert ("[1/2] closed 4, rows=2 ###" in stream.getvalue()) is shown
        assert stream.getvalue().endswith("\x1b[2K") is shown


def write(path: Path, milliseconds: tuple[float, ...], **environment: Any) -> str:
    result = Result(
        command=["runtime"], environment={"cpu": "x", "time": str(path), **environment}, model="m",
        points=[make_run(milliseconds, windows=20, load=Load(mode="closed", concurrency=2))],
    )  # fmt: skip
    path.write_text(json.dumps(result.to_dict()))
    return str(path)


QUICK = tuple(1 + index / 100 for index in range(100))
SLOW = tuple(2 * value for value in QUICK)


def test_a_result_is_as_good_as_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path / "a.json", QUICK)
    assert main(["profile", "--compare", first, first, "--fail-above", "1"]) == 0
    assert "regressed" not in capsys.readouterr().out


def test_a_regression_above_the_bound_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a.json", QUICK), write(tmp_path / "b.json", SLOW, cpu="y")
    assert main(["profile", "--compare", first, second, "--fail-above", "50"]) == 1
    out = capsys.readouterr().out
    assert "regressed" in out
    assert "environment: cpu: x -> y" in out
    assert main(["profile", "--compare", first, second]) == 0, "without a bound it only tells"
    assert main(["profile", "--compare", second, first, "--fail-above", "50"]) == 0, "better is fine"
    capsys.readouterr()
    assert main(["profile", "--compare", first, second, "--fail-above", "50", "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"] is True


def test_what_cannot_be_compared_fails_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a.json", QUICK), tmp_path / "b.json"
    second.write_text("{}")
    assert main(["profile", "--compare", first, str(second)]) == 1
    assert "b.json" in capsys.readouterr().err
