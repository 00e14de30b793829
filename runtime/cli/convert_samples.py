"""Samples of ``runtime convert``: files of arrays, read as a method takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import numpy as np

from frameworks import FrameworkError, sample
from frameworks.arrays import as_array
from frameworks.convert.samples import collect, from_model

if TYPE_CHECKING:
    from frameworks.arrays import Arrays
    from frameworks.convert.samples import Samples
    from store import Model, Signature

_SUFFIXES: Final = (".npz", ".npy")


def find(model: Model, methods: Mapping[str, Signature], given: Sequence[Path]) -> tuple[Samples, bool]:
    """Return the samples to convert and compare with, and whether they are made up.

    Args:
        model: the source; its own sample is taken when none are given.
        methods: those to convert; samples are inputs of the first.
        given: files and folders of them.

    Raises:
        BadParameter: a file cannot be read, or does not fit the method.
        InvalidSamples: the files contradict each other.
    """
    name, signature = next(iter(methods.items()))
    if not given:
        found = from_model(model, name)
        return found, found.generated
    items = Files(given, signature)
    names = [spec.name for spec in signature.inputs or ()]
    axis = signature.batch_dim[0] if signature.batchable else None
    return collect(items, names=names, batch_dim=axis), False


class Files:
    """Files of arrays as a data loader: one item for each ``.npz`` or ``.npy``, read when it is asked for.

    Args:
        paths: files, or folders whose files are taken in the order of their names.
        signature: of the method that takes them, with specs.
    """

    def __init__(self, paths: Sequence[Path], signature: Signature) -> None:
        self._paths = list(_listed(paths))
        self._specs = signature.inputs or ()
        if not self._paths:
            raise _bad(f"there is no {' or '.join(_SUFFIXES)} in {', '.join(map(str, paths))}")

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Arrays]:
        return map(self._read, self._paths)

    def _read(self, path: Path) -> Arrays:
        """Read one item, under the names of the specs.

        Raises:
            BadParameter: it cannot be read or does not fit.
        """
        found = _load(path)
        names = [spec.name for spec in self._specs]
        if "" in found and len(names) == 1:
            found = {names[0]: found[""]}
        if set(found) != set(names):
            held = "one array without a name" if "" in found else f"the arrays {', '.join(found) or 'none'}"
            raise _bad(f"{path} has {held}; the method takes {', '.join(names)}")
        fitted = sample.fit([found[name] for name in names], self._specs)
        if fitted is None:
            shown = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in found.items())
            wanted = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in self._specs)
            raise _bad(f"{path} has {shown}; the method takes {wanted}")
        return fitted


def _listed(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        else:
            yield path


def _load(path: Path) -> Arrays:
    """Return the arrays of a file by name; the one of a ``.npy`` has none. Nothing is unpickled."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": as_array(loaded)}
        with loaded as members:
            return {name: as_array(members[name]) for name in members}
    except (OSError, ValueError, EOFError, FrameworkError) as error:
        raise _bad(f"{path} is no file of numpy's, or has pickled objects: {error}") from error


def _bad(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="--samples")
