"""Adapter for TensorFlow: Keras models, ``tf.Module`` and SavedModel folders.

The artifact is a SavedModel, which holds graphs and weights and no Python code: it loads without Keras and
without the classes that made it. Methods are its signatures; ``__call__`` is the one that other tools know
as ``serving_default``. Keras models answer in inference mode.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Unpack

from frameworks import base
from frameworks.base import Kinds, LoadOptions, Method, SaveArguments
from frameworks.calling import Opened
from frameworks.errors import InvalidModel
from frameworks.tf import device as tensorflow_device
from frameworks.tf import saved as tensorflow_saved
from frameworks.tf.library import VERSIONS, tf
from frameworks.tf.saved import ARTIFACT
from frameworks.tf.targets import keras_of
from frameworks.tf.trace import trace
from store import Model, ModelStore, Signature, Tag

MODULE: Final = "tensorflow"

SETTINGS: Final[Mapping[str, Kinds]] = {"xla": bool}
"""Load options: ``xla`` compiles each method, once for every combination of input shapes."""


def save_model(name: str, model: Any, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a model of TensorFlow.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: Keras model, ``tf.Module`` or other trackable object, what ``tf.saved_model.load`` returned, or
            the path of a SavedModel folder, which is copied as it is.
        arguments: see ``frameworks.base.SaveArguments``. Signatures default to ``__call__``, or to all
            signatures of a folder, not batchable. Specs that they lack are read from the model; a
            ``tf.Module`` whose functions do not say their inputs needs specs or a sample.

    Raises:
        InvalidModel: no such model or method, nothing says what a method takes, or it cannot be traced.
        InvalidSignature: it is to be batchable, but the model fixes the batch axis.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    signatures = base.given_signatures(arguments)
    versions = dict(VERSIONS)
    if isinstance(model, str | Path):
        source = Path(model)
        signatures = _signatures_of(source, signatures)
        write: Callable[[str], object] = partial(shutil.copytree, source)
    else:
        traced = trace(model, signatures, arguments.get("sample"))
        signatures = traced.signatures
        write = partial(tf.saved_model.save, model, signatures=traced.functions)
        library = keras_of(model)
        if library is not None:
            versions[library.__name__] = str(library.__version__)
    plan = base.Plan(
        module=MODULE,
        versions=versions,
        pickled=False,
        signatures=signatures,
        settings=SETTINGS,
        write=partial(_write, write),
        # As TensorFlow stands: trying the sample must not change the caller's process.
        open=lambda folder, known, settings: tensorflow_saved.open_methods(
            folder / ARTIFACT, known, xla=bool(settings.get("xla", False))
        ),
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return what ``tf.saved_model.load`` returns, with variables on the device; see its ``signatures``.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be loaded here, or the device is not there.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    scope = tensorflow_device.scope_of(device)
    return base.load(found, MODULE, VERSIONS, lambda folder: tensorflow_saved.load(folder / ARTIFACT, scope))


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Give the process its threads and device, load the model and return one callable per method.

    Raises:
        InvalidModel: it cannot be loaded here, a method is missing, or the device is not there.
        StoreError: its files are damaged or gone.
    """
    settings = base.load_settings(model, options, SETTINGS)
    return base.load(
        model,
        MODULE,
        VERSIONS,
        lambda folder: open_artifact(folder / ARTIFACT, model.info.signatures, settings),
    )


def open_artifact(
    path: Path, signatures: Mapping[str, Signature], options: LoadOptions
) -> Mapping[str, Opened]:
    """Give the process its threads and device, load a SavedModel folder and return its methods.

    Args:
        path: the folder.
        signatures: its methods; specs may be left out.
        options: device, threads, and ``SETTINGS``.

    Raises:
        InvalidModel: it cannot be loaded, a method or tensor is missing, or the device is not there.
    """
    base.check_settings(options.settings, SETTINGS)
    scope = tensorflow_device.prepare(options)
    xla = bool(options.settings.get("xla", False))
    return tensorflow_saved.open_methods(path, signatures, scope=scope, xla=xla)


def _write(write: Callable[[str], object], folder: Path) -> None:
    write(str(folder / ARTIFACT))


def _signatures_of(source: Path, given: Mapping[str, Signature] | None) -> dict[str, Signature]:
    functions = tensorflow_saved.load(source).signatures
    if given is None:
        names = tensorflow_saved.default_methods(functions)
        odd = next((name for name in names if not name.isidentifier()), None)
        if odd is not None or not names:
            what = f"signature {odd!r}, which is no method name" if names else "no signatures"
            raise InvalidModel(
                f"{source} has {what}; name the methods to serve in signatures", field="signatures"
            )
        given = dict.fromkeys(names, Signature())
    return {
        method: tensorflow_saved.complete(
            method, signature, functions[tensorflow_saved.key_of(method, functions)]
        )
        for method, signature in given.items()
    }
