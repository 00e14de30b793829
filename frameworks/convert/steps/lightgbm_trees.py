"""LightGBM models as ONNX nodes, read from the booster's own dump."""

from __future__ import annotations

from typing import Any, Final

import lightgbm

from frameworks.convert.steps.onnx_build import Build, Value
from frameworks.convert.steps.tree_ensemble import Ensemble, both_classes, class_labels, linked, raw_scores
from frameworks.convert.work import NotConvertible

_LINKS: Final = {
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "softplus",
    "custom": "identity",
    "fair": "identity",
    "gamma": "exp",
    "huber": "identity",
    "lambdarank": "identity",
    "mape": "identity",
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
    "poisson": "exp",
    "quantile": "identity",
    "rank_xendcg": "identity",
    "regression": "identity",
    "regression_l1": "identity",
    "tweedie": "exp",
}
"""Objective to what LightGBM makes of its raw score."""


class Answers:
    """What the methods of a LightGBM model answer, as values of a graph; numbers are FP64 as LightGBM's.

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
        self._model = model
        booster = model if isinstance(model, lightgbm.Booster) else model.booster_
        dump = booster.dump_model()
        self._link, self._scale = _link(dump.get("objective", "custom"))
        self._several = dump["num_tree_per_iteration"] > 1
        self._scores = build.cast(raw_scores(build, _ensemble(dump), features), "FP64")

    def __call__(self, method: str) -> Value:
        """Return a method's answer.

        Raises:
            NotConvertible: the model has no such method, or it has no form in ONNX.
        """
        found = linked(self._build, self._scores, self._link, self._scale)
        if self._kind != "LGBMClassifier":
            if method == "predict":
                return found
        elif method in ("predict", "predict_proba"):
            # of two classes LightGBM answers the second
            probabilities = found if self._several else both_classes(self._build, found)
            if method == "predict_proba":
                return probabilities
            return class_labels(self._build, probabilities, self._model.classes_)
        raise NotConvertible(f"method {method!r} of a {self._kind} has no form in ONNX", field=method)


def _link(objective: str) -> tuple[str, float]:
    """Return the link of an objective's text, such as ``binary sigmoid:1``, and the factor before it."""
    name, *rest = objective.split()
    if name not in _LINKS:
        raise NotConvertible(f"LightGBM's objective {objective!r} has no form in ONNX", field="objective")
    if "sqrt" in rest:
        return "signed_square", 1.0
    factors = [float(word.removeprefix("sigmoid:")) for word in rest if word.startswith("sigmoid:")]
    return _LINKS[name], factors[0] if factors else 1.0


def _ensemble(dump: dict[str, Any]) -> Ensemble:
    scores, trees = dump["num_tree_per_iteration"], dump["tree_info"]
    rounds = max(1, len(trees) // scores)
    weight = 1 / rounds if dump.get("average_output") else 1.0
    ensemble = Ensemble(datatype="FP64", branch="BRANCH_LEQ", base=[0.0] * scores)
    for index, tree in enumerate(trees):
        _add(ensemble, index, tree["tree_structure"], index % scores, weight)
    return ensemble


def _add(ensemble: Ensemble, index: int, root: dict[str, Any], score: int, weight: float) -> None:
    waiting, count = [(0, root)], 1
    while waiting:
        number, node = waiting.pop()
        if "leaf_value" in node:
            if node.get("leaf_coeff"):
                raise NotConvertible("leaves that are linear models have no form in ONNX", field="model")
            ensemble.add_leaf((index, number), score, node["leaf_value"] * weight)
            continue
        children = (count, count + 1)
        threshold = _threshold(node)
        ensemble.add_split(
            (index, number), node["split_feature"], threshold, children, _missing_left(node, threshold)
        )
        waiting += [(children[0], node["left_child"]), (children[1], node["right_child"])]
        count += 2


def _threshold(node: dict[str, Any]) -> float:
    if node["decision_type"] != "<=":
        raise NotConvertible("splits by category have no form in ONNX", field="model")
    return float(node["threshold"])


def _missing_left(node: dict[str, Any], threshold: float) -> bool:
    """Return where NaN goes; LightGBM has a rule for each way in which it was trained.

    Source: LightGBM 4, ``Tree::NumericalDecision``.
    """
    kind, default_left, zero_left = node["missing_type"], bool(node["default_left"]), threshold >= 0
    if kind == "NaN":
        return default_left
    if kind == "Zero" and default_left != zero_left:
        raise NotConvertible("splits that take zero for missing have no form in ONNX", field="model")
    return zero_left  # NaN counts as zero
