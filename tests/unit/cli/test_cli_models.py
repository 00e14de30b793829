from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

import runtime
from frameworks import python
from runtime.cli.common import human_bytes, short_path
from runtime.cli.main import main
from store import Model, ModelStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path))
    return ModelStore.default()


def save(name: str = "iris_clf", **arguments: object) -> Model:
    return python.save_model(name, len, signatures={"__call__": {"batchable": False}}, **arguments)  # type: ignore[arg-type]


def test_an_empty_store_lists_only_the_header(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out == "Tag  Module  Size  Creation Time  Path\n"
    assert main(["models", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_models_are_listed_newest_first_in_columns(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = save(), save("other")
    assert main(["models", "list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Tag +Module +Size +Creation Time +Path", header)
    assert [line.split()[0] for line in lines] == [str(second.tag), str(first.tag)]
    for line in lines:
        assert re.fullmatch(r"\S+ +python +[\d.]+ (B|KiB) +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\S+", line)
        assert line.index(" python") == header.index(" Module")


def test_a_name_lists_its_versions_only(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    tags = [str(save().tag), str(save().tag)]
    save("other")
    assert main(["models", "list", "iris_clf", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["tag"] for entry in entries] == tags[::-1]
    assert entries[0]["size_bytes"] == store.get(tags[1]).size_bytes


def test_damaged_models_do_not_spoil_the_list(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    good, odd = save(), save("odd")
    (odd.path / "link").symlink_to("nowhere")
    assert main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert str(good.tag) in out
    assert re.search(rf"{odd.tag} +python +\? ", out)


def test_another_store_may_be_named(
    tmp_path: Path,
    store: ModelStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = ModelStore(tmp_path / "elsewhere")
    saved = save(store=elsewhere)
    assert main(["models", "list", "--store", str(elsewhere.root)]) == 0
    assert str(saved.tag) in capsys.readouterr().out
    monkeypatch.setenv("RUNTIME_STORE", str(elsewhere.root))
    assert main(["models", "list"]) == 0
    assert str(saved.tag) in capsys.readouterr().out


def test_a_record_is_shown_as_yaml_with_everything_known(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = save(labels={"owner": "nlp"}, metadata={"acc": 0.9}, options={"instances": 2})
    for flags in ([], ["--yaml"]):
        assert main(["models", "get", "iris_clf:latest", *flags]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert shown == saved.info.to_dict()
    assert list(shown)[:7] == ["name", "version", "module", "labels", "options", "metadata", "context"]
    assert {"signatures", "checks", "pickled", "digests", "api_version", "creation_time"} < set(shown)


def test_a_record_is_shown_as_json(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    saved = save(metadata={"loss": float("inf")})
    assert main(["models", "get", str(saved.tag), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown["metadata"] == {"loss": "Infinity"}
    assert main(["models", "get", str(saved.tag), "--json", "--yaml"]) == 2


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_an_unknown_model_fails_with_a_hint(
    verb: str, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    save()
    assert main(["models", verb, "iris_cls"]) == 1
    assert "did you mean 'iris_clf'?" in capsys.readouterr().err
    assert main(["models", verb, "Not A Tag"]) == 2


def test_delete_without_a_question_says_what_is_gone(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = save(), save()
    assert main(["models", "delete", "iris_clf:latest", "-y"]) == 0
    assert capsys.readouterr().out == f'Model(tag="{new.tag}") deleted\n'
    assert store.list() == [old]


@pytest.mark.parametrize(("answer", "left", "code"), [("y\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1), ("", 1, 1)])
def test_delete_asks_and_obeys(
    answer: str,
    left: int,
    code: int,
    store: ModelStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved = save()
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert main(["models", "delete", "iris_clf"]) == code
    captured = capsys.readouterr()
    assert f'Delete Model(tag="{saved.tag}")?' in captured.out + captured.err
    assert ("deleted" in captured.out) == (code == 0)
    assert len(store.list()) == left


def test_a_broken_model_can_be_deleted_by_its_version(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = save()
    (saved.path / "model.yaml").write_text("{", encoding="utf-8")
    assert main(["models", "get", str(saved.tag)]) == 1
    assert main(["models", "delete", str(saved.tag), "-y"]) == 0
    assert not saved.path.exists()


def test_the_functions_work_on_the_default_store(store: ModelStore) -> None:
    old, new = save(), save()
    assert runtime.models.get("iris_clf") == new
    assert runtime.models.list("iris_clf") == [new, old]
    assert runtime.models.delete("iris_clf") == new.tag
    assert runtime.models.list() == [old]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (5949, "5.81 KiB"), (3 << 20, "3.00 MiB"), (1 << 50, "1024.00 TiB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_paths_below_home_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert short_path(Path("/home/me/a/b")) == "~/a/b"
    assert short_path(Path("/elsewhere")) == "/elsewhere"
