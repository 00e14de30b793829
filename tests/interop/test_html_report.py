"""The HTML report in a real browser."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from runtime.profiling import html
from runtime.profiling.records import Load, Run
from runtime.profiling.store import Result
from tests.support import browser
from tests.support.runs import SERVER, make_run

PLOTS = {"throughput", "distribution", "stages", "batches", "timeline"}
HOSTILE = "</script><script>console.error('broken out')</script><b>&"


@pytest.fixture(scope="module")
def chromium() -> str:
    found = browser.find()
    if found is None:
        pytest.skip("no chromium; on Debian: apt-get install chromium")
    return found


def make_runs() -> list[Run]:
    source = random.Random(1)
    return [
        make_run(
            tuple(source.lognormvariate(1, 0.5) for _ in range(200)),
            load=Load(mode="closed", concurrency=concurrency),
            server=SERVER,
            timeline=[(100 * step, 20, 0, 2000, 9000, concurrency) for step in range(40)],
            labels={"rows": 1, "note": HOSTILE},
            late_slo_ms=10.0,
        )
        for concurrency in (1, 2, 4)
    ]


def make_page(tmp_path: Path, runs: list[Run]) -> Path:
    result = Result(
        command=["runtime", "profile", HOSTILE], environment={"cpu": HOSTILE, "versions": {"a": "1"}},
        model=HOSTILE, points=runs, facts={"parameters": 10},
        verdicts=[{"bottleneck": "worker", "reason": HOSTILE}] * len(runs),
    )  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(html.page(runs, result.to_dict()), encoding="utf-8")
    return path


def test_each_plot_is_drawn_and_the_console_stays_silent(chromium: str, tmp_path: Path) -> None:
    opened = browser.open_page(chromium, make_page(tmp_path, make_runs()))
    assert opened.console == []
    assert opened.plots == PLOTS
    assert opened.dom.count('class="scatterlayer') >= 3
    assert "p99.9" in opened.dom


def test_a_server_that_tells_nothing_leaves_its_plots_out(chromium: str, tmp_path: Path) -> None:
    runs = [make_run(invalid=["the generator was late"])]
    opened = browser.open_page(chromium, make_page(tmp_path, runs))
    assert opened.console == []
    assert opened.plots == {"throughput", "distribution"}
    assert 'class="invalid"' in opened.dom


def test_a_page_that_complains_would_be_noticed(chromium: str, tmp_path: Path) -> None:
    for name, script in (
        ("error", "console.error('oh')"),
        ("exception", "undefined.oh"),
        ("log", "console.log(1)"),
    ):
        page = tmp_path / f"{name}.html"
        page.write_text(f"<script>{script}</script>")
        assert browser.open_page(chromium, page).console


def test_the_file_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = make_page(tmp_path, make_runs()).read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"(?!data:)", text)


def test_an_empty_result_makes_a_page_without_plots(chromium: str, tmp_path: Path) -> None:
    opened = browser.open_page(chromium, make_page(tmp_path, []))
    assert opened.console == []
    assert "nothing was measured" in opened.dom
