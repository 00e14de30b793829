"""Adapter for scikit-learn estimators and pipelines, stored by cloudpickle.

Loading runs code from the artifact. CPU threads are set by the worker's environment, before the numeric
libraries are imported. Sparse results are answered dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from frameworks import base, objects, pickling
from frameworks.arrays import Array, as_array
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.errors import InvalidModel
from store import Model, ModelStore, Signature, Tag

try:
    import sklearn
except ModuleNotFoundError as error:
    raise base.missing("scikit-learn", "sklearn") from error

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

MODULE: Final = "sklearn"

_VERSIONS: Final = {"scikit-learn": sklearn.__version__}
_DEFAULT: Final = {"predict": Signature(batchable=False)}


def save_model(name: str, model: BaseEstimator, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a fitted estimator or pipeline.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: the estimator.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``predict``, not batchable.

    Raises:
        InvalidModel: no estimator, or it has no such method.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    from sklearn.base import BaseEstimator

    if not isinstance(model, BaseEstimator):
        raise InvalidModel(f"a {type(model).__name__} is no scikit-learn estimator", field="model")
    signatures = base.given_signatures(arguments)
    if signatures is None:
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
        open=lambda folder, known, _: objects.bind(objects.read(folder), known, out=_to_array),
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return the estimator as it was saved; ``device`` has no meaning here.

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
    """Load the estimator and return one callable per method; ``options`` have no meaning here.

    Raises:
        InvalidModel: it cannot be unpickled here, or a method is missing.
        StoreError: its files are damaged or gone.
    """
    del options

    def opened(folder: Path) -> dict[str, Method]:
        return dict(objects.bind(objects.read(folder), model.info.signatures, out=_to_array))

    return base.load(model, MODULE, _VERSIONS, opened)


def _to_array(value: Any) -> Array:
    return as_array(value.toarray() if hasattr(value, "toarray") else value)
