"""Adapter for LightGBM: boosters and the estimators of its scikit-learn interface. It predicts on the CPU.

The artifact is LightGBM's own text file, which runs no code when it is read. Beside it lies what the file
leaves out: which class it was, and a classifier's labels. Methods call the booster itself, with the thread
budget in each call; the scikit-learn interface would check names that arrays do not have, and warn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np

from frameworks import base
from frameworks.arrays import Array
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.calling import Caller
from frameworks.errors import InvalidModel
from store import Model, ModelStore, Signature, Tag, TensorSpec

try:
    import lightgbm
except ModuleNotFoundError as error:
    raise base.missing("lightgbm", "lightgbm") from error

MODULE: Final = "lightgbm"
ARTIFACT: Final = "model.txt"
RECORD: Final = "estimator.json"

_VERSIONS: Final = {"lightgbm": str(lightgbm.__version__)}
_BOOSTER: Final = "Booster"
_CLASSIFIER: Final = "LGBMClassifier"
_ESTIMATORS: Final = (_CLASSIFIER, "LGBMRegressor", "LGBMRanker")


def save_model(name: str, model: Any, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a trained booster or estimator.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: ``lightgbm.Booster``, ``LGBMClassifier``, ``LGBMRegressor`` or ``LGBMRanker``.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``predict`` with one input
            ``features``, FP32 unless a sample says otherwise; not batchable. A classifier has
            ``predict_proba`` too.

    Raises:
        InvalidModel: none of these, not trained, of an own objective, or it has no such method.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    record, booster = _record(model), _booster_of(model)
    signatures = base.given_signatures(arguments)
    if signatures is None:
        signatures = {"predict": _default(booster, with_sample=arguments.get("sample") is not None)}
    for method in signatures:
        _function(booster, record, method, 1)
    plan = base.Plan(
        module=MODULE,
        versions=_VERSIONS,
        pickled=False,
        signatures=signatures,
        settings={},
        write=lambda folder: _write(booster, record, folder),
        open=lambda folder, known, _: _open(folder, known, LoadOptions()),
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return the booster, or an estimator that predicts as the saved one.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be read here, or the device is not the CPU.
        StoreError: it is unknown or its files are damaged.
    """
    _check_device(device)
    return base.load(base.find(tag, MODULE, store), MODULE, _VERSIONS, _restore)


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Load the model and return one callable per method.

    Raises:
        InvalidModel: it cannot be read here, a method is missing, or the device is not the CPU.
        StoreError: its files are damaged or gone.
    """
    _check_device(options.device)
    options = base.load_settings(model, options, {})
    return base.load(model, MODULE, _VERSIONS, lambda folder: _open(folder, model.info.signatures, options))


def _record(model: Any) -> dict[str, Any]:
    """Return what the text file leaves out."""
    kind = type(model).__name__
    if type(model) is not getattr(lightgbm, kind, None) or kind not in (_BOOSTER, *_ESTIMATORS):
        raise InvalidModel(
            f"a {kind} is neither a lightgbm.Booster nor one of {', '.join(_ESTIMATORS)}", field="model"
        )
    if kind == _BOOSTER:
        return {"class": kind}
    if not model.__sklearn_is_fitted__():
        raise InvalidModel(f"the {kind} is not trained; call fit first", field="model")
    if callable(model.objective_):
        raise InvalidModel(
            f"the {kind} has an objective of its own, whose answers are raw scores; save its booster_",
            field="model",
        )
    record = {"class": kind, "objective": model.objective_}
    if kind == _CLASSIFIER:
        labels = np.asarray(model.classes_)
        if labels.dtype.kind not in "biufU" and not all(isinstance(label, str) for label in labels):
            raise InvalidModel("a class label is neither a number nor text", field="model")
        record["labels"] = labels.tolist()
        record["labels_dtype"] = labels.dtype.str
    return record


def _booster_of(model: Any) -> Any:
    return model if isinstance(model, lightgbm.Booster) else model.booster_


def _default(booster: Any, *, with_sample: bool) -> Signature:
    if with_sample:
        return Signature()
    return Signature(inputs=(TensorSpec("features", "FP32", (-1, booster.num_feature())),))


def _write(booster: Any, record: Mapping[str, Any], folder: Path) -> None:
    booster.save_model(folder / ARTIFACT)
    (folder / RECORD).write_text(json.dumps(record, indent=1))


def _read(folder: Path) -> tuple[Any, dict[str, Any]]:
    record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    if record["class"] not in (_BOOSTER, *_ESTIMATORS):
        raise InvalidModel(f"{RECORD} names an unknown class {record['class']!r}", field="class")
    return lightgbm.Booster(model_file=folder / ARTIFACT), record


def _labels(record: Mapping[str, Any]) -> Array:
    return np.array(record["labels"], dtype=record["labels_dtype"])


def _restore(folder: Path) -> Any:
    """Return the booster in an estimator of its class, which LightGBM has no reader for."""
    booster, record = _read(folder)
    if record["class"] == _BOOSTER:
        return booster
    estimator = getattr(lightgbm, record["class"])(objective=record["objective"])
    features = booster.num_feature()
    state = {
        "_Booster": booster,
        "_objective": record["objective"],
        "_n_features": features,
        "_n_features_in": features,
        "fitted_": True,
    }
    if record["class"] == _CLASSIFIER:
        from sklearn.preprocessing import LabelEncoder

        labels = _labels(record)
        encoder = LabelEncoder().fit(labels)
        state |= {"_classes": encoder.classes_, "_n_classes": len(labels), "_le": encoder}
    for name, value in state.items():
        setattr(estimator, name, value)
    return estimator


def _open(folder: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    booster, record = _read(folder)
    return {
        name: Caller(_function(booster, record, name, options.threads), signature)
        for name, signature in signatures.items()
    }


def _function(
    booster: Any, record: Mapping[str, Any], method: str, threads: int
) -> Callable[[Array], object]:
    """Return what a method's name stands for, as a function of the features alone."""

    def scores(features: Array) -> Array:
        result: Array = booster.predict(features, num_threads=threads)
        return result

    def probabilities(features: Array) -> Array:
        found = scores(features)
        # LightGBM answers one class of two: the second
        return found if found.ndim == 2 else np.stack((1.0 - found, found), axis=1)

    if record["class"] != _CLASSIFIER:
        methods = {"predict": scores}
    else:
        labels = _labels(record)
        methods = {
            "predict": lambda features: labels[np.argmax(probabilities(features), axis=1)],
            "predict_proba": probabilities,
        }
    if method not in methods:
        raise InvalidModel(
            f"a {record['class']} has no method {method!r}; it has {', '.join(methods)}",
            field=f"signatures.{method}",
        )

    def run(features: Array) -> object:
        return methods[method](features)

    return run


def _check_device(device: str) -> None:
    if device != "cpu":
        raise InvalidModel(f"lightgbm predicts on the CPU; use device 'cpu', not {device!r}", field="device")
