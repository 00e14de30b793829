"""Adapter for any picklable Python callable or object.

Code that workers cannot import is stored with the model: what is defined in ``__main__`` always, other
modules when they are named in ``external_modules``. Loading runs code from the artifact.

Methods take numpy arrays (BYTES: object arrays of ``bytes``) and return arrays, numbers, text, lists of them,
or tuples and mappings of those; ``RowErrors`` where some rows have no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Unpack

import cloudpickle

from frameworks import base, objects, pickling
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.errors import InvalidModel
from store import Model, ModelStore, Signature, Tag

MODULE: Final = "python"

_VERSIONS: Final = {"cloudpickle": cloudpickle.__version__}
_DEFAULT: Final = {objects.CALL: Signature(batchable=False)}


def save_model(name: str, model: object, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a callable, or an object with the methods that ``signatures`` name.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: picklable callable or object.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``, not batchable.

    Raises:
        InvalidModel: it cannot be pickled, has no such method, or is no callable and has no signatures.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    signatures = base.given_signatures(arguments)
    if signatures is None:
        if not callable(model):
            raise InvalidModel(
                f"a {type(model).__name__} is not callable; say in signatures which methods it has",
                field="signatures",
            )
        signatures = _DEFAULT
    objects.bind(model, signatures)  # fails early for a missing method
    modules = arguments.get("external_modules") or ()
    plan = base.Plan(
        module=MODULE,
        versions=_VERSIONS,
        pickled=True,
        signatures=signatures,
        settings={},
        write=lambda folder: pickling.dump(model, folder / objects.ARTIFACT, modules),
        open=lambda folder, known, _: objects.bind(objects.read(folder), known),
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return the object as it was saved; ``device`` has no meaning here.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be unpickled here.
        StoreError: it is unknown or its files are damaged.
    """
    del device
    return base.load(base.find(tag, MODULE, store), MODULE, _VERSIONS, objects.read)


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Load the model and return one callable per method; ``options`` have no meaning here.

    Raises:
        InvalidModel: it cannot be unpickled here, or a method is missing.
        StoreError: its files are damaged or gone.
    """
    del options

    def opened(folder: Path) -> dict[str, Method]:
        return dict(objects.bind(objects.read(folder), model.info.signatures))

    return base.load(model, MODULE, _VERSIONS, opened)
