"""Results that are kept with a model."""

from __future__ import annotations

import errno
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import CorruptArtifact, InvalidTag, ModelMissing
from store.profiles import ProfileStore


@pytest.fixture
def profiles(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path / "profiles")


def test_a_result_is_found_again(profiles: ProfileStore) -> None:
    path = profiles.save("iris:v1", {"a": [1, 2.5, None, "ü"]})
    assert path.parent == profiles.root / "iris" / "v1"
    assert profiles.list("iris:v1") == [path]
    assert profiles.load(path) == {"a": [1, 2.5, None, "ü"]}


def test_results_are_listed_newest_first_over_all_versions(profiles: ProfileStore) -> None:
    paths = [profiles.save(f"iris:v{number % 2}", {"number": number}) for number in range(4)]
    profiles.save("other:v1", {})
    assert profiles.list("iris") == paths[::-1]
    assert profiles.list("iris:v1") == [paths[3], paths[1]]
    assert profiles.latest("iris") == {"number": 3}


def test_what_was_never_measured_has_no_result(profiles: ProfileStore) -> None:
    assert profiles.list("iris") == []
    assert profiles.latest("iris:v1") is None
    assert not profiles.root.exists()


def test_a_result_belongs_to_a_version(profiles: ProfileStore) -> None:
    with pytest.raises(InvalidTag, match="pointer"):
        profiles.save("iris", {})


def test_what_json_lacks_is_refused_and_leaves_nothing(profiles: ProfileStore) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        profiles.save("iris:v1", {"a": math.nan})
    assert profiles.list("iris") == []


def test_a_write_that_fails_leaves_nothing(profiles: ProfileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        profiles.save("iris:v1", {})
    assert list((profiles.root / "iris" / "v1").iterdir()) == []


def test_half_written_files_are_not_seen(profiles: ProfileStore) -> None:
    path = profiles.save("iris:v1", {})
    (path.parent / ".unfinished-x").write_text("{")
    assert profiles.list("iris:v1") == [path]


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_damaged_result_is_refused_and_passed_over(text: str, profiles: ProfileStore) -> None:
    profiles.save("iris:v1", {"good": True})
    path = profiles.save("iris:v1", {})
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CorruptArtifact, match=path.name):
        profiles.load(path)
    assert profiles.latest("iris:v1") == {"good": True}


def test_a_result_that_is_gone_is_missing(profiles: ProfileStore) -> None:
    with pytest.raises(ModelMissing):
        profiles.load(profiles.root / "nothing.json")


def test_many_writers_do_not_disturb_each_other(profiles: ProfileStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda number: profiles.save("iris:v1", {"number": number}), range(40)))
    assert len(set(paths)) == 40
    assert sorted(str(profiles.load(path)["number"]) for path in profiles.list("iris:v1")) == sorted(
        map(str, range(40))
    )


def test_the_default_place_is_beside_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path))
    assert ProfileStore.default().root == tmp_path / "profiles"
    assert ProfileStore.beside(tmp_path / "models").root == tmp_path / "profiles"
