"""Small ONNX graphs of the usual kinds, with deterministic weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def graph_of(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: Sequence[Any] = ()
) -> Any:
    """Return a model of opset 18."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def value(name: str, shape: Sequence[Any], kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def identity(kind: int = FLOAT, shape: Sequence[Any] = ("n", 3)) -> Any:
    return graph_of(
        [helper.make_node("Identity", ["x"], ["y"])], [value("x", shape, kind)], [value("y", shape, kind)]
    )


def mlp() -> Any:
    """x: [rows, 16] → y: [rows, 10]."""
    return graph_of(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["a"]),
            helper.make_node("Gemm", ["a", "w2", "b2"], ["y"]),
        ],
        [value("x", ("rows", 16))],
        [value("y", ("rows", 10))],
        _weights(w1=(16, 64), b1=(64,), w2=(64, 10), b2=(10,)),
    )


def cnn() -> Any:
    """image: [rows, 3, 8, 8] → y: [rows, 5]."""
    return graph_of(
        [
            helper.make_node("Conv", ["image", "w1", "b1"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["a"]),
            helper.make_node("GlobalAveragePool", ["a"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w2", "b2"], ["y"]),
        ],
        [value("image", ("rows", 3, 8, 8))],
        [value("y", ("rows", 5))],
        _weights(w1=(8, 3, 3, 3), b1=(8,), w2=(8, 5), b2=(5,)),
    )


def attention() -> Any:
    """x: [rows, length, 16] → y: [rows, length, 16]: one head and a normalisation."""
    return graph_of(
        [
            *(helper.make_node("MatMul", ["x", f"w{part}"], [part]) for part in "qkv"),
            helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["q", "kt"], ["s"]),
            helper.make_node("Softmax", ["s"], ["p"], axis=-1),
            helper.make_node("MatMul", ["p", "v"], ["o"]),
            helper.make_node("Add", ["x", "o"], ["r"]),
            helper.make_node("LayerNormalization", ["r", "g", "b"], ["y"], axis=-1),
        ],
        [value("x", ("rows", "length", 16))],
        [value("y", ("rows", "length", 16))],
        _weights(wq=(16, 16), wk=(16, 16), wv=(16, 16), g=(16,), b=(16,)),
    )


def arrays(shape: Sequence[int], seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _weights(**shapes: tuple[int, ...]) -> list[Any]:
    return [
        numpy_helper.from_array(arrays(shape, seed) / np.float32(np.sqrt(shape[0])), name)
        for seed, (name, shape) in enumerate(shapes.items())
    ]
