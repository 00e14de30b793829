"""From what h2load prints to the table of ratios; environments have names of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import environments, report
from benchmarks.peers.__main__ import take_turns
from benchmarks.peers.load import Figures, LoadFailed, Said, check, median, parse, percentile, ratio
from benchmarks.peers.profiled import Profile
from benchmarks.peers.report import Case, Comparison
from benchmarks.peers.server import cpu_seconds, family

SAID = """
finished in 1.02s, 19562.33 req/s, 5.62MB/s
requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 5.74MB (6023456) total, 118.20KB (121036) headers (space savings 95.00%), 5.38MB (5640000) data
"""


def figures(rate: float, times: float = 1.0) -> Figures:
    return Figures(rate, times, 2 * times, 3 * times)


class Scripted:
    """Stands for a loader: notes that it was asked, gives what comes next."""

    def __init__(self, name: str, order: list[str], rates: Iterator[float]) -> None:
        self._name, self._order, self._rates = name, order, rates

    def measure(self, _: float) -> Figures:
        self._order.append(self._name)
        return figures(next(self._rates))


def test_the_summary_of_h2load_is_read() -> None:
    assert parse(SAID) == Said(rate=19562.33, succeeded=20_000, data_bytes=5_640_000)


def test_no_summary_is_an_error_with_what_was_said() -> None:
    with pytest.raises(LoadFailed, match="cannot connect"):
        parse("cannot connect")


def test_right_answers_of_the_right_size_pass() -> None:
    check(parse(SAID), 20_000, 282)


def test_calls_that_failed_are_seen_by_the_size_of_answers() -> None:
    with pytest.raises(LoadFailed, match=r"about 50\.0% of 20000 calls failed"):
        check(parse(SAID), 20_000, 564)


def test_calls_without_answer_are_counted() -> None:
    with pytest.raises(LoadFailed, match="5 of 20005 calls had no answer"):
        check(parse(SAID), 20_005, 282)


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_percentiles_are_ranks(percent: int, value: int) -> None:
    assert percentile(list(range(1, 101)), percent) == value


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7], 99) == 7


def test_ratios_are_taken_within_a_round_and_then_the_median() -> None:
    case = Case("mlp", 16, [figures(100), figures(10), figures(1)], [figures(50), figures(10), figures(2)])
    assert case.ratio() == Figures(1.0, 1.0, 1.0, 1.0)
    assert ratio(figures(4, 2), figures(8, 1)) == Figures(0.5, 2.0, 2.0, 2.0)
    assert median([figures(1, 9), figures(3, 1), figures(2, 5)]) == figures(2, 5)


def test_a_case_with_failed_calls_has_no_ratio() -> None:
    assert Case("mlp", 1, [figures(1)], [], "calls failed").ratio() is None


def test_servers_take_turns_at_being_first() -> None:
    order: list[str] = []
    case = Case("mlp", 1)
    ours: Any = Scripted("ours", order, iter([1.0, 2.0, 3.0]))
    theirs: Any = Scripted("theirs", order, iter([4.0, 5.0, 6.0]))
    assert len(list(take_turns(case, ours, theirs, rounds=3, seconds=0.1))) == 6
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert [each.rate for each in case.ours] == [1.0, 2.0, 3.0]
    assert [each.rate for each in case.theirs] == [4.0, 5.0, 6.0]


def test_the_report_has_ratios_figures_failures_and_who_could_not_run() -> None:
    measured = Comparison(
        "Other", "batches of 64", "other 1.2",
        [Case("mlp", 1, [figures(100)], [figures(50, 4)]), Case("mlp", 16, failure="3 calls had no answer")],
        profiles=(Profile(100, 1.0, 2.0), Profile(remark="exit 1")),
    )  # fmt: skip
    absent = Comparison("Absent", "any", reason="no Java | runtime")
    text = report.text([measured, absent], Comparison("runtime", "defaults", "Python 3.11"))
    assert "| Other | mlp | 0.50 / - | 4.00 / - | 4.00 / - | 4.00 / - |" in text
    assert "| Other | mlp | 1 | 50 (100) | 4.00 (1.00) | 8.00 (2.00) | 12 (3) |" in text
    assert "failed: 3 calls had no answer" in text
    assert "| Absent |  | any | not run: no Java / runtime |" in text
    assert "| runtime, beside it | 100.0 % | 1.00 | 2.00 | valid |" in text
    assert "| Other |  |  |  | exit 1 |" in text


def test_the_report_says_which_measurements_were_disturbed() -> None:
    case = Case("mlp", 16, [figures(1)], [figures(1)], disturbed=1)
    assert report.quiet([Comparison("Other", "", cases=[case])]).endswith("Other: mlp at 16 (1 of 2).")
    assert report.quiet([Comparison("Other", "", cases=[Case("mlp", 1)])]).startswith("No measurement")


def test_other_requirements_make_another_environment() -> None:
    one, other = (environments.folder_name("x", pins) for pins in (["a==1"], ["a==2"]))
    assert one != other
    assert one == environments.folder_name("x", ["a==1"])
    assert environments.folder_name("x", ["a==1", "b==1"]) == environments.folder_name("x", ["b==1", "a==1"])


def test_environments_lie_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environments.home() == tmp_path / "runtime-serving" / "peers"


def test_the_cpu_time_of_a_process_is_known_and_grows() -> None:
    before = cpu_seconds(os.getpid())
    assert before is not None
    sum(range(200_000))
    after = cpu_seconds(os.getpid())
    assert after is not None
    assert after > before


def test_a_process_that_is_gone_has_no_family() -> None:
    gone = 2**22 + 1  # above the highest process id
    assert family(gone) == []
    assert cpu_seconds(gone) is None
