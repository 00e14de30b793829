"""The effective configuration, and why each value is what it is.

Sources, later wins: defaults < the model's manifest < file < environment < flags. Within one source what is
said of one model (``[models.NAME]``, ``NAME=N``) wins over what is said of every model (``[model]``, ``N``).
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from runtime.config import sources
from runtime.config.schema import nearest, options
from runtime.config.sections import ModelConfig, ServerConfig, TlsConfig
from runtime.config.sources import MODEL, MODELS, SERVER, Given
from runtime.errors import ConfigError

TLS: Final = "tls"
TRANSPORT: Final = "transport"
DEFAULT: Final = "default"

_NOTHING: Final[Mapping[str, Any]] = types.MappingProxyType({})
_Section = TypeVar("_Section")


class Row(NamedTuple):
    """One effective value: its full name, the value, and the source that won."""

    name: str
    value: object
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that was configured, checked. Nothing changes after construction.

    Attributes:
        transport: options of the transport, of the class that ``load`` was given.
        server: of the server.
        tls: of its gRPC port.
        given: every value that a source gave, in the order of the sources: later wins.
    """

    transport: Any
    server: ServerConfig = field(default_factory=ServerConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    given: tuple[Given, ...] = ()

    def model(self, name: str, manifest_options: Mapping[str, object] = _NOTHING) -> ModelConfig:
        """Return how to serve a model.

        Args:
            name: of the model, without version.
            manifest_options: what was saved with it; keys that are no options of ours are for others.

        Raises:
            ConfigError: the manifest has a value that cannot be used, or values contradict one another.
        """
        return _made(f"{MODELS}.{name}", ModelConfig, self._effective(name, manifest_options))

    def check_models(self, in_store: Iterable[str], served: Iterable[str]) -> None:
        """Find options for models that are not there: such options would be ignored in silence.

        Args:
            in_store: names that a file, which several servers may share, can speak of.
            served: names that a flag can speak of.

        Raises:
            ConfigError: a section or flag names another model.
        """
        served = set(served)
        known = {True: served, False: served | set(in_store)}
        problems: dict[str, None] = {}
        for given in self.given:
            name = given.section.removeprefix(f"{MODELS}.")
            names = known[given.source.startswith("flag")]
            if name != given.section and name not in names:
                problems[f"there is no model {name!r} ({given.source}); {nearest(name, sorted(names))}"] = (
                    None
                )
        _raise(list(problems))

    def explain(self, models: Mapping[str, Mapping[str, object]] = _NOTHING) -> list[Row]:
        """Return every effective value with its source.

        Args:
            models: manifest options by name, of the models to list one by one.
        """
        rows: list[Row] = []
        for section, schema in self._schemas().items():
            found = _latest(given for given in self.given if given.section == section)
            rows += _rows(section, schema, found)
        for name, manifest_options in models.items():
            rows += _rows(f"{MODELS}.{name}", ModelConfig, self._effective(name, manifest_options))
        return rows

    def _schemas(self) -> dict[str, type]:
        return {SERVER: ServerConfig, TLS: TlsConfig, TRANSPORT: type(self.transport), MODEL: ModelConfig}

    def _effective(self, name: str, manifest_options: Mapping[str, object]) -> dict[str, Given]:
        section = f"{MODELS}.{name}"
        manifest = _from_manifest(section, manifest_options, f"manifest of {name}")
        said = [given for given in self.given if given.section in (MODEL, section)]
        return _latest([*manifest, *said])


def load(
    transport: type[Any],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = _NOTHING,
    flags: Mapping[str, Mapping[str, Any]] = _NOTHING,
) -> Settings:
    """Read every source and check every value.

    Args:
        transport: the class of the section ``[transport]``.
        file: TOML; None reads ``./runtime.toml`` if it exists.
        environment: names that begin with ``RUNTIME_`` are read.
        flags: values by section and key; None for a flag that was not given.

    Raises:
        ConfigError: something is wrong; the message tells every problem of every source.
    """
    schemas = {SERVER: ServerConfig, TLS: TlsConfig, TRANSPORT: transport, MODEL: ModelConfig}
    problems: list[str] = []
    read = [
        *sources.read_file(file, schemas, problems),
        *sources.read_environment(environment, schemas, problems),
        *sources.read_flags(flags),
    ]
    given = _judge(read, schemas, problems)
    sections: dict[str, Any] = {
        section: _construct(section, schema, given, problems)
        for section, schema in schemas.items()
        if section != MODEL
    }
    _raise(problems)
    return Settings(**sections, given=tuple(given))


def model_config(
    name: str, manifest_options: Mapping[str, object] = _NOTHING, chosen: Mapping[str, object] = _NOTHING
) -> ModelConfig:
    """Return a model's configuration where there is no server: defaults < manifest < ``chosen``.

    Raises:
        ConfigError: an option is unknown or out of bounds; every one is told.
    """
    section, known = f"{MODELS}.{name}", options(ModelConfig)
    problems = [f"there is no option {key}; {nearest(key, known)}" for key in chosen if key not in known]
    picked = [Given(section, key, value, "argument") for key, value in chosen.items() if key in known]
    picked = _judge(picked, {MODEL: ModelConfig}, problems)
    _raise(problems)
    found = _latest([*_from_manifest(section, manifest_options, f"manifest of {name}"), *picked])
    return _made(section, ModelConfig, found)


def _from_manifest(section: str, manifest_options: Mapping[str, object], source: str) -> list[Given]:
    known = options(ModelConfig)
    problems: list[str] = []
    said = [Given(section, key, value, source) for key, value in manifest_options.items() if key in known]
    judged = _judge(said, {MODEL: ModelConfig}, problems)
    _raise(problems)
    return judged


def _judge(given: Iterable[Given], schemas: Mapping[str, type], problems: list[str]) -> list[Given]:
    """Return the values that can be used; tell what is wrong with the others."""
    good: list[Given] = []
    for one in given:
        schema = sources.schema_of(one.section, schemas)
        problem = options(schema)[one.key].problem(one.value) or _violation(schema, one)
        if problem is None:
            good.append(one)
        else:
            problems.append(f"[{one.section}] {problem} ({one.source})")
    return good


def _violation(schema: type, given: Given) -> str | None:
    """Ask the class itself about one value; what it says about other fields comes up in ``_construct``."""
    try:
        schema(**{given.key: given.value})
    except ConfigError as error:
        return error.message if error.field == given.key else None
    return None


def _construct(section: str, schema: type[_Section], given: Iterable[Given], problems: list[str]) -> _Section:
    try:
        return _made(section, schema, _latest(one for one in given if one.section == section))
    except ConfigError as error:
        problems.append(error.message)
        return schema()


def _made(section: str, schema: type[_Section], found: Mapping[str, Given]) -> _Section:
    """Make a section of values that are right one by one.

    Raises:
        ConfigError: they contradict one another; the message tells where each came from.
    """
    try:
        return schema(**{key: given.value for key, given in found.items()})
    except ConfigError as error:
        origins = ", ".join(f"{key} from {given.source}" for key, given in found.items())
        raise ConfigError(f"[{section}] {error.message} ({origins})") from error


def _latest(given: Iterable[Given]) -> dict[str, Given]:
    return {one.key: one for one in given}


def _rows(section: str, schema: type, found: Mapping[str, Given]) -> list[Row]:
    return [
        Row(f"{section}.{key}", found[key].value, found[key].source)
        if key in found
        else Row(f"{section}.{key}", option.default, DEFAULT)
        for key, option in options(schema).items()
    ]


def _raise(problems: list[str]) -> None:
    if len(problems) == 1:
        raise ConfigError(problems[0])
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} problems in the configuration:{lines}")
