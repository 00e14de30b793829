"""The models: the same numpy code and weights behind every server.

Copied beside each server's model file, together with ``weights.npz``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Linear:
    """One matrix product.

    Shapes:
        x: [rows, 64] float32; returns [rows, 64].
    """

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.weight: Array = weights["linear"]

    def __call__(self, x: Array) -> Array:
        """Multiply."""
        return x @ self.weight


class Perceptron:
    """Two hidden layers of 1024 with ReLU.

    Shapes:
        x: [rows, 784] float32; returns [rows, 10].
    """

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.weights: list[Array] = [weights["first"], weights["second"], weights["third"]]

    def __call__(self, x: Array) -> Array:
        """Infer."""
        first, second, third = self.weights
        hidden = np.maximum(x @ first, 0)
        hidden = np.maximum(hidden @ second, 0)
        result: Array = hidden @ third
        return result


WIDTHS: Final = {"linear64": (64, 64), "mlp": (784, 10)}
"""Floats of one row, in and out."""

MODELS: Final[dict[str, Callable[[Mapping[str, Any]], Callable[[Array], Array]]]] = {
    "linear64": Linear,
    "mlp": Perceptron,
}


def load(name: str) -> Callable[[Array], Array]:
    """Return a model with the weights that lie beside this file."""
    with np.load(Path(__file__).with_name("weights.npz")) as weights:
        return MODELS[name](dict(weights))


def draw() -> dict[str, Array]:
    """Return the weights; always the same."""
    source = np.random.default_rng(7)
    shapes = {"linear": (64, 64), "first": (784, 1024), "second": (1024, 1024), "third": (1024, 10)}
    return {
        name: (source.standard_normal(shape) / np.sqrt(shape[0])).astype("f4")
        for name, shape in shapes.items()
    }
