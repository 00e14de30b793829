"""Adapter for XGBoost: boosters and the estimators of its scikit-learn interface.

The artifact is XGBoost's own file (UBJSON), which holds trees, objective and classes and runs no code when it
is read. Beside it lies which class it was, with the parameters that the file leaves out, such as what stands
for a missing value. Features are given to XGBoost with the datatype they have; NaN stays a missing value.

``predict`` of a booster is its in-place prediction, which builds no ``DMatrix``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np

from frameworks import base, gpu, objects
from frameworks.arrays import Array
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.calling import Caller
from frameworks.errors import InvalidModel
from store import Model, ModelStore, Signature, Tag, TensorSpec

try:
    import xgboost
except ModuleNotFoundError as error:
    raise base.missing("xgboost", "xgboost") from error

MODULE: Final = "xgboost"
ARTIFACT: Final = "model.ubj"
RECORD: Final = "estimator.json"

_VERSIONS: Final = {"xgboost": str(xgboost.__version__)}
_BOOSTER: Final = "Booster"
_HALF: Final = 0.5
_ESTIMATORS: Final = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")


def save_model(name: str, model: Any, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a trained booster or estimator.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: ``xgboost.Booster``, ``XGBClassifier``, ``XGBRegressor``, ``XGBRanker`` or a random forest.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``predict`` with one input
            ``features``, FP32 unless a sample says otherwise; not batchable.

    Raises:
        InvalidModel: none of these, not trained, or it has no such method.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    booster = _booster_of(model)
    signatures = base.given_signatures(arguments)
    if signatures is None:
        signatures = {"predict": _default(booster, with_sample=arguments.get("sample") is not None)}
    for method in signatures:
        _function(model, method, "cpu")
    plan = base.Plan(
        module=MODULE,
        versions=_VERSIONS,
        pickled=False,
        signatures=signatures,
        settings={},
        write=lambda folder: _write(model, folder),
        open=lambda folder, known, _: _open(folder, known, LoadOptions()),
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return the booster or estimator, predicting on the device.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be read here, or the device is not there.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    return base.load(found, MODULE, _VERSIONS, lambda folder: _read(folder, device))


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
        InvalidModel: it cannot be read here, a method is missing, or the device is not there.
        StoreError: its files are damaged or gone.
    """
    options = base.load_settings(model, options, {})
    return base.load(model, MODULE, _VERSIONS, lambda folder: _open(folder, model.info.signatures, options))


def _booster_of(model: Any) -> Any:
    kind = type(model).__name__
    if type(model) is not getattr(xgboost, kind, None) or kind not in (_BOOSTER, *_ESTIMATORS):
        raise InvalidModel(
            f"a {kind} is neither an xgboost.Booster nor one of {', '.join(_ESTIMATORS)}", field="model"
        )
    if kind == _BOOSTER:
        return model
    if not model.__sklearn_is_fitted__():
        raise InvalidModel(f"the {kind} is not trained; call fit first", field="model")
    return model.get_booster()


def _default(booster: Any, *, with_sample: bool) -> Signature:
    if with_sample:
        return Signature()
    return Signature(inputs=(TensorSpec("features", "FP32", (-1, booster.num_features())),))


def _write(model: Any, folder: Path) -> None:
    model.save_model(folder / ARTIFACT)
    parameters = {} if isinstance(model, xgboost.Booster) else model.get_params()
    record = {
        "class": type(model).__name__,
        "parameters": {name: value for name, value in parameters.items() if _is_plain(value)},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1))


def _is_plain(value: object) -> bool:
    """Return whether JSON keeps it; the rest steers training, not prediction."""
    items = value if isinstance(value, list) else [value]
    return all(item is None or isinstance(item, str | int | float) for item in items)


def _read(folder: Path, device: str) -> Any:
    place = _place(device)
    record = json.loads((folder / RECORD).read_text())
    kind = record["class"]
    if kind == _BOOSTER:
        booster = xgboost.Booster(model_file=folder / ARTIFACT)
        booster.set_param({"device": place})
        return booster
    if kind not in _ESTIMATORS:
        raise InvalidModel(f"{RECORD} names an unknown class {kind!r}", field="class")
    estimator = getattr(xgboost, kind)(**record["parameters"] | {"device": place, "n_jobs": 1})
    estimator.load_model(folder / ARTIFACT)
    estimator.get_booster().set_param({"device": place})
    return estimator


def _open(folder: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    model = _read(folder, options.device)
    _booster_of(model).set_param({"nthread": options.threads})
    if not isinstance(model, xgboost.Booster):
        model.set_params(n_jobs=options.threads)
    return {
        name: Caller(_function(model, name, options.device), signature)
        for name, signature in signatures.items()
    }


def _function(model: Any, method: str, device: str) -> Callable[[Array], object]:
    """Return what a method's name stands for, as a function of the features alone."""
    if not isinstance(model, xgboost.Booster):
        function = _quick(model, method, device) or objects.function_of(model, method)
    elif method != "predict":
        raise InvalidModel(
            f"a Booster has one method, 'predict', and not {method!r}", field=f"signatures.{method}"
        )
    elif device == "cpu" and not _is_linear(model):
        function = model.inplace_predict
    else:  # a linear booster cannot predict in place; on a GPU the features would have to lie there already

        def function(features: Array) -> object:
            return model.predict(xgboost.DMatrix(features))

    def run(features: Array) -> object:
        return function(features)

    return run


def _quick(estimator: Any, method: str, device: str) -> Callable[[Array], object] | None:
    """Return what an estimator's method does, without what it prepares anew for each call; None for others.

    Source: XGBoost 2.1 to 3.2, ``sklearn.py``: ``XGBModel.predict``, ``XGBClassifier``.
    """
    booster = estimator.get_booster()
    is_classifier = isinstance(estimator, xgboost.XGBClassifier)
    is_softmax = estimator.objective == "multi:softmax"
    if device != "cpu" or _is_linear(booster) or method not in ("predict", "predict_proba"):
        return None
    if method == "predict_proba" and (is_softmax or not is_classifier):
        return None
    best = getattr(estimator, "best_iteration", None)
    rounds = (0, 0 if best is None else best + 1)

    def values(features: Array) -> Array:
        found: Array = booster.inplace_predict(features, iteration_range=rounds, missing=estimator.missing)
        return found

    if not is_classifier:
        return values
    count = estimator.n_classes_
    if method == "predict_proba":
        return lambda features: _probabilities(values(features), count)
    return lambda features: _classes(values(features), count, is_softmax=is_softmax)


def _probabilities(found: Array, count: int) -> Array:
    """Return one column for each class, or, of several labels, for each label."""
    if found.ndim == 2 and (found.shape[1] == count or count == 2):
        return found
    return np.stack((1.0 - found, found), axis=1)


def _classes(found: Array, count: int, *, is_softmax: bool) -> Array:
    if found.ndim > 1 and count != 2:
        classes: Array = np.argmax(found, axis=1)
        return classes
    if found.ndim > 1:  # several labels
        return (found > _HALF).astype(np.float64)
    return found.astype(np.int32) if is_softmax else (found > _HALF).astype(np.int64)


def _is_linear(booster: Any) -> bool:
    learner = json.loads(booster.save_config())["learner"]
    return bool(learner["learner_train_param"]["booster"] == "gblinear")


def _place(device: str) -> str:
    """Return XGBoost's name of a device: it falls back to the CPU by itself, with a warning only.

    Raises:
        InvalidModel: it is no device, or is not here.
    """
    kind, colon, index = device.partition(":")
    if kind == "cpu" and not colon:
        return "cpu"
    if kind != "cuda" or (colon and not index.isdecimal()):
        raise InvalidModel(
            f"xgboost knows no device {device!r}; use 'cpu', 'cuda' or 'cuda:N'", field="device"
        )
    if gpu.find_gpu(int(index or 0)) is None:
        raise InvalidModel(f"device {device!r}: {gpu.NO_GPU}", field="device")
    if not xgboost.build_info().get("USE_CUDA"):
        raise InvalidModel(f"device {device!r}: this build of xgboost has no CUDA", field="device")
    return f"cuda:{index or 0}"
