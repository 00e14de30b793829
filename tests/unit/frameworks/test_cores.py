"""How many cores there are to share out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from frameworks import cores
from frameworks.convert import environment


@pytest.mark.parametrize(
    ("quota", "usable"),
    [("max 100000", 8), ("250000 100000", 2), ("1000 100000", 1), ("9999999 100000", 8), ("odd", 8)],
)
def test_a_quota_of_the_control_group_bounds_the_cores(
    quota: str, usable: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _limit(monkeypatch, tmp_path, quota)
    assert cores.usable_cores() == usable


def test_without_a_control_group_there_are_the_cores_of_the_affinity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "missing")
    assert cores.usable_cores() == 3


def test_a_conversion_counts_the_cores_of_the_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _limit(monkeypatch, tmp_path, "250000 100000")
    assert environment.describe()["cores"] == 2


def _limit(monkeypatch: pytest.MonkeyPatch, folder: Path, quota: str) -> None:
    (folder / "cpu.max").write_text(quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "QUOTA", folder / "cpu.max")
