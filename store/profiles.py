"""Measurements that belong to a saved model: ``profiles/<name>/<version>/<id>.json`` beside ``models/``.

A published model never changes, so that what is measured later lies in a tree of its own. One file is one
result, written once and never changed; its id sorts by time. Readers never see half a file.

Concurrency: any number of processes and threads may write and read below one root.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from store.errors import CorruptArtifact, InvalidTag, ModelMissing
from store.plain import Plain
from store.store import DEFAULT_HOME, HOME_VARIABLE
from store.tag import Tag

FOLDER: Final = "profiles"

_SUFFIX: Final = ".json"
_UNFINISHED: Final = ".unfinished-"


class ProfileStore:
    """Results by model version, below one root folder that the first write makes."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).expanduser().absolute()

    @classmethod
    def default(cls) -> ProfileStore:
        """Return ``$RUNTIME_HOME/profiles``; the variable is read now, default ``~/.runtime``."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME) / FOLDER)

    @classmethod
    def beside(cls, models: Path) -> ProfileStore:
        """Return the store that belongs to a model store: the folder beside its root."""
        return cls(models.parent / FOLDER)

    @property
    def root(self) -> Path:
        """The folder that holds ``<name>/<version>/``."""
        return self._root

    def save(self, tag: str | Tag, document: Mapping[str, object]) -> Path:
        """Write a result durably and return its path.

        Args:
            tag: a version of its own, never ``latest``.
            document: what JSON can hold.

        Raises:
            InvalidTag: the tag names no version.
            ValueError: the document has a number that JSON lacks.
        """
        folder = self._folder(tag)
        text = json.dumps(document, allow_nan=False, indent=1)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
        unfinished = folder / f"{_UNFINISHED}{name}"
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            target = unfinished.rename(folder / f"{name}{_SUFFIX}")
        finally:
            unfinished.unlink(missing_ok=True)
        _sync(folder)
        return target

    def list(self, tag: str | Tag) -> list[Path]:
        """Return the results of a version, newest first; of every version for ``name`` or ``name:latest``.

        Raises:
            InvalidTag: the text is no tag.
        """
        wanted = Tag.parse(tag)
        pattern = "*" if wanted.is_latest else wanted.version
        found = (self._root / wanted.name).glob(f"{pattern}/*{_SUFFIX}")
        return sorted(found, key=lambda path: path.name, reverse=True)

    def latest(self, tag: str | Tag) -> dict[str, Plain] | None:
        """Return the newest result that can be read; None when there is none.

        Raises:
            InvalidTag: the text is no tag.
        """
        for path in self.list(tag):
            with suppress(CorruptArtifact, ModelMissing):
                return self.load(path)
        return None

    @staticmethod
    def load(path: Path) -> dict[str, Plain]:
        """Read one result.

        Raises:
            ModelMissing: it was deleted meanwhile.
            CorruptArtifact: it is no JSON object.
        """
        try:
            document: object = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelMissing(f"there is no result {path}") from None
        except (OSError, ValueError) as error:
            raise CorruptArtifact(f"{path} cannot be read: {error}", field=path.name) from error
        if not isinstance(document, dict):
            raise CorruptArtifact(f"{path} is no JSON object", field=path.name)
        return document

    def _folder(self, tag: str | Tag) -> Path:
        wanted = Tag.parse(tag)
        if wanted.is_latest:
            raise InvalidTag(f"a result belongs to one version; {wanted} is a pointer", field="version")
        return self._root / wanted.name / wanted.version


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
