"""XGBoost models as ONNX nodes, read from the booster's own JSON."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import xgboost

from frameworks.convert.steps.onnx_build import Build, Value
from frameworks.convert.steps.tree_ensemble import Ensemble, both_classes, largest, linked, raw_scores
from frameworks.convert.work import NotConvertible

_EXPONENTIAL: Final = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
_LOGISTIC: Final = ("reg:logistic", "binary:logistic")
_IDENTITY: Final = (
    "reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror",
    "reg:quantileerror", "reg:expectileerror", "binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map",
)  # fmt: skip
_CLASSES: Final = ("multi:softprob", "multi:softmax")
_HINGE: Final = "binary:hinge"

_CATEGORICAL: Final = 1


class Answers:
    """What the methods of an XGBoost model answer, as values of a graph.

    Args:
        model: a booster, or an estimator of the scikit-learn interface.
        build: the graph.
        features: ``[rows, n]``.

    Raises:
        NotConvertible: the model is more than trees with numeric splits, or its objective is unknown.
    """

    def __init__(self, model: Any, build: Build, features: Value) -> None:
        self._kind = type(model).__name__
        self._build = build
        booster, missing = model, np.nan
        if not isinstance(model, xgboost.Booster):
            booster, missing = _best(model.get_booster()), model.missing
        learner = json.loads(booster.save_raw("json"))["learner"]
        self._objective = learner["objective"]["name"]
        features = build.cast(features, "FP32")
        if not np.isnan(missing):
            features = _without(build, features, missing)
        self._scores = raw_scores(build, _ensemble(learner), features)

    def __call__(self, method: str) -> Value:
        """Return a method's answer.

        Raises:
            NotConvertible: the model has no such method, or it has no form in ONNX.
        """
        if "Classifier" not in self._kind:
            if method == "predict":
                return self._predicted()
        elif method in ("predict", "predict_proba"):
            return self._labels() if method == "predict" else self._probabilities()
        raise NotConvertible(f"method {method!r} of a {self._kind} has no form in ONNX", field=method)

    def _predicted(self) -> Value:
        if self._objective == "multi:softmax":
            return self._build.cast(largest(self._build, self._scores), "FP32")
        return linked(self._build, self._scores, _link(self._objective))

    def _probabilities(self) -> Value:
        if self._objective in _CLASSES:
            return linked(self._build, self._scores, "softmax")
        return both_classes(self._build, self._predicted())

    def _labels(self) -> Value:
        if self._objective in _CLASSES:
            return largest(self._build, self._scores)
        half = self._build.constant(np.array(0.5, dtype=np.float32))
        return self._build.cast(self._build.add("Greater", self._predicted(), half, datatype="BOOL"), "INT64")


def _best(booster: Any) -> Any:
    """Return the trees that an estimator predicts with: those up to where training stopped early."""
    best = booster.attr("best_iteration")
    return booster if best is None else booster[: int(best) + 1]


def _link(objective: str) -> str:
    if objective in _EXPONENTIAL:
        return "exp"
    if objective in _LOGISTIC:
        return "sigmoid"
    if objective in _CLASSES:
        return "softmax"
    if objective == _HINGE:
        return "positive"
    if objective in _IDENTITY:
        return "identity"
    raise NotConvertible(f"XGBoost's objective {objective!r} has no form in ONNX", field="objective")


def _without(build: Build, features: Value, missing: float) -> Value:
    """Return the features with NaN for what stands for a missing value."""
    marker = build.constant(np.array(missing, dtype=np.float32))
    nan = build.constant(np.array(np.nan, dtype=np.float32))
    found = build.add("Equal", features, marker, datatype="BOOL")
    return build.add("Where", found, nan, features, datatype="FP32")


def _ensemble(learner: dict[str, Any]) -> Ensemble:
    booster = learner["gradient_booster"]
    kind = booster["name"]
    if kind not in ("gbtree", "dart"):
        raise NotConvertible(f"an XGBoost model of kind {kind!r} is no trees", field="model")
    weights = booster.get("weight_drop")
    model = booster["gbtree"]["model"] if kind == "dart" else booster["model"]
    ensemble = Ensemble(datatype="FP32", branch="BRANCH_LT", base=_base(learner))
    for index, (tree, score) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        _add(ensemble, index, tree, score, 1.0 if weights is None else weights[index])
    return ensemble


def _base(learner: dict[str, Any]) -> list[float]:
    """Return what each score starts from; the file has it as a prediction, not as a score."""
    parameters, objective = learner["learner_model_param"], learner["objective"]["name"]
    found = json.loads(parameters["base_score"])
    given = np.array(found if isinstance(found, list) else [found], dtype=np.float64)
    if objective in _LOGISTIC:
        given = np.log(given / (1 - given))
    elif objective in _EXPONENTIAL:
        given = np.log(given)
    width = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
    return [float(value) for value in np.broadcast_to(given, (width,))]


def _add(ensemble: Ensemble, index: int, tree: dict[str, Any], score: int, weight: float) -> None:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise NotConvertible("a tree with several values in a leaf has no form in ONNX", field="model")
    if _CATEGORICAL in tree["split_type"]:
        raise NotConvertible("splits by category have no form in ONNX", field="model")
    columns = zip(
        tree["left_children"], tree["right_children"], tree["split_indices"], tree["split_conditions"],
        tree["default_left"], strict=True,
    )  # fmt: skip
    for node, (left, right, feature, value, default_left) in enumerate(columns):
        if left < 0:
            ensemble.add_leaf((index, node), score, value * weight)
        else:
            ensemble.add_split((index, node), feature, value, (left, right), bool(default_left))
