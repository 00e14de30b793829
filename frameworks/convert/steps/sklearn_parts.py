"""scikit-learn estimators as ONNX nodes, by skl2onnx.

A pipeline is converted in two parts, what prepares the features and the estimator at its end, since they
compute in different precisions: scikit-learn's trees round their features to 32 bits, linear models do not.
XGBoost, LightGBM and scikit-learn's own histogram trees at the end are read by converters of ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import onnxruntime
from sklearn.base import is_classifier, is_clusterer, is_outlier_detector
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline

from frameworks import base
from frameworks.convert.steps import scalers
from frameworks.convert.steps.onnx_build import ML_DOMAIN, ML_OPSET, Build, Value
from frameworks.convert.work import NotConvertible

try:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
except ModuleNotFoundError as error:
    raise base.missing("skl2onnx", "convert") from error

_TYPES: Final = {"FP32": FloatTensorType, "FP64": DoubleTensorType, "BYTES": StringTensorType}
_TREES: Final = ("BaseForest", "BaseDecisionTree", "BaseGradientBoosting")
_DENSE: Final = {"zipmap": False}
_RAW: Final = {"raw_scores": True}


class Answers:
    """What the methods of an estimator answer, as values of a graph.

    Args:
        model: a fitted estimator or pipeline.
        build: the graph.
        features: of the first part.
        shape: theirs; -1 is an open axis.
        wide: compute with 64 bits where skl2onnx can; else with 32.

    Raises:
        NotConvertible: skl2onnx cannot convert what prepares the features; its class is named.
    """

    def __init__(
        self, model: Any, build: Build, features: Value, shape: Sequence[int], *, wide: bool
    ) -> None:
        self._build = build
        self._wide = wide
        self._final = model
        self._features, self._shape = features, list(shape)
        self._parts: dict[bool, list[Value]] = {}
        self._other: Any = None
        if isinstance(model, Pipeline):
            self._final = model[-1]
            self._prepare(model)
        answers = _own_converter(self._final)
        if answers is not None:
            self._other = answers(self._final, build, self._features)

    def __call__(self, method: str) -> Value:
        """Return a method's answer.

        Raises:
            NotConvertible: skl2onnx has no converter for the estimator, or none for this method.
        """
        if self._other is not None:
            found: Value = self._other(method)
            return found
        final = self._final
        if method == "predict":
            return self._part(raw=False)[0]
        if method == "predict_proba" and is_classifier(final):
            return self._second(method, raw=False)
        if method == "predict_log_proba" and is_classifier(final):
            return self._build.add("Log", self._second(method, raw=False))
        if method == "decision_function":
            return self._second(method, raw=is_classifier(final))
        if method == "transform":
            return self._second(method, raw=False) if is_clusterer(final) else self._part(raw=False)[0]
        raise NotConvertible(
            f"method {method!r} of a {type(final).__name__} has no form in ONNX", field=method
        )

    def _second(self, method: str, *, raw: bool) -> Value:
        outputs = self._part(raw=raw)
        if len(outputs) < 2 or (is_outlier_detector(self._final) and method != "decision_function"):
            raise NotConvertible(
                f"method {method!r} of a {type(self._final).__name__} has no form in ONNX", field=method
            )
        return outputs[1]

    def _part(self, *, raw: bool) -> list[Value]:
        """Return the estimator's outputs; ``raw`` asks for scores instead of probabilities."""
        if raw not in self._parts:
            wanted = [_DENSE | _RAW, _RAW, _DENSE, {}] if raw else [_DENSE, {}]
            wide = self._wide and not _is_tree(self._final)
            self._parts[raw] = self._convert(self._final, wanted, wide)
        return self._parts[raw]

    def _prepare(self, pipeline: Pipeline) -> None:
        """Take the features through the steps before the last one."""
        done = 0
        while done < len(pipeline) - 1:
            value = scalers.scaled(self._build, pipeline[done], self._features)
            if value is None:
                break
            self._features, done = value, done + 1
        if done == len(pipeline) - 1:
            return
        outputs = self._convert(pipeline[done:-1], [{}], self._wide)
        if len(outputs) != 1:
            raise NotConvertible("the steps before the last one make several tensors", field="model")
        self._features, self._shape = outputs[0], [-1, -1]

    def _convert(self, model: Any, options: Sequence[dict[str, Any]], wide: bool) -> list[Value]:
        """Add an estimator's nodes, in the wanted precision or else in the other."""
        name = self._features.datatype
        kinds = ["BYTES"] if name == "BYTES" else ["FP64", "FP32"] if wide else ["FP32"]
        for kind in kinds:
            try:
                converted = _checked(model, kind, self._shape, options, self._build.opset)
            except NotConvertible:
                if kind == kinds[-1]:
                    raise
            else:
                return self._build.include(converted, self._build.cast(self._features, kind))
        return []


def _checked(
    model: Any, kind: str, shape: Sequence[int], options: Sequence[dict[str, Any]], opset: int
) -> Any:
    """Convert and load once: some of the converter's graphs are not well-formed."""
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    try:
        converted = _converted(model, kind, shape, options, opset)
        onnxruntime.InferenceSession(converted.SerializeToString(), quiet)
    except Exception as error:
        raise NotConvertible(
            f"a {_class_of(model)} has no form in ONNX: {_first_line(error)}", field="model"
        ) from error
    return converted


def _converted(
    model: Any, kind: str, shape: Sequence[int], options: Sequence[dict[str, Any]], opset: int
) -> Any:
    """Convert with the first options that the estimator's converter knows."""
    dims = [None, *(size if size >= 0 else None for size in shape[1:])]
    for wanted in options:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return convert_sklearn(
                    model,
                    initial_types=[("features", _TYPES[kind](dims))],
                    options={id(model): wanted} if wanted else None,
                    target_opset={"": opset, ML_DOMAIN: ML_OPSET},
                )
        except NameError:  # how skl2onnx says that it does not know an option
            if wanted is options[-1]:
                raise
    raise NotConvertible("no options to convert with", field="model")


def _own_converter(final: Any) -> Any:
    library = type(final).__module__.split(".")[0]
    if library == "xgboost":
        from frameworks.convert.steps import xgboost_trees

        return xgboost_trees.Answers
    if library == "lightgbm":
        from frameworks.convert.steps import lightgbm_trees

        return lightgbm_trees.Answers
    if type(final).__name__.startswith("HistGradientBoosting"):
        from frameworks.convert.steps import histogram_trees

        return histogram_trees.Answers
    return None


def _is_tree(final: Any) -> bool:
    names = {kind.__name__ for kind in type(final).__mro__}
    return isinstance(final, IsolationForest) or not names.isdisjoint(_TREES)


def _class_of(model: Any) -> str:
    if isinstance(model, Pipeline):
        return " → ".join(type(step).__name__ for _, step in model.steps)
    return type(model).__name__


def _first_line(failure: Exception) -> str:
    text = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {text[0][:300]}" if text else type(failure).__name__
