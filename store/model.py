"""A reference to one published model: where it is, what is known of it, and its checked content."""

from __future__ import annotations

import contextlib
import functools
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from store.digests import check_file, check_tree, file_names
from store.errors import CorruptArtifact, InvalidManifest, ModelMissing, RunnerUnavailable
from store.manifest import FILE_NAME, ModelInfo
from store.tag import Tag

CUSTOM_OBJECTS: Final = "custom_objects.pkl"


class RunnerFactory(Protocol):
    """Makes a runner of a model; the serving runtime installs one."""

    def __call__(self, model: Model, /, **options: object) -> object:
        """Return a runner with these options."""


class Model:
    """One version in a store. Cheap to hold: nothing is opened until it is asked for.

    The model may be deleted at any time by somebody else; then reading raises ``ModelMissing``.

    Concurrency: any thread; ``custom_objects`` may be loaded twice when threads race.
    """

    def __init__(self, path: Path, info: ModelInfo) -> None:
        self._path = path
        self._info = info

    @classmethod
    def open(cls, path: Path) -> Model:
        """Read the model at ``<root>/<name>/<version>``.

        Raises:
            ModelMissing: there is no such folder.
            CorruptArtifact: the folder has no manifest, or one that cannot be read or names another model.
        """
        manifest = path / FILE_NAME
        try:
            info = ModelInfo.load(manifest.read_text(encoding="utf-8"), manifest)
        except (FileNotFoundError, NotADirectoryError):
            if path.is_dir():
                raise CorruptArtifact(f"{path} has no {FILE_NAME}", field=FILE_NAME) from None
            raise ModelMissing(
                f"model {path.parent.name}:{path.name} is not in {path.parent.parent}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptArtifact(f"{manifest} cannot be read: {error}", field=FILE_NAME) from error
        except InvalidManifest as error:
            raise CorruptArtifact(error.message, field=error.field) from error
        if (info.name, info.version) != (path.parent.name, path.name):
            raise CorruptArtifact(f"{manifest} belongs to {info.tag}, not to its folder", field="name")
        return cls(path, info)

    @property
    def tag(self) -> Tag:
        """The model's name and version."""
        return self._info.tag

    @property
    def path(self) -> Path:
        """The folder with the manifest and the artifacts; never write there."""
        return self._path

    @property
    def info(self) -> ModelInfo:
        """The manifest as it was when the model was looked up."""
        return self._info

    @functools.cached_property
    def custom_objects(self) -> Mapping[str, object]:
        """The objects saved beside the model; loaded once, empty when there are none. Runs their code.

        Raises:
            CorruptArtifact: the file differs from its digest.
        """
        expected = self._info.digests.get(CUSTOM_OBJECTS)
        if expected is None:
            return {}
        with self.present():
            check_file(self._path, CUSTOM_OBJECTS, expected)
            content = (self._path / CUSTOM_OBJECTS).read_bytes()
        objects = pickle.loads(content)  # noqa: S301 -- the digest was checked
        if not isinstance(objects, Mapping):
            raise CorruptArtifact(f"{CUSTOM_OBJECTS} of {self.tag} holds no mapping", field=CUSTOM_OBJECTS)
        return objects

    @property
    def size_bytes(self) -> int:
        """Sum of the file sizes, manifest included.

        Raises:
            ModelMissing: the model was deleted meanwhile.
        """
        with self.present():
            return sum((self._path / name).stat().st_size for name in (FILE_NAME, *file_names(self._path)))

    def verify(self) -> None:
        """Compare every file with its digest. Loaders call it before they open an artifact.

        Raises:
            CorruptArtifact: a file differs, is missing or was added; it is named.
            ModelMissing: the model was deleted or replaced meanwhile.

        Complexity: reads all files once.
        """
        with self.present():
            check_tree(self._path, self._info.digests)

    @contextlib.contextmanager
    def present(self) -> Iterator[None]:
        """Turn a failure to read files into ``ModelMissing`` when the model was deleted or replaced.

        Raises:
            ModelMissing: the block failed on the files and this model is gone.
        """
        try:
            yield
        except (CorruptArtifact, OSError):
            try:
                current = Model.open(self._path)
            except CorruptArtifact:
                current = self
            if current.info != self._info:
                raise ModelMissing(f"model {self.tag} was replaced while it was read") from None
            raise

    def to_runner(self, **options: object) -> object:
        """Return a runner for this model, made by the factory that the serving runtime installed.

        Args:
            options: runner options, passed on as they are.

        Raises:
            RunnerUnavailable: the serving runtime was not imported.
        """
        factory = _Hook.factory
        if factory is None:
            raise RunnerUnavailable(f"{self!r} cannot become a runner yet: import runtime first")
        return factory(self, **options)

    def __repr__(self) -> str:
        return f'Model(tag="{self.tag}")'

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return (self._path, self._info) == (other._path, other._info)

    def __hash__(self) -> int:
        return hash((self._path, self.tag))


class _Hook:
    """Holds the installed factory; a class so that no ``global`` statement is needed."""

    factory: RunnerFactory | None = None


def set_runner_factory(factory: RunnerFactory | None) -> None:
    """Install what ``Model.to_runner`` calls with the model and the options; None takes it away."""
    _Hook.factory = factory
