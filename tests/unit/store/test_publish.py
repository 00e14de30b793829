from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path

import pytest

from store import ModelMissing, Tag, TagExists, publish


def work(root: Path) -> list[str]:
    return sorted(path.name for path in (root / publish.WORK_FOLDER).iterdir())


def test_a_workplace_is_removed_when_its_block_ends(tmp_path: Path) -> None:
    with publish.workplace(tmp_path) as path:
        assert not path.exists()
        path.mkdir()
        (path / "file").write_text("")
        assert work(tmp_path) == [path.name, f"{path.name}.lock"]
    assert work(tmp_path) == []


def test_a_workplace_that_became_a_file_is_removed_too(tmp_path: Path) -> None:
    with publish.workplace(tmp_path) as path:
        path.write_text("")
    assert work(tmp_path) == []


def test_sweep_leaves_what_is_in_use(tmp_path: Path) -> None:
    with publish.workplace(tmp_path) as path:
        path.mkdir()
        assert publish.sweep(tmp_path) == 0
        assert path.is_dir()


def test_sweep_removes_what_dead_owners_left(tmp_path: Path) -> None:
    folder = tmp_path / publish.WORK_FOLDER
    (folder / "with_lock" / "deep").mkdir(parents=True)
    (folder / "with_lock.lock").write_text("")
    (folder / "without_lock").mkdir()
    (folder / "only.lock").write_text("")
    assert publish.sweep(tmp_path) == 3
    assert work(tmp_path) == []


def test_sweep_of_a_store_that_was_never_written_does_nothing(tmp_path: Path) -> None:
    assert publish.sweep(tmp_path / "none") == 0


def test_sweep_leaves_other_users_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / publish.WORK_FOLDER
    folder.mkdir()
    (folder / "theirs.lock").write_text("")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert publish.sweep(tmp_path) == 0


def test_a_failing_removal_is_logged_and_left_for_the_next_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise OSError(16, "busy")

    with monkeypatch.context() as patched, publish.workplace(tmp_path) as path:
        path.mkdir()
        patched.setattr(shutil, "rmtree", refuse)
    assert path.is_dir()
    assert "busy" in caplog.text
    assert publish.sweep(tmp_path) == 1
    assert work(tmp_path) == []


def test_a_creator_whose_new_lock_was_swept_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["taken", "swept", "free"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(names))
    folder = tmp_path / publish.WORK_FOLDER
    folder.mkdir()
    (folder / "taken.lock").write_text("")
    flock = fcntl.flock

    def sweep_first(descriptor: int, flags: int) -> None:
        (folder / "swept.lock").unlink(missing_ok=True)
        flock(descriptor, flags)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    with publish.workplace(tmp_path) as path:
        assert path.name == "free"


def test_publishing_retries_when_the_name_folder_vanishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "file").write_text("content")
    rename, tries = Path.rename, []

    def race(self: Path, target: Path) -> Path:
        tries.append(target)
        if len(tries) == 1:
            target.parent.rmdir()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", race)
    target = publish.publish(staged, tmp_path, Tag("iris", "v1"))
    assert (target / "file").read_text() == "content"
    assert len(tries) == 2


def test_publishing_gives_up_when_the_name_folder_never_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(*_: object) -> Path:
        raise FileNotFoundError

    (tmp_path / "staged").mkdir()
    monkeypatch.setattr(Path, "rename", vanish)
    with pytest.raises(OSError, match="keeps vanishing"):
        publish.publish(tmp_path / "staged", tmp_path, Tag("iris", "v1"))


def test_other_failures_of_the_rename_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    (tmp_path / "staged").mkdir()
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        publish.publish(tmp_path / "staged", tmp_path, Tag("iris", "v1"))


def test_an_existing_version_stays_and_the_staged_folder_too(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    publish.publish(tmp_path / "one", tmp_path, Tag("iris", "v1"))
    with pytest.raises(TagExists):
        publish.publish(tmp_path / "two", tmp_path, Tag("iris", "v1"))
    assert (tmp_path / "iris" / "v1" / "file").read_text() == "one"
    assert (tmp_path / "two" / "file").exists()


def test_removing_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        publish.remove(tmp_path, Tag("iris", "v1"))
    (tmp_path / "iris").write_text("")
    with pytest.raises(ModelMissing):
        publish.remove(tmp_path, Tag("iris", "v1"))
    assert work(tmp_path) == []
