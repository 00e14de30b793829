"""Where values come from: the file, the environment, the flags. Each is read into ``Given`` records.

Reading only finds names; values are judged afterwards, so that all problems of all sources are told at once.
Names that no option has are problems, with the nearest name that one has.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from runtime.config.schema import nearest, options

MODEL: Final = "model"
MODELS: Final = "models"
SERVER: Final = "server"

PREFIX: Final = "RUNTIME_"
RESERVED: Final = frozenset({"RUNTIME_HOME", "RUNTIME_CATALOG_URL"})
"""Read elsewhere; not options of a server."""

DEFAULT_FILE: Final = Path("runtime.toml")

Schemas = Mapping[str, type]


class Given(NamedTuple):
    """One value as a source has it.

    Attributes:
        section: ``server``, ``model``, ``models.NAME``, …
        key: name of the option.
        value: not judged yet.
        source: in words, for messages and listings.
    """

    section: str
    key: str
    value: Any
    source: str


def schema_of(section: str, schemas: Schemas) -> type:
    """Return the class of a section; every ``models.NAME`` has that of ``model``."""
    return schemas[MODEL if section.startswith(f"{MODELS}.") else section]


def read_file(path: Path | None, schemas: Schemas, problems: list[str]) -> list[Given]:
    """Read a TOML file; ``./runtime.toml``, if there is one, when no path is given.

    ``[model]`` comes before ``[models.NAME]``, wherever they stand in the file.
    """
    if path is None and not DEFAULT_FILE.is_file():
        return []
    path = DEFAULT_FILE if path is None else path
    source = f"file {path}"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{source} cannot be read: {error.strerror or error}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{source} is not TOML: {error}")
    else:
        tables = list(_tables(document, source, schemas, problems))
        tables.sort(key=lambda table: table[0].startswith(f"{MODELS}."))
        return [
            given for section, table in tables for given in _table(section, table, source, schemas, problems)
        ]
    return []


def read_environment(environment: Mapping[str, str], schemas: Schemas, problems: list[str]) -> list[Given]:
    """Read the variables ``RUNTIME_<SECTION>_<KEY>``; ``RUNTIME_<KEY>`` for the server."""
    known = {
        PREFIX + (f"{key}" if section == SERVER else f"{section}_{key}").upper(): (section, key)
        for section, schema in schemas.items()
        for key in options(schema)
    }
    found: list[Given] = []
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in RESERVED:
            continue
        if name not in known:
            problems.append(f"environment variable {name} names no option; {nearest(name, known)}")
            continue
        section, key = known[name]
        value = options(schemas[section])[key].parse(text)
        found.append(Given(section, key, value, f"environment {name}"))
    return found


def read_flags(flags: Mapping[str, Mapping[str, Any]]) -> list[Given]:
    """Read flags by section and key; None is a flag that was not given. Those of one model come last."""
    return [
        Given(section, key, value, f"flag {_flag(section, key)}")
        for section in sorted(flags, key=lambda section: section.startswith(f"{MODELS}."))
        for key, value in flags[section].items()
        if value is not None
    ]


def _flag(section: str, key: str) -> str:
    name = key if section == SERVER or section.startswith(MODEL) else f"{section}_{key}"
    return "--" + name.replace("_", "-")


def _tables(
    document: Mapping[str, Any], source: str, schemas: Schemas, problems: list[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the sections of a file by name."""
    for section, table in document.items():
        if section not in (*schemas, MODELS):
            hint = nearest(section, [*schemas, f"{MODELS}.NAME"])
            problems.append(f"there is no section [{section}] ({source}); {hint}")
        elif not isinstance(table, dict):
            problems.append(f"{section} must be a section, [{section}], not {table!r} ({source})")
        elif section != MODELS:
            yield section, table
        else:
            for name, inner in table.items():
                if isinstance(inner, dict):
                    yield f"{MODELS}.{name}", inner
                else:
                    problems.append(
                        f"[{MODELS}] has one section for each model, not {name} = {inner!r} ({source}); "
                        f"options of every model stand in [{MODEL}]"
                    )


def _table(
    section: str, table: Mapping[str, Any], source: str, schemas: Schemas, problems: list[str]
) -> Iterator[Given]:
    """Yield the values of one section."""
    known = options(schema_of(section, schemas))
    for key, value in table.items():
        if key in known:
            yield Given(section, key, value, source)
        else:
            problems.append(f"[{section}] has no option {key} ({source}); {nearest(key, known)}")
