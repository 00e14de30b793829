"""What several commands share."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from store import ModelStore

PATH = click.Path(path_type=Path)

_TERMINATED: Final = 128 + signal.SIGTERM
STORE_HELP = "Model store. Default: models in $RUNTIME_HOME or ~/.runtime."

store_option = click.option("--store", metavar="DIR", envvar="RUNTIME_STORE", help=STORE_HELP)
"""For commands without a configuration; the variable is the one that a server reads."""


def open_store(folder: str | None) -> ModelStore:
    """Return the store in a folder; the default one for None or an empty name."""
    from store import ModelStore

    return ModelStore(Path(folder).expanduser()) if folder else ModelStore.default()


@contextmanager
def cleaning_up_on_terminate() -> Iterator[None]:
    """Let SIGTERM end us as an exception does, so that servers and folders of ours go too."""

    def leave(*_: object) -> None:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def echo_json(document: Any) -> None:
    """Print a JSON document; numbers that JSON lacks become the strings NaN, Infinity and -Infinity."""
    click.echo(json.dumps(_strict(document), indent=2, ensure_ascii=False, allow_nan=False))


def human_bytes(count: int) -> str:
    """Return a size as people read it: ``5.81 KiB``."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count} B" if unit == "B" else f"{size:.2f} {unit}"


def short_path(path: Path) -> str:
    """Return a path with ``~`` for the home folder."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):  # elsewhere, or nobody's home
        return str(path)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return aligned columns, two spaces apart."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in [header, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
