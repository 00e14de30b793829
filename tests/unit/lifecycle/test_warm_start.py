"""What is known of a model's speed before its first call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from frameworks import python
from runtime.lifecycle.warm_start import stored_curve
from store import Model, ModelStore
from store.profiles import ProfileStore


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return python.save_model("m", len, store=ModelStore(tmp_path / "models"))


@pytest.fixture
def profiles(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path / "profiles")


def test_a_model_that_was_never_profiled_has_no_curve(model: Model) -> None:
    assert stored_curve(model) == {}


def test_the_newest_profile_with_a_curve_counts(model: Model, profiles: ProfileStore) -> None:
    documents: list[dict[str, object]] = [
        {"curve": {"1": 9}}, {"curve": {"1": 1.5, "64": 20}}, {"curve": {}}, {"points": []},
    ]  # fmt: skip
    for document in documents:
        profiles.save(model.tag, document)
    assert stored_curve(model) == {"1": 1.5, "64": 20}


def test_a_profile_of_another_version_is_not_used(
    model: Model, profiles: ProfileStore, tmp_path: Path
) -> None:
    other = python.save_model("m", len, store=ModelStore(tmp_path / "models"))
    profiles.save(other.tag, {"curve": {"1": 1}})
    assert stored_curve(model) == {}
    assert stored_curve(other) == {"1": 1}


@pytest.mark.parametrize(
    "curve",
    [
        [1, 2],
        "fast",
        {"1": "x"},
        {"one": 1},
        {"0": 1},
        {"-1": 1},
        {"1": 0},
        {"1": -1},
        {"1": True},
        {"1": None},
    ],
)
def test_a_curve_that_makes_no_sense_is_passed_over_with_a_line_in_the_log(
    model: Model, profiles: ProfileStore, curve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    profiles.save(model.tag, {"curve": {"4": 2.5}})
    profiles.save(model.tag, {"curve": curve})
    assert stored_curve(model) == {"4": 2.5}
    assert "profile_passed_over" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"curve": {"1": NaN}}', '{"curve": {"1": 1e999}}'])
def test_a_damaged_file_is_passed_over_with_a_line_in_the_log(
    model: Model, profiles: ProfileStore, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    profiles.save(model.tag, {"curve": {"1": 1}}).write_text(text, encoding="utf-8")
    assert stored_curve(model) == {}
    assert "profile_passed_over" in caplog.text
