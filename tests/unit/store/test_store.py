from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from store import (
    CorruptArtifact,
    InvalidManifest,
    InvalidTag,
    Model,
    ModelInfo,
    ModelMissing,
    ModelStore,
    StoreError,
    Tag,
    TagExists,
    publish,
)

Saver = Callable[..., Model]


def stray(models: ModelStore) -> list[str]:
    """What is left in the working folder."""
    return sorted(path.name for path in (models.root / publish.WORK_FOLDER).iterdir())


def test_a_saved_model_is_found_with_its_record_and_files(models: ModelStore, save: Saver) -> None:
    saved = save("iris", labels={"stage": "dev"}, metadata={"acc": 0.9})
    found = models.get(str(saved.tag))
    assert found == saved
    assert found.info.labels == {"stage": "dev"}
    assert found.path == models.root / "iris" / found.tag.version
    assert (found.path / "weights.bin").read_bytes() == b"weights"
    assert set(found.info.digests) == {"weights.bin", "more/vocabulary.txt"}
    found.verify()
    assert stray(models) == []


def test_latest_is_the_newest(models: ModelStore, save: Saver) -> None:
    save("iris", "zz")
    second = save("iris", "aa")
    save("other")
    assert models.get("iris") == models.get("iris:latest") == second


def test_equal_creation_times_go_by_version(models: ModelStore, save: Saver) -> None:
    times = {save("iris", version).path / "model.yaml" for version in ("v1", "v3", "v2")}
    for path in times:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("creation_time")]
        path.write_text("\n".join([*lines, "creation_time: '2024-01-01T00:00:00+00:00'"]))
    assert [model.tag.version for model in models.list("iris")] == ["v3", "v2", "v1"]


def test_creation_times_compare_as_instants(models: ModelStore, save: Saver) -> None:
    for version, time in (("v1", "2024-01-01T12:00:00+00:00"), ("v2", "2024-01-01T13:00:00+02:00")):
        path = save("iris", version).path / "model.yaml"
        lines = [line for line in path.read_text().splitlines() if not line.startswith("creation_time")]
        path.write_text("\n".join([*lines, f"creation_time: '{time}'"]))
    assert models.get("iris").tag.version == "v1"


def test_list_is_newest_first_over_all_names(models: ModelStore, save: Saver) -> None:
    saved = [save("b"), save("a"), save("b")]
    assert models.list() == saved[::-1]
    assert models.list("b") == [saved[2], saved[0]]
    assert models.list("unknown") == []


def test_an_empty_store_lists_nothing_and_is_not_made_by_reading(models: ModelStore) -> None:
    assert models.list() == []
    with pytest.raises(ModelMissing):
        models.get("iris")
    assert not models.root.exists()


def test_unknown_names_propose_the_nearest(models: ModelStore, save: Saver) -> None:
    save("iris_clf", "v1")
    with pytest.raises(ModelMissing, match="did you mean 'iris_clf'"):
        models.get("iris_cfl")
    with pytest.raises(ModelMissing, match="no version 'v2'"):
        models.get("iris_clf:v2")
    with pytest.raises(ModelMissing, match="not in"):
        models.delete("zzz:v1")
    with pytest.raises(InvalidTag):
        models.get("../etc")
    with pytest.raises(InvalidTag):
        models.list("../etc")


def test_delete_removes_the_version_and_an_empty_name(models: ModelStore, save: Saver) -> None:
    first, second = save("iris"), save("iris")
    assert models.delete("iris") == second.tag
    assert models.list() == [first]
    assert models.delete(first.tag) == first.tag
    assert [path.name for path in models.root.iterdir()] == [publish.WORK_FOLDER]
    assert stray(models) == []
    with pytest.raises(ModelMissing):
        models.delete(first.tag)


def test_a_version_is_never_published_twice(models: ModelStore, save: Saver) -> None:
    save("iris", "v1", b"first")
    with pytest.raises(TagExists):
        save("iris", "v1", b"second")
    assert (models.get("iris:v1").path / "weights.bin").read_bytes() == b"first"


def test_of_two_drafts_of_one_version_the_first_published_wins(models: ModelStore) -> None:
    def write(who: str, then: Callable[[], None]) -> None:
        with models.create(ModelInfo(name="iris", version="v1", module="python")) as draft:
            (draft.path / "who").write_text(who)
            then()

    with pytest.raises(TagExists):
        write("slow", lambda: write("quick", lambda: None))
    assert (models.get("iris").path / "who").read_text() == "quick"
    assert stray(models) == []


def test_a_file_in_the_way_is_an_existing_tag(models: ModelStore) -> None:
    (models.root / "iris").mkdir(parents=True)
    (models.root / "iris" / "v1").write_text("")
    with pytest.raises(TagExists), models.create(ModelInfo(name="iris", version="v1", module="python")):
        pass


def test_a_draft_that_raises_leaves_nothing(models: ModelStore) -> None:
    drafts = []

    def fail() -> None:
        with models.create(_info("a")) as draft:
            drafts.append(draft)
            (draft.path / "half").write_text("")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(StoreError, match="not published"):
        _ = drafts[0].model
    assert models.list() == []
    assert stray(models) == []


def test_links_are_not_published(models: ModelStore) -> None:
    with pytest.raises(CorruptArtifact, match="neither"), models.create(_info("a")) as draft:
        (draft.path / "link").symlink_to("/etc/passwd")
    assert models.list() == []


def test_the_record_may_be_completed_while_the_draft_is_open(models: ModelStore) -> None:
    from dataclasses import replace

    with models.create(_info("a")) as draft:
        draft.info = replace(draft.info, checks={"seen": True})
    assert models.get("a").info.checks == {"seen": True}


def test_two_stores_on_one_root_see_the_same(models: ModelStore, save: Saver) -> None:
    saved = save()
    assert ModelStore(str(models.root)).list() == [saved]


def test_the_default_root_is_read_at_call_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path / "one"))
    assert ModelStore.default().root == tmp_path / "one" / "models"
    monkeypatch.setenv("RUNTIME_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ModelStore.default().root == tmp_path / ".runtime" / "models"


def test_foreign_and_broken_folders_are_skipped_with_a_warning(
    models: ModelStore, save: Saver, caplog: pytest.LogCaptureFixture
) -> None:
    good = save("good", "v1")
    for name in ("No Name", ".hidden", "Upper"):
        (models.root / name / "v1").mkdir(parents=True)
    (models.root / "file").write_text("")
    (models.root / "foreign" / "v1").mkdir(parents=True)
    (save("broken", "v1").path / "model.yaml").write_text("name: [")
    (save("binary", "v1").path / "model.yaml").write_bytes(b"\xff\xfe\xff")
    shutil.copytree(good.path, models.root / "good" / "v2")
    (models.root / "odd" / "v1" / "model.yaml").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert models.list() == [good]
    for path in ("foreign/v1", "broken/v1", "binary/v1", "good/v2", "odd/v1"):
        assert path in caplog.text
    with pytest.raises(CorruptArtifact):
        models.get("broken:v1")
    with pytest.raises(ModelMissing):
        models.get("broken")
    assert models.delete("broken:v1") == Tag("broken", "v1")


def test_a_model_that_is_deleted_while_listing_is_left_out_in_silence(
    models: ModelStore, save: Saver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, doomed = save("kept"), save("doomed")
    open_model = Model.open

    def race(path: Path) -> Model:
        if path == doomed.path and path.exists():
            models.delete(doomed.tag)
        return open_model(path)

    monkeypatch.setattr(Model, "open", race)
    assert models.list() == [kept]
    assert caplog.text == ""


def test_a_folder_that_cannot_be_read_is_skipped(
    models: ModelStore, save: Saver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = save("good")
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    (models.root / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    assert models.list() == [good]
    assert "locked" in caplog.text


def test_a_record_that_cannot_be_written_leaves_nothing(models: ModelStore) -> None:
    for bad in ("x" * (5 << 20), 10**5000):
        with pytest.raises(InvalidManifest), models.create(_info("a", metadata={"bad": bad})):
            pass
    assert models.list() == []
    assert stray(models) == []


def _info(name: str, **fields: object) -> ModelInfo:
    return ModelInfo(name=name, version=Tag.new_version(), module="python", **fields)  # type: ignore[arg-type]
