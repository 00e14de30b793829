from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from frameworks import python
from runtime.cli.main import main
from runtime.config import Settings
from store import Model, ModelStore


class Started(NamedTuple):
    settings: Settings
    tags: list[str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return ModelStore.default()


@pytest.fixture
def started(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """What the command line hands to the server, which is not started."""
    calls: list[Started] = []

    def record(settings: Settings, models: Sequence[Model]) -> int:
        calls.append(Started(settings, [str(model.tag) for model in models]))
        return 0

    monkeypatch.setattr("runtime.service.serve.serve", record)
    return calls


def save(name: str, **arguments: Any) -> str:
    saved = python.save_model(name, len, signatures={"__call__": {"batchable": False}}, **arguments)
    return str(saved.tag)


def test_without_targets_the_newest_version_of_each_model_is_served(started: list[Started]) -> None:
    save("a:old")
    tags = [save("b"), save("a:new")]
    assert main(["serve"]) == 0
    assert started[0].tags == tags


def test_targets_choose_models_and_versions_once(started: list[Started]) -> None:
    old, new = save("a:old"), save("a:new")
    save("b")
    assert main(["serve", "a:old", "a:latest", "a", old]) == 0
    assert started[0].tags == [old, new]


def test_flags_reach_the_settings(started: list[Started], tmp_path: Path) -> None:
    save("a")
    save("b")
    flags = (
        "--host 0.0.0.0 --port 1 --http-port 2 --services 3 --log-level debug --drain-delay-ms 4 "
        "--grace-ms 5 --transport aio --tls-cert c --tls-key k --tls-client-ca ca --device cuda:0 "
        "--max-batch-size 6 --instances 7 --instances b=8"
    )
    assert main(["serve", *flags.split()]) == 0
    settings = started[0].settings
    server = settings.server
    assert (server.host, server.port, server.http_port, server.services) == ("0.0.0.0", 1, 2, 3)
    assert (server.log_level, server.drain_delay_ms, server.grace_ms, server.transport) == (
        "DEBUG",
        4,
        5,
        "aio",
    )
    assert (settings.tls.cert, settings.tls.key, settings.tls.client_ca) == ("c", "k", "ca")
    a, b = settings.model("a"), settings.model("b")
    assert (a.device, a.max_batch_size, a.instances, b.instances) == ("cuda:0", 6, 7, 8)


def test_sources_are_file_then_environment_then_flags(
    started: list[Started], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("a", options={"instances": 2, "max_batch_size": 3})
    file = tmp_path / "my.toml"
    file.write_text("[server]\nport = 1\nhttp_port = 1\ngrace_ms = 1\n[models.a]\nmax_batch_size = 1\n")
    monkeypatch.setenv("RUNTIME_HTTP_PORT", "2")
    monkeypatch.setenv("RUNTIME_GRACE_MS", "2")
    assert main(["serve", "--config", str(file), "--grace-ms", "3"]) == 0
    server, model = started[0].settings.server, started[0].settings.model("a", {"instances": 2})
    assert (server.port, server.http_port, server.grace_ms) == (1, 2, 3)
    assert (model.max_batch_size, model.instances) == (1, 2)


def test_the_store_of_the_configuration_is_the_one_served(
    started: list[Started], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = save("elsewhere", store=ModelStore(tmp_path / "s"))
    monkeypatch.setenv("RUNTIME_STORE", str(tmp_path / "s"))
    assert main(["serve"]) == 0
    assert started[0].tags == [tag]


def test_an_empty_store_says_how_to_save_a_model(
    started: list[Started], store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve"]) == 1
    error = capsys.readouterr().err
    assert f"error: there is no model in {store.root}" in error
    assert "save_model(" in error
    assert "runtime demo" in error


def test_a_missing_model_fails_with_a_hint(
    started: list[Started], capsys: pytest.CaptureFixture[str]
) -> None:
    save("iris_clf")
    assert main(["serve", "iris_cls"]) == 1
    assert "did you mean 'iris_clf'?" in capsys.readouterr().err
    assert main(["serve", "iris_clf:nope"]) == 1
    assert "has no version 'nope'" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["service:svc", "my_package.service:Service", "Service:svc"])
def test_an_import_path_is_told_what_a_target_is(
    target: str, started: list[Started], capsys: pytest.CaptureFixture[str]
) -> None:
    save("a")
    assert main(["serve", target]) == 1
    assert f"no such model: '{target}'; a target is the tag of a saved model" in capsys.readouterr().err


def test_a_target_that_is_no_tag_is_bad_usage(started: list[Started]) -> None:
    assert main(["serve", "No Tag"]) == 2


@pytest.mark.parametrize("text", ["x", "a=", "=2", "a=b", "-1", "1.5"])
def test_instances_that_are_no_number_are_bad_usage(
    text: str, started: list[Started], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", f"--instances={text}"]) == 2
    assert "is neither N nor NAME=N" in capsys.readouterr().err


def test_every_problem_of_the_configuration_is_told(
    started: list[Started], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save("a")
    monkeypatch.setenv("RUNTIME_PROT", "1")
    assert main(["serve", "--port", "70000", "--instances", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 3 problems in the configuration:")
    assert "did you mean RUNTIME_PORT?" in error
    assert "(flag --port)" in error
    assert "(flag --instances)" in error


def test_options_for_models_that_are_not_there_are_refused(
    started: list[Started], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("a")
    save("b")
    assert main(["serve", "a", "--instances", "b=2"]) == 2
    assert "there is no model 'b' (flag --instances)" in capsys.readouterr().err
    (tmp_path / "runtime.toml").write_text("[models.b]\ninstances = 2\n[models.bb]\ninstances = 2\n")
    assert main(["serve", "a"]) == 2
    error = capsys.readouterr().err
    assert "there is no model 'bb' (file runtime.toml)" in error
    assert "'b'" not in error


def test_a_manifest_with_a_wrong_option_is_refused_before_anything_starts(
    started: list[Started], capsys: pytest.CaptureFixture[str]
) -> None:
    save("a", options={"instances": -2})
    assert main(["serve"]) == 2
    assert "(manifest of a)" in capsys.readouterr().err
    assert started == []


def test_print_config_shows_each_value_with_its_source_and_starts_nothing(
    started: list[Started], capsys: pytest.CaptureFixture[str]
) -> None:
    save("a", options={"max_batch_size": 5})
    assert main(["serve", "--print-config", "--port", "0"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Option Value Source"
    assert "server.port 0 flag --port" in lines
    assert "server.http_port 8002 default" in lines
    assert "transport.permit_pings_without_calls true default" in lines
    assert "models.a.max_batch_size 5 manifest of a" in lines
    assert started == []


def test_print_config_needs_no_models(started: list[Started]) -> None:
    assert main(["serve", "--print-config"]) == 0


def test_the_exit_code_is_the_servers(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    save("a")
    monkeypatch.setattr("runtime.service.serve.serve", lambda *_: 1)
    assert main(["serve"]) == 1
