from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import store.model
from store import (
    CorruptArtifact,
    Model,
    ModelInfo,
    ModelMissing,
    ModelStore,
    RunnerUnavailable,
    set_runner_factory,
)

Saver = Callable[..., Model]


@pytest.fixture(autouse=True)
def no_factory() -> Iterator[None]:
    """None is installed; the one that was (by an import of the runtime) comes back."""
    before = store.model._Hook.factory
    set_runner_factory(None)
    yield
    set_runner_factory(before)


def with_objects(models: ModelStore, content: bytes) -> Model:
    with models.create(ModelInfo(name="iris", version="v1", module="python")) as draft:
        (draft.path / "custom_objects.pkl").write_bytes(content)
    return draft.model


def test_it_shows_its_tag(save: Saver) -> None:
    assert repr(save("iris_clf", "2uo5fkgxj27exuqj")) == 'Model(tag="iris_clf:2uo5fkgxj27exuqj")'


def test_equal_models_are_one_key(models: ModelStore, save: Saver) -> None:
    saved = save()
    assert {saved: 1}[models.get("iris")] == 1
    assert saved != "iris"


def test_the_size_counts_all_files_and_the_manifest(save: Saver) -> None:
    model = save(content=b"x" * 1000)
    assert model.size_bytes == 1000 + 5 + (model.path / "model.yaml").stat().st_size


def test_a_changed_file_is_named(save: Saver) -> None:
    model = save()
    (model.path / "weights.bin").write_bytes(b"weighty")
    with pytest.raises(CorruptArtifact, match=r"weights\.bin") as caught:
        model.verify()
    assert caught.value.field == "weights.bin"


def test_a_missing_file_is_named(save: Saver) -> None:
    model = save()
    (model.path / "more" / "vocabulary.txt").unlink()
    with pytest.raises(CorruptArtifact) as caught:
        model.verify()
    assert caught.value.field == "more/vocabulary.txt"


def test_an_added_file_is_named(save: Saver) -> None:
    model = save()
    (model.path / "custom_objects.pkl").write_bytes(b"")
    with pytest.raises(CorruptArtifact, match="not in the manifest"):
        model.verify()
    assert model.custom_objects == {}


def test_a_link_in_place_of_a_file_is_corrupt(save: Saver) -> None:
    model = save()
    (model.path / "weights.bin").unlink()
    (model.path / "weights.bin").symlink_to("/dev/null")
    with pytest.raises(CorruptArtifact):
        model.verify()


def test_a_file_that_vanishes_while_it_is_read_is_corrupt(
    save: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save()
    open_file = Path.open

    def vanish(self: Path, *arguments: Any, **keywords: Any) -> object:
        if self.name == "weights.bin":
            self.unlink()
        return open_file(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", vanish)
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        model.verify()


def test_a_damaged_manifest_does_not_hide_the_damaged_file(save: Saver) -> None:
    model = save()
    (model.path / "weights.bin").write_bytes(b"")
    (model.path / "model.yaml").write_text("")
    with pytest.raises(CorruptArtifact, match=r"weights\.bin"):
        model.verify()


def test_a_deleted_model_is_missing_not_corrupt(models: ModelStore, save: Saver) -> None:
    model = save()
    models.delete(model.tag)
    for reading in (model.verify, lambda: model.size_bytes):
        with pytest.raises(ModelMissing):
            reading()


def test_a_replaced_model_is_missing_not_corrupt(models: ModelStore, save: Saver) -> None:
    model = save("iris", "v1", b"old")
    models.delete(model.tag)
    save("iris", "v1", b"new")
    with pytest.raises(ModelMissing, match="replaced"):
        model.verify()


def test_custom_objects_are_loaded_once_and_as_saved(models: ModelStore) -> None:
    model = with_objects(models, pickle.dumps({"limits": [1, 2]}))
    assert model.custom_objects == {"limits": [1, 2]}
    assert model.custom_objects is model.custom_objects


def test_a_model_without_custom_objects_has_none(save: Saver) -> None:
    assert save().custom_objects == {}


def test_changed_custom_objects_are_not_unpickled(models: ModelStore, tmp_path: Path) -> None:
    model = with_objects(models, pickle.dumps({}))
    (model.path / "custom_objects.pkl").write_bytes(f"cos\nmkdir\n(S'{tmp_path}/ran'\ntR.".encode())
    with pytest.raises(CorruptArtifact):
        _ = model.custom_objects
    assert not (tmp_path / "ran").exists()


def test_custom_objects_must_be_a_mapping(models: ModelStore) -> None:
    model = with_objects(models, pickle.dumps([1]))
    with pytest.raises(CorruptArtifact, match="no mapping"):
        _ = model.custom_objects


def test_to_runner_calls_the_installed_factory(save: Saver) -> None:
    model = save()
    set_runner_factory(lambda model, /, **options: (model, options))
    assert model.to_runner(instances=2) == (model, {"instances": 2})


def test_to_runner_without_the_runtime_says_what_to_import(save: Saver) -> None:
    with pytest.raises(RunnerUnavailable, match="import runtime first"):
        save().to_runner()


def test_a_folder_without_a_manifest_is_told_from_no_folder(tmp_path: Path) -> None:
    (tmp_path / "iris" / "v1").mkdir(parents=True)
    with pytest.raises(CorruptArtifact, match=r"no model\.yaml"):
        Model.open(tmp_path / "iris" / "v1")
    with pytest.raises(ModelMissing):
        Model.open(tmp_path / "iris" / "v2")


def test_a_model_under_another_name_is_corrupt(save: Saver) -> None:
    model = save("iris", "v1")
    shutil.move(model.path, model.path.parent / "v2")
    with pytest.raises(CorruptArtifact, match="belongs to iris:v1"):
        Model.open(model.path.parent / "v2")
