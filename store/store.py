"""The model store: find, list, create and delete models below one root folder.

The folder is the whole state: no index, no daemon, no lock for readers. ``latest`` is computed from the
creation times. Publication and deletion are atomic (``store.publish``), so that any number of processes may
share a root.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from store import publish
from store.digests import digest_tree
from store.errors import CorruptArtifact, InvalidTag, ModelMissing, StoreError, TagExists
from store.manifest import FILE_NAME, ModelInfo
from store.model import Model
from store.tag import Tag

HOME_VARIABLE = "RUNTIME_HOME"
DEFAULT_HOME = "~/.runtime"

_logger = logging.getLogger(__name__)


class Draft:
    """A model that is being written: a folder for the artifacts and the record that will describe them.

    Args:
        path: write the artifact files below it.
        info: the record; replace it while the draft is open to add what became known meanwhile. Digests and
            creation time are filled in at publication.
    """

    def __init__(self, path: Path, info: ModelInfo) -> None:
        self.path = path
        self.info = info
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        """The published model; there is none before ``ModelStore.create``'s block has ended well.

        Raises:
            StoreError: the draft is not published.
        """
        if self._model is None:
            raise StoreError(f"model {self.info.tag} is not published yet")
        return self._model

    def _published(self, path: Path) -> None:
        self._model = Model(path, self.info)


class ModelStore:
    """Models below one root folder, which is made by the first write.

    Concurrency: any thread and process; two stores may share a root.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).expanduser().absolute()

    @classmethod
    def default(cls) -> ModelStore:
        """Return the store at ``$RUNTIME_HOME/models``; the variable is read now, default ``~/.runtime``."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME) / "models")

    @property
    def root(self) -> Path:
        """The folder that holds ``<name>/<version>/``."""
        return self._root

    def get(self, tag: str | Tag) -> Model:
        """Return the model; ``name`` or ``name:latest`` is the newest that can be read.

        Raises:
            InvalidTag: the text is no tag.
            ModelMissing: unknown name or version; the nearest known name is proposed.
            CorruptArtifact: the version that was asked for has no readable manifest.
        """
        wanted = Tag.parse(tag)
        if not wanted.is_latest:
            path = self._path(wanted)
            if path.is_dir():
                return Model.open(path)
        else:
            models = self.list(wanted.name)
            if models:
                return models[0]
        raise ModelMissing(self._explain(wanted), field="name" if wanted.is_latest else "version")

    def list(self, name: str | None = None) -> list[Model]:
        """Return all models, or one name's, newest first; equal times go by version, highest first.

        What cannot be read is left out with a warning; what is deleted meanwhile is left out in silence.

        Raises:
            InvalidTag: the name breaks the naming rules.

        Complexity: reads one manifest per version.
        """
        names = _folders(self._root) if name is None else [Tag(name).name]
        models: list[Model] = []
        for folder in names:
            for version in _folders(self._root / folder):
                try:
                    models.append(Model.open(self._root / folder / version))
                except ModelMissing:
                    continue
                except CorruptArtifact as error:
                    _logger.warning(
                        "store_entry_skipped model=%s/%s error=%s", folder, version, error.message
                    )
        return sorted(models, key=lambda model: (model.info.created, model.tag.version), reverse=True)

    def delete(self, tag: str | Tag) -> Tag:
        """Remove one version, or the latest one, and return its tag. A broken one goes by its version.

        Raises:
            InvalidTag: the text is no tag.
            ModelMissing: unknown, or somebody else was quicker.
        """
        wanted = Tag.parse(tag)
        if wanted.is_latest:
            wanted = self.get(wanted).tag
        publish.sweep(self._root)
        publish.remove(self._root, wanted)
        return wanted

    @contextmanager
    def create(self, info: ModelInfo) -> Iterator[Draft]:
        """Yield a draft; publish it when the block ends well, drop it when the block raises.

        Args:
            info: the record of the new model; ``Tag.new_version()`` makes its version.

        Raises:
            TagExists: that version exists; looked up before and decided at publication.
            CorruptArtifact: the draft has links or special files.

        Concurrency: SIGKILL at any moment leaves either the whole model or none, and leftovers for the next
            write to sweep.
        """
        publish.sweep(self._root)
        if self._path(info.tag).is_dir():
            raise TagExists(f"model {info.tag} exists; versions never change", field="version")
        with publish.workplace(self._root) as path:
            path.mkdir()
            draft = Draft(path, info)
            yield draft
            now = datetime.now(UTC).isoformat(timespec="microseconds")
            draft.info = replace(draft.info, digests=digest_tree(path), creation_time=now)
            (path / FILE_NAME).write_text(draft.info.dump(), encoding="utf-8")
            draft._published(publish.publish(path, self._root, draft.info.tag))

    def _path(self, tag: Tag) -> Path:
        return self._root / tag.name / tag.version

    def _explain(self, tag: Tag) -> str:
        names = _folders(self._root)
        if tag.name in names and not tag.is_latest:
            return f"model {tag.name!r} has no version {tag.version!r} in {self._root}"
        near = difflib.get_close_matches(tag.name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"model {tag.name!r} is not in {self._root}{hint}"


def _folders(parent: Path) -> list[str]:
    """Return the names of the sub-folders that could be a model's; others are not ours to judge."""
    try:
        with os.scandir(parent) as entries:
            return [entry.name for entry in entries if _is_valid(entry.name) and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _logger.warning("store_folder_skipped folder=%s error=%s", parent, error)
        return []


def _is_valid(name: str) -> bool:
    try:
        Tag(name)
    except InvalidTag:
        return False
    return True
