from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime import config
from runtime.config import ModelConfig, ServerConfig, Settings, TlsConfig
from runtime.errors import ConfigError
from runtime.transport.options import TransportOptions


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(
    toml: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    path = None
    if toml is not None:
        path = Path("options.toml")
        path.write_text(toml, encoding="utf-8")
    return config.load(TransportOptions, file=path, environment=environment or {}, flags=flags or {})


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def rows(settings: Settings, **models: Mapping[str, object]) -> dict[str, tuple[object, str]]:
    return {row.name: (row.value, row.source) for row in settings.explain(models)}


def test_without_sources_everything_is_default() -> None:
    settings = load()
    assert settings.server == ServerConfig()
    assert settings.tls == TlsConfig()
    assert settings.transport == TransportOptions()
    assert settings.model("any") == ModelConfig()
    assert {row.source for row in settings.explain()} == {"default"}


def test_every_section_is_read_from_the_file() -> None:
    settings = load(
        '[server]\nport = 9\n[tls]\ncert = "c"\nkey = "k"\n[transport]\nmax_message_bytes = 7\n'
        '[model]\ninstances = 2\n[models.iris]\ndevice = "cuda:1"\n'
    )
    assert settings.server.port == 9
    assert settings.tls == TlsConfig(cert="c", key="k")
    assert settings.transport.max_message_bytes == 7
    assert settings.model("iris") == ModelConfig(instances=2, device="cuda:1")
    assert settings.model("other") == ModelConfig(instances=2)


def test_runtime_toml_in_the_current_folder_is_read_without_being_named() -> None:
    Path("runtime.toml").write_text("[server]\nport = 77\n", encoding="utf-8")
    settings = load()
    assert settings.server.port == 77
    assert rows(settings)["server.port"] == (77, "file runtime.toml")


def test_a_named_file_takes_the_place_of_runtime_toml() -> None:
    Path("runtime.toml").write_text("[server]\nport = 77\n", encoding="utf-8")
    assert load("").server.port == 8001


def test_every_section_is_read_from_the_environment() -> None:
    settings = load(
        environment={
            "RUNTIME_PORT": "1",
            "RUNTIME_TRANSPORT": "aio",
            "RUNTIME_TLS_CERT": "c",
            "RUNTIME_TLS_KEY": "k",
            "RUNTIME_TRANSPORT_MAX_MESSAGE_BYTES": "1_000",
            "RUNTIME_TRANSPORT_REUSE_PORT": "Yes",
            "RUNTIME_MODEL_INSTANCES": "4",
            "PATH": "/bin",
        }
    )
    assert (settings.server.port, settings.server.transport) == (1, "aio")
    assert settings.tls == TlsConfig(cert="c", key="k")
    assert settings.transport == TransportOptions(max_message_bytes=1000, reuse_port=True)
    assert settings.model("any").instances == 4


def test_home_and_catalog_are_no_options() -> None:
    environment = {"RUNTIME_HOME": "/x", "RUNTIME_CATALOG_URL": "y"}
    assert load(environment=environment).given == ()


def test_a_flag_that_was_not_given_says_nothing() -> None:
    settings = load(environment={"RUNTIME_PORT": "5"}, flags={"server": {"port": None, "host": "::"}})
    assert (settings.server.port, settings.server.host) == (5, "::")


def test_within_a_source_what_is_said_of_one_model_wins_wherever_it_stands() -> None:
    settings = load("[models.a]\ninstances = 5\n[model]\ninstances = 2\n")
    assert settings.model("a").instances == 5
    assert settings.model("b").instances == 2
    settings = load(flags={"models.a": {"instances": 7}, "model": {"instances": 3}})
    assert (settings.model("a").instances, settings.model("b").instances) == (7, 3)


def test_a_later_source_wins_over_an_earlier_one_even_where_that_names_the_model() -> None:
    settings = load("[models.a]\ninstances = 5\n", {"RUNTIME_MODEL_INSTANCES": "2"})
    assert settings.model("a").instances == 2


def test_manifest_options_win_over_defaults_only() -> None:
    settings = load("[model]\nmax_batch_size = 8\n")
    chosen = settings.model("a", {"max_batch_size": 2, "instances": 3, "provider_of_another": "x"})
    assert (chosen.max_batch_size, chosen.instances) == (8, 3)
    listed = rows(settings, a={"instances": 3})
    assert listed["models.a.instances"] == (3, "manifest of a")
    assert listed["models.a.max_batch_size"] == (8, "file options.toml")
    assert listed["models.a.device"] == ("cpu", "default")


def test_each_value_is_listed_with_the_source_that_won() -> None:
    settings = load(
        "[server]\nport = 1\nhttp_port = 2\ngrace_ms = 3\n[tls]\ncert = 'c'\n",
        {"RUNTIME_HTTP_PORT": "20", "RUNTIME_GRACE_MS": "30"},
        {"server": {"grace_ms": 300}, "tls": {"key": "k"}, "model": {"max_batch_size": 9}},
    )
    listed = rows(settings)
    assert listed["server.port"] == (1, "file options.toml")
    assert listed["server.http_port"] == (20, "environment RUNTIME_HTTP_PORT")
    assert listed["server.grace_ms"] == (300, "flag --grace-ms")
    assert listed["tls.key"] == ("k", "flag --tls-key")
    assert listed["model.max_batch_size"] == (9, "flag --max-batch-size")
    assert listed["server.host"] == ("127.0.0.1", "default")


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    message = refusal("[server]\nprot = 1\n")
    assert "[server] has no option prot (file options.toml); did you mean port?" in message


def test_an_unknown_section_is_refused_with_the_nearest_name() -> None:
    assert "there is no section [modle] (file options.toml); did you mean model?" in refusal("[modle]\n")


def test_an_unknown_key_of_one_model_is_refused() -> None:
    assert "[models.a] has no option instance (" in refusal("[models.a]\ninstance = 1\n")


def test_a_value_where_a_section_belongs_is_refused() -> None:
    assert "server must be a section" in refusal("server = 1\n")
    assert "[models] has one section for each model" in refusal("[models]\ninstances = 1\n")


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    message = refusal(environment={"RUNTIME_MODEL_INSTANCE": "1"})
    assert message == (
        "environment variable RUNTIME_MODEL_INSTANCE names no option; did you mean RUNTIME_MODEL_INSTANCES?"
    )


def test_an_unknown_name_without_a_similar_one_lists_the_known_ones() -> None:
    assert "known: cert, key, client_ca" in refusal("[tls]\nzzzzzz = 1\n")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[server]\nport = 65536", "[server] port must be a whole number from 0 to 65535, not 65536"),
        ("[server]\nport = '80'", "[server] port must be a whole number from 0 to 65535, not '80'"),
        ("[server]\nport = true", "[server] port must be a whole number from 0 to 65535, not True"),
        ("[server]\nport = 1.5", "[server] port must be a whole number from 0 to 65535, not 1.5"),
        ("[server]\nhost = ''", "[server] host must be a host name or address, not ''"),
        ("[server]\nlog_level = 'LOUD'", "log_level must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'"),
        ("[server]\nservices = 0", "[server] services must be a whole number from 1 to 256, not 0"),
        ("[model]\ndevice = 'gpu'", "[model] device must be cpu, cuda, cuda:N, or several with commas"),
        ("[models.a]\ninstances = 0", "[models.a] instances must be a whole number from 1 to 1024, not 0"),
        ("[transport]\nmax_message_bytes = 0", "[transport] max_message_bytes must be a whole number from 1"),
        ("[transport]\ncompression = 1", "[transport] compression must be true or false, not 1"),
    ],
)
def test_a_wrong_value_is_refused_with_section_key_bound_value_and_source(toml: str, message: str) -> None:
    refused = refusal(toml)
    assert message in refused
    assert refused.endswith("(file options.toml)")


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:0,cuda:1", "cpu, cuda:12"])
def test_devices_may_be_several(device: str) -> None:
    assert ModelConfig(device=device).device == device


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("RUNTIME_PORT", "many", "port must be a whole number from 0 to 65535, not 'many'"),
        ("RUNTIME_PORT", "", "port must be a whole number from 0 to 65535, not ''"),
        ("RUNTIME_TRANSPORT_REUSE_PORT", "maybe", "reuse_port must be true or false, not 'maybe'"),
        ("RUNTIME_MODEL_MAX_BATCH_SIZE", "0", "max_batch_size must be a whole number from 1"),
    ],
)
def test_text_that_is_no_value_is_refused_with_its_variable(name: str, text: str, problem: str) -> None:
    message = refusal(environment={name: text})
    assert problem in message
    assert f"(environment {name})" in message


def test_all_problems_of_all_sources_are_told_at_once() -> None:
    message = refusal(
        "[server]\nprot = 1\nport = -1\n[modle]\n[tls]\ncert = 'c'\n",
        {"RUNTIME_HOTS": "x", "RUNTIME_MODEL_INSTANCES": "0"},
        {"server": {"http_port": 70_000}},
    )
    assert message.startswith("7 problems in the configuration:")
    for part in ("prot", "port must", "[modle]", "RUNTIME_HOTS", "instances", "http_port", "cert and key"):
        assert part in message


def test_a_certificate_without_its_key_is_refused() -> None:
    assert "cert and key belong together" in refusal("[tls]\ncert = 'c'\n")
    assert "client_ca needs cert and key" in refusal("[tls]\nclient_ca = 'c'\n")


def test_a_certificate_and_its_key_may_come_from_different_sources() -> None:
    settings = load("[tls]\ncert = 'c'\n", {"RUNTIME_TLS_KEY": "k"})
    assert settings.tls == TlsConfig(cert="c", key="k")


def test_a_file_that_is_missing_or_broken_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"file nowhere\.toml cannot be read: No such file"):
        config.load(TransportOptions, file=Path("nowhere.toml"))
    assert "file options.toml is not TOML" in refusal("[server\n")


def test_a_wrong_value_in_a_manifest_is_refused_with_the_models_name() -> None:
    with pytest.raises(ConfigError, match=r"instances must be .* not 'two' \(manifest of a\)"):
        load().model("a", {"instances": "two"})


def test_options_of_a_model_that_is_nowhere_are_refused() -> None:
    settings = load("[models.iris_clff]\ninstances = 1\n")
    with pytest.raises(
        ConfigError, match=r"no model 'iris_clff' \(file options.toml\); did you mean iris_clf\?"
    ):
        settings.check_models({"iris_clf"}, {"iris_clf"})
    settings.check_models({"iris_clff"}, ())


def test_a_flag_for_a_model_that_is_not_served_is_refused() -> None:
    settings = load(flags={"models.a": {"instances": 2}})
    settings.check_models({"a"}, {"a"})
    with pytest.raises(ConfigError, match=r"no model 'a' \(flag --instances\)"):
        settings.check_models({"a", "b"}, {"b"})


def test_a_model_without_a_server_takes_manifest_and_arguments() -> None:
    chosen = config.model_config("a", {"instances": 3, "threads": 2}, {"threads": 4})
    assert chosen == ModelConfig(instances=3, threads=4)
    with pytest.raises(ConfigError, match=r"no option thread; did you mean threads\?"):
        config.model_config("a", {}, {"thread": 4})
    with pytest.raises(ConfigError, match=r"threads must be .* not -1 \(argument\)"):
        config.model_config("a", {}, {"threads": -1})


def test_direct_construction_names_every_wrong_field() -> None:
    with pytest.raises(ConfigError, match=r"port must .*; services must") as caught:
        ServerConfig(port=-1, services=0)
    assert caught.value.field == "port"


def test_nothing_is_read_when_the_module_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "RUNTIME_PORT", "1")
    assert ServerConfig().port == 8001


# -- batching ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sizes"), [("", ()), ("8", (8,)), ("1,2,4,128", (1, 2, 4, 128)), (" 1, 8 ", (1, 8))]
)
def test_the_last_allowed_batch_size_is_the_largest_batch(text: str, sizes: tuple[int, ...]) -> None:
    chosen = ModelConfig(allowed_batch_sizes=text)
    assert chosen.batch_sizes == sizes
    assert chosen.max_batch_size == (sizes[-1] if sizes else 64)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2,1", "must ascend, unlike '2,1'"),
        ("1,1", "must ascend"),
        ("1,99999", "must end with at most 65536"),
        ("0,1", "must be ascending numbers of rows with commas, such as 1,2,4,8, not '0,1'"),
        ("1;2", "must be ascending numbers"),
        ("1,", "must be ascending numbers"),
        ("-1", "must be ascending numbers"),
    ],
)
def test_allowed_batch_sizes_that_make_no_sense_are_refused_with_their_source(
    text: str, problem: str
) -> None:
    message = refusal(f"[models.a]\nallowed_batch_sizes = '{text}'\n")
    assert message.startswith(f"[models.a] allowed_batch_sizes {problem}")
    assert message.endswith("(file options.toml)")


@pytest.mark.parametrize(
    ("levels", "default", "chosen"), [(3, 0, 2), (1, 0, 1), (2, 0, 1), (5, 0, 3), (4, 4, 4), (4, 1, 1)]
)
def test_the_default_level_is_the_middle_one_unless_it_is_named(
    levels: int, default: int, chosen: int
) -> None:
    found = ModelConfig(priority_levels=levels, default_priority_level=default)
    assert found.default_priority_level == chosen


def test_a_default_level_beyond_the_levels_is_refused_with_where_both_came_from() -> None:
    settings = load("[models.a]\npriority_levels = 2\n", {"RUNTIME_MODEL_DEFAULT_PRIORITY_LEVEL": "3"})
    assert settings.model("b").default_priority_level == 3
    with pytest.raises(ConfigError, match="must be at most priority_levels, 2, not 3") as caught:
        settings.model("a")
    assert str(caught.value).startswith("[models.a] ")
    assert "from file options.toml" in str(caught.value)
    assert "from environment RUNTIME_MODEL_DEFAULT_PRIORITY_LEVEL" in str(caught.value)
    with pytest.raises(ConfigError, match="from argument"):
        config.model_config("a", {}, {"default_priority_level": 4})


def test_how_a_model_is_batched_may_be_saved_with_it() -> None:
    options = {
        "allowed_batch_sizes": "1,8", "max_queue_delay_ms": 0, "slo_ms": 30, "max_queue_ms": 500.5,
        "priority_levels": 1, "isolation_depth": 0,
    }  # fmt: skip
    chosen = load("[model]\nslo_ms = 20.5\n").model("a", options)
    assert (chosen.batch_sizes, chosen.max_batch_size, chosen.max_queue_delay_ms) == ((1, 8), 8, 0)
    assert (chosen.slo_ms, chosen.max_queue_ms, chosen.isolation_depth) == (20.5, 500.5, 0)


@pytest.mark.parametrize(
    "toml",
    ["max_queue_delay_ms = -2", "slo_ms = nan", "slo_ms = '5'", "max_queue_ms = 0", "isolation_depth = 17"],
)
def test_bounds_of_batching_are_kept(toml: str) -> None:
    assert f"[model] {toml.split(maxsplit=1)[0]} must be" in refusal(f"[model]\n{toml}\n")
