"""Boosted trees as ONNX nodes: the trees' raw scores, and what objectives make of them.

Thresholds are compared in the precision of the library that trained the trees, so that a row takes the same
branch: XGBoost rounds features to 32 bits, LightGBM computes with 64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import numpy_helper

from frameworks.convert.steps.onnx_build import ML_DOMAIN, Build, Value
from frameworks.convert.work import NotConvertible
from store import datatypes

LEAF: Final = "LEAF"


@dataclass(slots=True, kw_only=True)
class Ensemble:
    """Trees whose leaves add to one of several scores.

    Args:
        datatype: ``FP32`` or ``FP64``: of features and thresholds.
        branch: ``BRANCH_LT`` or ``BRANCH_LEQ``: how a feature left of its threshold compares to it.
        base: what each score starts from; its length is the number of scores.
        nodes: of all trees: tree, node, feature, threshold, child when true, child when false, whether a
            missing value goes to the first; leaves have no children and no threshold.
        leaves: tree, node, score, weight.
    """

    datatype: str
    branch: str
    base: list[float]
    nodes: list[tuple[int, int, int, float, int, int, bool]] = field(default_factory=list)
    leaves: list[tuple[int, int, int, float]] = field(default_factory=list)

    def add_split(
        self, place: tuple[int, int], feature: int, threshold: float, children: tuple[int, int], missing: bool
    ) -> None:
        """Add an inner node at (tree, node); ``missing``: a missing value goes to the first child."""
        self.nodes.append((*place, feature, threshold, *children, missing))

    def add_leaf(self, place: tuple[int, int], score: int, weight: float) -> None:
        """Add a leaf at (tree, node)."""
        self.nodes.append((*place, 0, 0.0, 0, 0, False))
        self.leaves.append((*place, score, weight))


def raw_scores(build: Build, ensemble: Ensemble, features: Value) -> Value:
    """Return the scores, FP32.

    Shapes: features ``[rows, n]`` of any number type; result ``[rows, scores]``.
    """
    if not ensemble.leaves:
        raise NotConvertible("the model has no trees", field="model")
    trees, ids, feature, threshold, first, second, missing = zip(*ensemble.nodes, strict=True)
    leaves = {(tree, node) for tree, node, _, _ in ensemble.leaves}
    modes = [LEAF if place in leaves else ensemble.branch for place in zip(trees, ids, strict=True)]
    leaf_trees, leaf_ids, targets, weights = zip(*ensemble.leaves, strict=True)
    return build.add(
        "TreeEnsembleRegressor",
        build.cast(features, ensemble.datatype),
        datatype="FP32",  # by its definition, whatever it computes in
        domain=ML_DOMAIN,
        n_targets=len(ensemble.base),
        nodes_treeids=trees,
        nodes_nodeids=ids,
        nodes_featureids=feature,
        nodes_modes=modes,
        nodes_truenodeids=first,
        nodes_falsenodeids=second,
        nodes_missing_value_tracks_true=[int(one) for one in missing],
        target_treeids=leaf_trees,
        target_nodeids=leaf_ids,
        target_ids=targets,
        **_numbers("nodes_values", threshold, ensemble.datatype),
        **_numbers("target_weights", weights, ensemble.datatype),
        **_numbers("base_values", ensemble.base, ensemble.datatype),
    )


def linked(build: Build, scores: Value, link: str, scale: float = 1.0) -> Value:
    """Return what an objective answers for raw scores, in their datatype.

    Args:
        build: the graph.
        scores: ``[rows, scores]``.
        link: one of ``LINKS``.
        scale: factor before a sigmoid.
    """
    if link == "sigmoid" and scale != 1:
        scores = build.add("Mul", scores, _number(build, scale, scores))
    return LINKS[link](build, scores)


def _softplus(build: Build, scores: Value) -> Value:
    return build.add("Log", build.add("Add", build.add("Exp", scores), _number(build, 1, scores)))


def _positive(build: Build, scores: Value) -> Value:
    above = build.add("Greater", scores, _number(build, 0, scores), datatype="BOOL")
    return build.cast(above, scores.datatype)


LINKS: Final[Mapping[str, Callable[[Build, Value], Value]]] = {
    "identity": lambda _, scores: scores,
    "sigmoid": lambda build, scores: build.add("Sigmoid", scores),
    "softmax": lambda build, scores: build.add("Softmax", scores, axis=1),
    "exp": lambda build, scores: build.add("Exp", scores),
    "softplus": _softplus,
    "signed_square": lambda build, scores: build.add("Mul", scores, build.add("Abs", scores)),
    "positive": _positive,
}
"""What turns raw scores into answers."""


def both_classes(build: Build, second: Value) -> Value:
    """Return the probabilities of two classes, given the second's. Shapes: ``[rows, 1]`` to ``[rows, 2]``."""
    first = build.add("Sub", _number(build, 1, second), second)
    return build.add("Concat", first, second, axis=1)


def largest(build: Build, scores: Value) -> Value:
    """Return the index of each row's largest score, the first of equal ones. Shapes: to ``[rows]`` INT64."""
    return build.add("ArgMax", scores, datatype="INT64", axis=1, keepdims=0)


def class_labels(build: Build, scores: Value, classes: Any) -> Value:
    """Return the label of each row's largest score, of the labels' own datatype.

    Shapes: scores ``[rows, classes]``; result ``[rows]``.
    """
    labels = np.asarray(classes)
    if labels.dtype.kind in "UO":
        labels = labels.astype(object)
    return build.add("Gather", build.constant(labels), largest(build, scores), axis=0)


def _number(build: Build, number: float, like: Value) -> Value:
    return build.constant(np.array(number, dtype=datatypes.numpy_dtype(like.datatype)))


def _numbers(name: str, values: Any, datatype: str) -> dict[str, Any]:
    if datatype == "FP32":
        return {name: [float(value) for value in values]}
    return {f"{name}_as_tensor": numpy_helper.from_array(np.array(values, dtype=np.float64), name)}
