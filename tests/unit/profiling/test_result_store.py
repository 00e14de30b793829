"""The result file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.errors import InvalidInput
from runtime.profiling import store
from runtime.profiling.store import Result
from tests.support.runs import SERVER, make_run


def make_result() -> Result:
    return Result(
        command=["runtime", "profile", "m"], environment={"cpu": "x"}, model="m:1",
        points=[make_run(server=SERVER), make_run(labels={"rows": 2}, timeline=[(0, 1, 2, 3, 4, 5)])],
        verdicts=[{"bottleneck": "none", "reason": "r"}] * 2, search={"rate": 5}, curve={"1": 2.5},
    )  # fmt: skip


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    store.write(tmp_path / "a.json", json.dumps(make_result().to_dict()))
    assert Result.from_dict(store.read(tmp_path / "a.json")) == make_result()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_later_releases_add_is_passed_over() -> None:
    assert Result.from_dict({**make_result().to_dict(), "new": 1}) == make_result()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "points": 3}']
)
def test_what_is_no_result_is_refused_with_its_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"a\.json"):
        store.read(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        store.write(path, "\ud800")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_result_is_valid_only_when_each_point_is() -> None:
    result = make_result()
    assert result.valid
    result.points.append(make_run(invalid=["slip"]))
    assert not result.valid
