"""The HTML report without a browser."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from frameworks import MissingFramework
from runtime.profiling import html
from runtime.profiling.histogram import Histogram
from tests.support.runs import SERVER, make_run


def test_the_curve_of_a_distribution_ends_at_its_largest_value() -> None:
    shares, values = html.tail(Histogram([1_000_000] * 90 + [2_000_000] * 9 + [5_000_000]))
    assert shares == pytest.approx([1, 10, 100])
    assert values == pytest.approx([1, 2, 5], rel=1 / 128)


def test_the_curve_of_nothing_is_empty() -> None:
    assert html.tail(Histogram()) == ([], [])


def test_a_long_distribution_is_thinned_out_but_keeps_its_end() -> None:
    shares, values = html.tail(Histogram(range(0, 10**12, 10**8)))
    assert len(shares) == len(values) <= html.MAX_STEPS + 2
    assert values[-1] == pytest.approx((10**12 - 10**8) / 1e6)


def test_what_users_write_is_never_markup() -> None:
    run = make_run(invalid=["<b>"], server=SERVER, labels={"<i>": "</script>"})
    text = html.page([run], {"model": "<u>", "command": ["<s>"], "environment": {"<q>": ["<em>"]}})
    body = text.partition("<body>")[2]
    assert not {tag for tag in ("<b>", "<i>", "<u>", "<s>", "<q>", "<em>") if tag in body}


def test_a_missing_plotting_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str, package: Any = None) -> None:
        del name, package

    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    with pytest.raises(MissingFramework, match=r"runtime-serving\[profile\]"):
        html.require()
