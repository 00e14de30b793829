"""What the TensorFlow steps share: source, method to convert, its samples, and the place to write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from frameworks import objects, sample
from frameworks.arrays import Arrays
from frameworks.base import LoadOptions
from frameworks.convert.work import NotConvertible, Work
from frameworks.tf import device as tensorflow_device
from frameworks.tf.saved import ARTIFACT, DEFAULT_KEY
from store import Signature


def prepare(device: str) -> None:
    """Give the conversion the device and all cores; a process that has computed already keeps its own.

    Raises:
        InvalidModel: the device is not there.
    """
    tensorflow_device.prepare(LoadOptions(device=device, threads=os.cpu_count() or 1))


def source_of(work: Work) -> Path:
    """Return the SavedModel folder to start from.

    Raises:
        NotConvertible: there is none.
    """
    if work.artifact is not None:
        return work.artifact
    if work.model is None:
        raise NotConvertible("neither a SavedModel nor the source model is at hand", field="model")
    return work.model.path / ARTIFACT


def chosen(signatures: Mapping[str, Signature]) -> tuple[str, Signature]:
    """Return the method that a format of one method gets: the default one, else the first.

    Raises:
        NotConvertible: there is none, or nothing says what it takes and returns.
    """
    names = [name for name in (objects.CALL, DEFAULT_KEY) if name in signatures] or list(signatures)
    if not names:
        raise NotConvertible("the model has no methods", field="signatures")
    signature = signatures[names[0]]
    if signature.inputs is None or signature.outputs is None:
        raise NotConvertible(
            f"the signature of {names[0]!r} has no specs of its inputs and outputs; save the model with a "
            "sample",
            field=f"signatures.{names[0]}",
        )
    return names[0], signature


def fitting(signature: Signature, given: Arrays) -> Arrays | None:
    """Return a sample in the order of a method's inputs; None when it is one of another method."""
    specs = signature.inputs or ()
    if set(given) != {spec.name for spec in specs}:
        return None
    return sample.fit([given[spec.name] for spec in specs], specs)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a free path beside a folder to write; it takes the folder's place when the block ends well."""
    path = target.with_name(f".{target.name}.partial")
    shutil.rmtree(path, ignore_errors=True)
    try:
        yield path
        shutil.rmtree(target, ignore_errors=True)
        path.rename(target)
    finally:
        shutil.rmtree(path, ignore_errors=True)
