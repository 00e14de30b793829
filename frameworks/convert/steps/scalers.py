"""scikit-learn's scalers as ONNX nodes that round exactly as they do.

skl2onnx multiplies by a reciprocal, which rounds otherwise. Data often lies on a grid (one decimal, whole
numbers), and trees split midway between two values: then a threshold is a value of the grid, and the last bit
of a scaled feature decides which branch a row takes.

Source: the ``transform`` methods of scikit-learn 1.9.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from frameworks.arrays import Array
from frameworks.convert.steps.onnx_build import Build, Value
from store import datatypes

_Steps: TypeAlias = "list[tuple[str, Array]]"

_FLOATS: Final = ("FP32", "FP64")
_INTEGERS: Final = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")


def scaled(build: Build, scaler: Any, features: Value) -> Value | None:
    """Return the scaled features, in the datatype that the scaler answers; None when it is no such scaler.

    Args:
        build: the graph.
        scaler: a fitted transformer.
        features: ``[rows, n]``.
    """
    steps = _steps(scaler)
    if steps is None or features.datatype not in (*_FLOATS, *_INTEGERS):
        return None
    own = features.datatype if features.datatype in _FLOATS else "FP64"
    # the standard one rounds its own numbers first, the others compute with theirs of 64 bits
    inner = own if type(scaler) is StandardScaler else "FP64"
    value = build.cast(features, own)
    for operator, numbers in steps:
        constant = build.constant(np.asarray(numbers).astype(datatypes.numpy_dtype(inner)))
        value = build.cast(build.add(operator, build.cast(value, inner), constant), own)
    return value


def _steps(scaler: Any) -> _Steps | None:
    kind = type(scaler)
    if getattr(scaler, "clip", False):
        return None
    if kind is StandardScaler:
        centre = [("Sub", scaler.mean_)] if scaler.with_mean else []
        return centre + ([("Div", scaler.scale_)] if scaler.with_std else [])
    if kind is RobustScaler:
        centre = [("Sub", scaler.center_)] if scaler.with_centering else []
        return centre + ([("Div", scaler.scale_)] if scaler.with_scaling else [])
    if kind is MinMaxScaler:
        return [("Mul", scaler.scale_), ("Add", scaler.min_)]
    if kind is MaxAbsScaler:
        return [("Div", scaler.scale_)]
    return None
