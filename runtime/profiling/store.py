"""The result file: what ``--json`` writes, ``--compare`` reads and the model store keeps.

One JSON object; ``format`` counts incompatible changes. Operating points are whole records (histograms, not
percentiles), so that a later reader can ask for any percentile and merge repeats.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runtime.errors import InvalidInput
from runtime.profiling.records import Run

FORMAT: Final = 1


@dataclass(slots=True, kw_only=True)
class Result:
    """Everything that one invocation has found out.

    Attributes:
        command: words of the command line.
        environment: where it was measured.
        model: what was measured: a tag, or the name on the server.
        points: the operating points in the order in which they were measured.
        verdicts: of each point, as plain values.
        search: outcome of a search for the highest rate; None without one.
        facts: of the model itself: parameters, bytes ...; empty when its files are not at hand.
        curve: rows of a batch (as text) to milliseconds of one execution; empty when not measured.
        usage: of each point, CPU in use on the server's side; empty where it is not known.
    """

    command: list[str]
    environment: dict[str, Any]
    model: str
    points: list[Run] = field(default_factory=list)
    verdicts: list[dict[str, str]] = field(default_factory=list)
    search: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    curve: dict[str, float] = field(default_factory=dict)
    usage: list[dict[str, Any]] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether no point was limited by the generator."""
        return not any(run.invalid for run in self.points)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "format": FORMAT,
            "environment": self.environment,
            "command": self.command,
            "model": self.model,
            "points": [run.to_dict() for run in self.points],
            "search": self.search,
            "verdict": {"points": self.verdicts},
            "facts": self.facts,
            "curve": self.curve,
            "usage": self.usage,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """Return the result that ``to_dict`` described; what later versions added is passed over.

        Raises:
            InvalidInput: it is no result, or of another format.
        """
        if data.get("format") != FORMAT:
            raise InvalidInput(f"the result has format {data.get('format')!r}; this release reads {FORMAT}")
        try:
            return cls(
                command=list(data["command"]),
                environment=dict(data["environment"]),
                model=data["model"],
                points=[Run.from_dict(point) for point in data["points"]],
                verdicts=list((data.get("verdict") or {}).get("points", [])),
                search=data.get("search"),
                facts=dict(data.get("facts") or {}),
                curve=dict(data.get("curve") or {}),
                usage=list(data.get("usage") or []),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"the result cannot be read: {error!r}") from error


def write(path: Path, text: str) -> None:
    """Write a file at once or not at all; one that exists is replaced.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def read(path: Path) -> dict[str, Any]:
    """Read a result file as plain values, checked.

    Raises:
        InvalidInput: it is no result, or of another format.
        OSError: it cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}", field=str(path)) from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} is no result of a profile", field=str(path))
    try:
        Result.from_dict(document)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}", field=str(path)) from error
    return document
