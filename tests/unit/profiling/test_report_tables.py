"""Tables and CSV of the profiler."""

from __future__ import annotations

import csv
import io

import pytest

from runtime.profiling import report
from runtime.profiling.records import Load
from tests.support.runs import SERVER, make_run


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_table_has_the_percentiles_of_all_windows_together() -> None:
    text = report.tables([make_run((10.0,) * 99 + (1000.0,))])
    header, row = line_of(text, "point"), line_of(text, "open")
    assert header.split()[:3] == ["point", "offered/s", "achieved/s"]
    assert row.split()[:5] == ["open", "100/s", "poisson", "100.0", "100.0"]
    figures = [float(word) for word in row.split()[5:11]]
    assert figures == pytest.approx([10, 10, 10, 10, 1000, 1000], rel=1 / 128)


def test_columns_are_aligned() -> None:
    lines = report.grid(
        ["point", "a", "long header"], [["x", "1", "2"], ["longer name", "1000", "3"]]
    ).splitlines()
    assert lines == [
        "point           a  long header",
        "x               1            2",
        "longer name  1000            3",
    ]


def test_outcomes_are_counted_apart() -> None:
    text = report.tables([make_run(counts=(1, 2, 3, 4))])
    row = text[text.index("Requests") :].splitlines()[2].split()
    assert row[3:8] == ["16", "4", "8", "12", "16"]


def test_goodput_and_late_stand_only_where_there_is_a_limit() -> None:
    assert "goodput" not in report.tables([make_run()])
    text = report.tables([make_run(late_slo_ms=2.5)])
    assert "goodput/s" in text
    assert line_of(text, "open").split()[5] == "2.00"
    assert text[text.index("Requests") :].splitlines()[2].split()[8] == "8"


def test_a_closed_loop_offers_no_rate() -> None:
    run = make_run(load=Load(mode="closed", concurrency=7))
    assert line_of(report.tables([run]), "closed 7").split()[2] == "-"


def test_an_invalid_run_is_marked_with_its_reason() -> None:
    text = report.tables([make_run(invalid=["the generator used 97 % of a core"]), make_run()])
    assert text.count("open 4/s poisson INVALID") == 2
    assert "INVALID open 4/s poisson: the generator used 97 % of a core" in text


def test_the_server_side_is_absent_when_the_server_tells_nothing() -> None:
    text = report.tables([make_run()])
    assert "Server side" not in text
    assert "Batches" not in text


def test_the_server_side_has_each_stage_and_the_batches() -> None:
    text = report.tables([make_run(server=SERVER)], [{"bottleneck": "worker", "reason": "busy"}])
    section = text[text.index("Server side") :]
    assert section.splitlines()[1].split() == [
        "point", "queue", "merge", "compute", "split", "hop", "transport", "server", "total", "rows/batch",
    ]  # fmt: skip
    assert section.splitlines()[2].split()[3:] == [
        "1.00",
        "0.100",
        "3.00",
        "0.100",
        "0.300",
        "0.500",
        "4.50",
        "2.50",
    ]
    assert "1x10  3x30" in text
    assert "open 4/s poisson: worker (busy)" in text


def test_labels_name_the_point() -> None:
    assert (
        report.point_name(make_run(labels={"rows": 4, "instances": 2}))
        == "open 4/s poisson, rows=4, instances=2"
    )


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (Load(mode="closed", concurrency=8), "closed 8"),
        (Load(mode="open", rate=100, arrivals="constant"), "open 100/s constant"),
        (Load(mode="open", rate=100, arrivals="burst", burst=5), "open 100/s burst of 5"),
        (Load(mode="open", arrivals="trace", trace=(1, 2, 3)), "open trace of 3"),
    ],
)
def test_each_load_has_a_name(load: Load, name: str) -> None:
    assert report.load_name(load) == name


def test_a_run_too_short_to_bound_its_tail_says_so() -> None:
    assert line_of(report.tables([make_run(windows=1)]), "open").split()[-2].endswith("..")


def test_a_run_without_answers_is_shown_too() -> None:
    text = report.tables([make_run((), counts=(3, 0, 0, 0))])
    assert line_of(text, "open").split()[-2:] == ["-", "0.00"]


def test_nothing_measured_is_said() -> None:
    assert report.tables([]) == "nothing was measured"


def test_csv_has_one_line_a_point_and_the_columns_of_all() -> None:
    runs = [make_run(labels={"rows": 2}), make_run(server=SERVER, invalid=["a", "b"])]
    first, second = csv.DictReader(io.StringIO(report.to_csv(runs)))
    assert (first["rows"], second["rows"]) == ("2", "")
    assert (first["server_queue_ms"], second["server_queue_ms"]) == ("", "1.0")
    assert (first["valid"], second["valid"], second["invalid"]) == ("True", "False", "a; b")
    assert float(first["p50_ms"]) == pytest.approx(2, rel=1 / 256)
    assert float(first["service_p50_ms"]) == pytest.approx(1, rel=1 / 256)
    assert first["concurrency"] == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (0.1234, "0.123"), (1.234, "1.23"), (123.4, "123.4"), (1234.5, "1234")]
)
def test_figures_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert report.number(value) == text
