"""Does a row's answer depend on the rows beside it? Measured, since merging callers' rows rests on it.

Rows of the sample are run alone, then together in several sizes, and each row's answers are compared. The
classic failures are batch statistics left in training mode, normalisation over the whole batch and padding to
the longest row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from frameworks.arrays import Array, Arrays
from frameworks.calling import Opened
from frameworks.errors import SampleFailed
from frameworks.row_errors import complete
from store import Signature
from store.plain import Plain

SIZES: Final = (1, 2, 3, 5)
"""Size 1 again shows answers that differ from run to run; odd sizes meet the tails of vector kernels."""

ABSOLUTE_TOLERANCE: Final = 1e-5
RELATIVE_TOLERANCE: Final = 1e-3
"""Together: ``|a - b| <= absolute + relative * |b|``; kernels for other batch sizes sum in another order."""

HALF_PRECISION_ULPS: Final = 2
"""16-bit floats are coarser than the tolerance; they may differ by so many units in the last place."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Result of one measurement.

    Args:
        max_abs: largest difference.
        max_rel: largest difference divided by the reference, where that is not zero.
        invariant: all differences are within tolerance.
        distinct_rows: rows of different content that the sample offered; with one, little is proven.
    """

    max_abs: float
    max_rel: float
    invariant: bool
    distinct_rows: int

    def to_dict(self) -> dict[str, Plain]:
        """Return the form that stands in the manifest."""
        return {
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            "rows_match": True,  # otherwise the model was not saved
            "invariant": self.invariant,
            "distinct_rows": self.distinct_rows,
        }


def measure(name: str, method: Opened, signature: Signature, inputs: Arrays) -> Figures:
    """Compare rows run together with the same rows run alone.

    Raises:
        SampleFailed: a run raises, or returns another number of rows than it was given.
    """
    into, out = signature.batch_dim
    distinct = min(rows_of(name, inputs, into), max(SIZES))
    alone = [_run(name, method, _take(inputs, [row], into), out, 1) for row in range(distinct)]
    max_abs, max_rel, invariant = 0.0, 0.0, True
    for size in SIZES:
        chosen = [index % distinct for index in range(size)]
        together = _run(name, method, _take(inputs, chosen, into), out, size)
        for position, row in enumerate(chosen):
            difference = _compare(_take(together, [position], out), alone[row])
            max_abs, max_rel = max(max_abs, difference[0]), max(max_rel, difference[1])
            invariant = invariant and difference[2]
    return Figures(max_abs, max_rel, invariant, distinct)


def rows_of(name: str, inputs: Arrays, axis: int) -> int:
    """Return the inputs' common extent along the batch axis.

    Raises:
        SampleFailed: an input has no such axis, extents differ, or there are no rows.
    """
    extents: dict[str, int] = {}
    for key, array in inputs.items():
        if array.ndim <= axis:
            raise SampleFailed(f"method {name!r}: sample {key!r} has no batch axis {axis}", field=key)
        extents[key] = array.shape[axis]
    if len(set(extents.values())) != 1 or 0 in extents.values():
        raise SampleFailed(
            f"method {name!r}: the sample needs equal rows, at least one; it has {extents}", field=name
        )
    return next(iter(extents.values()))


def check_rows(name: str, outputs: Arrays, axis: int, rows: int) -> None:
    """Make sure that each output has one row per input row.

    Raises:
        SampleFailed: one has not; it is named.
    """
    for key, array in outputs.items():
        if array.ndim <= axis or array.shape[axis] != rows:
            raise SampleFailed(
                f"method {name!r} is batchable, but output {key!r} has shape {list(array.shape)} for "
                f"{rows} input rows; it needs {rows} along axis {axis}. "
                "Mend batch_dim, or say batchable: False",
                field=key,
            )


def execute(name: str, method: Opened, inputs: Arrays) -> Arrays:
    """Run a method on copies of the inputs, and keep its results apart from them.

    Raises:
        SampleFailed: the method raises, or fails a row; its error is the cause.
    """
    try:
        outputs = complete(method({key: array.copy() for key, array in inputs.items()}))
        return {key: array.copy() for key, array in outputs.items()}
    except Exception as error:
        shapes = {key: list(array.shape) for key, array in inputs.items()}
        raise SampleFailed(
            f"method {name!r} fails on the sample with shapes {shapes}: {error!r}", field=name
        ) from error


def _run(name: str, method: Opened, inputs: Arrays, axis: int, rows: int) -> Arrays:
    outputs = execute(name, method, inputs)
    check_rows(name, outputs, axis, rows)
    return outputs


def _take(arrays: Arrays, rows: list[int], axis: int) -> Arrays:
    return {key: np.ascontiguousarray(np.take(array, rows, axis=axis)) for key, array in arrays.items()}


def _compare(actual: Arrays, reference: Arrays) -> tuple[float, float, bool]:
    if actual.keys() != reference.keys():
        return np.inf, np.inf, False
    parts = [_difference(actual[key], reference[key]) for key in reference]
    return (
        max((part[0] for part in parts), default=0.0),
        max((part[1] for part in parts), default=0.0),
        all(part[2] for part in parts),
    )


def _difference(actual: Array, reference: Array) -> tuple[float, float, bool]:
    """Return the largest absolute and relative difference and whether all are within tolerance."""
    if actual.shape != reference.shape or actual.dtype != reference.dtype:
        return np.inf, np.inf, False
    equal = np.asarray(actual == reference, dtype=bool)
    if actual.dtype.kind in "Ob":
        return (0.0, 0.0, True) if equal.all() else (1.0, 1.0, False)
    a, b = actual.astype(np.float64), reference.astype(np.float64)
    equal |= np.isnan(a) & np.isnan(b)
    with np.errstate(all="ignore"):
        gap = np.where(equal, 0.0, np.abs(a - b))
        relative = np.where(equal | (b == 0), 0.0, gap / np.abs(b))
        limit = ABSOLUTE_TOLERANCE + _relative_tolerance(actual) * np.abs(b)
        close = equal if actual.dtype.kind in "iu" else equal | ((gap <= limit) & np.isfinite(gap))
    return _largest(gap), _largest(relative), bool(close.all())


def _largest(values: Array) -> float:
    """Return the maximum; what cannot be compared (NaN against a number) counts as infinite."""
    return float(np.nan_to_num(values, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _relative_tolerance(array: Array) -> float:
    bits = {"float16": 10, "bfloat16": 7}.get(array.dtype.name)
    return RELATIVE_TOLERANCE if bits is None else max(RELATIVE_TOLERANCE, HALF_PRECISION_ULPS * 2.0**-bits)
