from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import config
from runtime.config import ModelConfig
from runtime.config.schema import nearest, options
from runtime.config.sections import ServerConfig
from runtime.errors import ConfigError
from runtime.transport.options import TransportOptions

SOURCES = ("manifest", "file", "file of the model", "environment", "flag", "flag of the model")
KEYS = tuple(
    name
    for name, option in options(ModelConfig).items()
    if option.kind is int and name not in ("threads", "default_priority_level")  # bounded by another
)


def toml(tables: dict[str, dict[str, Any]]) -> str:
    return "\n".join(
        f"[{table}]\n" + "\n".join(f"{key} = {value!r}" for key, value in values.items())
        for table, values in tables.items()
    )


@given(st.dictionaries(st.sampled_from(KEYS), st.sets(st.sampled_from(SOURCES)), min_size=1))
def test_the_latest_source_that_names_an_option_wins(said: dict[str, set[str]]) -> None:
    value = {source: 10 + rank for rank, source in enumerate(SOURCES)}

    def of(source: str) -> dict[str, Any]:
        return {key: value[source] for key, sources in said.items() if source in sources}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "options.toml"
        path.write_text(toml({"models.m": of("file of the model"), "model": of("file")}), encoding="utf-8")
        settings = config.load(
            TransportOptions,
            file=path,
            environment={
                f"RUNTIME_MODEL_{key.upper()}": str(number) for key, number in of("environment").items()
            },
            flags={"models.m": of("flag of the model"), "model": of("flag")},
        )
    chosen = settings.model("m", of("manifest"))
    listed = {row.name: row.value for row in settings.explain({"m": of("manifest")})}
    for key in KEYS:
        winners = [source for source in SOURCES if source in said.get(key, ())]
        expected = value[winners[-1]] if winners else options(ModelConfig)[key].default
        assert getattr(chosen, key) == expected == listed[f"models.m.{key}"]


@given(
    st.integers(0, 65_535),
    st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR"]),
    st.text(st.characters(categories=["L", "N"]), min_size=1),
    st.booleans(),
)
def test_what_is_written_down_is_what_is_read(port: int, level: str, host: str, flag: bool) -> None:
    values = {"server": {"port": port, "log_level": level, "host": host}, "transport": {"compression": flag}}
    environment = {
        "RUNTIME_PORT": str(port),
        "RUNTIME_LOG_LEVEL": level,
        "RUNTIME_HOST": host,
        "RUNTIME_TRANSPORT_COMPRESSION": str(flag),
    }
    by_flag = config.load(TransportOptions, flags=values)
    by_environment = config.load(TransportOptions, environment=environment)
    expected = ServerConfig(port=port, log_level=level, host=host)  # type: ignore[arg-type]
    assert by_flag.server == by_environment.server == expected
    assert by_flag.transport == by_environment.transport == TransportOptions(compression=flag)


@given(st.sampled_from(sorted(options(ServerConfig))), st.data())
def test_a_name_with_one_letter_wrong_is_refused_and_the_right_one_proposed(
    name: str, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    typo = name[:at] + "q" + name[at + 1 :]
    assert f"did you mean {name}?" in nearest(typo, options(ServerConfig)) or len(name) < 5
    with pytest.raises(ConfigError, match=f"RUNTIME_{typo.upper()} names no option"):
        config.load(TransportOptions, environment={f"RUNTIME_{typo.upper()}": "1"})
