"""scikit-learn's histogram gradient boosting as ONNX nodes; skl2onnx rounds its thresholds to 32 bits."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from frameworks.convert.steps.onnx_build import Build, Value
from frameworks.convert.steps.tree_ensemble import (
    Ensemble,
    both_classes,
    class_labels,
    linked,
    raw_scores,
)
from frameworks.convert.work import NotConvertible

_LINKS: Final = {
    "squared_error": "identity",
    "absolute_error": "identity",
    "quantile": "identity",
    "gamma": "exp",
    "poisson": "exp",
}
"""A regressor's loss to what it makes of its raw score."""


class Answers:
    """What the methods of an estimator answer, as values of a graph; numbers are FP64 as the estimator's.

    Args:
        model: a fitted ``HistGradientBoostingClassifier`` or ``HistGradientBoostingRegressor``.
        build: the graph.
        features: ``[rows, n]``.

    Raises:
        NotConvertible: it has features that are categories, or an unknown loss.
    """

    def __init__(self, model: Any, build: Build, features: Value) -> None:
        self._kind = type(model).__name__
        self._build = build
        self._model = model
        if model.is_categorical_ is not None:
            raise NotConvertible(f"features of a {self._kind} that are categories have no form in ONNX")
        self._is_classifier = hasattr(model, "classes_")
        self._several = len(model._predictors[0]) > 1  # there is no public way to the trees
        self._scores = build.cast(raw_scores(build, _ensemble(model), features), "FP64")

    def __call__(self, method: str) -> Value:
        """Return a method's answer.

        Raises:
            NotConvertible: the estimator has no such method, or it has no form in ONNX.
        """
        if not self._is_classifier:
            if method == "predict":
                return linked(self._build, self._scores, _link(self._model.loss))
        elif method == "decision_function":
            return self._scores
        elif method in ("predict", "predict_proba"):
            probabilities = self._probabilities()
            if method == "predict_proba":
                return probabilities
            return class_labels(self._build, probabilities, self._model.classes_)
        raise NotConvertible(f"method {method!r} of a {self._kind} has no form in ONNX", field=method)

    def _probabilities(self) -> Value:
        if self._several:
            return linked(self._build, self._scores, "softmax")
        return both_classes(self._build, linked(self._build, self._scores, "sigmoid"))


def _link(loss: object) -> str:
    if loss not in _LINKS:
        raise NotConvertible(f"the loss {loss!r} has no form in ONNX", field="loss")
    return _LINKS[str(loss)]


def _ensemble(model: Any) -> Ensemble:
    predictors = model._predictors
    base = np.ravel(model._baseline_prediction)
    ensemble = Ensemble(datatype="FP64", branch="BRANCH_LEQ", base=[float(value) for value in base])
    index = 0
    for iteration in predictors:
        for score, tree in enumerate(iteration):
            for number, node in enumerate(tree.nodes):
                if node["is_leaf"]:
                    ensemble.add_leaf((index, number), score, float(node["value"]))
                else:
                    children = (int(node["left"]), int(node["right"]))
                    ensemble.add_split(
                        (index, number),
                        int(node["feature_idx"]),
                        float(node["num_threshold"]),
                        children,
                        bool(node["missing_go_to_left"]),
                    )
            index += 1
    return ensemble
