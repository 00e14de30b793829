"""How far a converted model's output may be from the source's, and how far it is.

One rule, on the reference: ``|a - b| <= atol + rtol * |b|``, where ``b`` is the source's value. Other tools
divide by the *converted* model's value and hold each limit by itself; then a value that is wrongly large
looks close, and every zero is infinitely far. NaN equals NaN and an infinity itself; NaN or an infinity
against anything else is infinitely far. Integers, truth values and texts have to be equal.

All here is pure: the same pairs, in any order, give the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from frameworks.arrays import Array, Arrays
from frameworks.convert.agreement import Agreement, blocks
from frameworks.convert.formats import TensorRTPrecision
from frameworks.convert.records import Difference
from store import datatypes

ABSOLUTE: Final = 1e-5
RELATIVE: Final = 1e-3
"""Float32 arithmetic. Kernels that sum in another order differ by 1e-7 to 1e-6 of the largest output (MLP,
CNN, transformer; onnxruntime and TensorFlow beside torch), and by more, relatively, near zero. The absolute
part grows with outputs above 1. FP64 has the same: converters may compute doubles in float32."""

SMALL: Final = 1e-2
"""Share of the largest reference that the absolute part does not exceed: else outputs that are all below it
could be anything."""

_ARITHMETIC: Final[Mapping[TensorRTPrecision, tuple[float, float]]] = {
    TensorRTPrecision.TF32: (2e-3, 5e-3),
    TensorRTPrecision.FP16: (5e-3, 1e-2),
    TensorRTPrecision.INT8: (5e-2, 1e-1),
}
"""Of coarser arithmetic: the share of the largest reference that is allowed everywhere, and ``rtol``.

Emulated on MLPs, a CNN and a six-layer transformer of random weights, the largest difference was 7e-4 of the
largest output for TF32 (10 bits of mantissa in products), 3.5e-3 for FP16 (10 bits throughout) and 2e-2 for
INT8 (255 steps per tensor)."""

_MANTISSA_BITS: Final = {"FP16": 10, "BF16": 7}

ULPS: Final = 4
"""What 16-bit outputs may differ by, in units in the last place of the largest reference: such models compute
in 16 bits throughout, and were seen to differ by 3.5 (FP16) and 2.1 (BF16) in the transformer above."""

_EXACT: Final = frozenset(name for name in datatypes.NAMES if "INT" in name) | {"BOOL", "BYTES"}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """``|a - b| <= atol + rtol * |b|``."""

    atol: float
    rtol: float

    def __str__(self) -> str:
        return f"{self.atol:.3g} + {self.rtol:.3g}·|reference|"


def derive(precision: TensorRTPrecision | None, datatype: str, scale: float) -> Tolerance:
    """Return what an output may differ by when nobody has said it.

    Args:
        precision: arithmetic of the converted model; None is that of the source.
        datatype: of the output.
        scale: largest finite absolute value of the reference.
    """
    if datatype in _EXACT:
        return Tolerance(0.0, 0.0)
    atol, rtol = ABSOLUTE * max(1.0, scale), RELATIVE
    if scale > 0:
        atol = min(atol, SMALL * scale)
    shares = [share for coarser, share in _ARITHMETIC.items() if coarser is precision]
    if datatype in _MANTISSA_BITS:
        unit = ULPS * 2.0 ** -_MANTISSA_BITS[datatype]
        shares.append((unit, unit))
    for share_of_scale, relative in shares:
        atol, rtol = max(atol, share_of_scale * scale), max(rtol, relative)
    return Tolerance(atol, rtol)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What was asked for: a precision, and tolerances that override the derived ones.

    Args:
        precision: see ``derive``.
        atol, rtol: for all outputs that are floats; None derives them.
    """

    precision: TensorRTPrecision | None = None
    atol: float | None = None
    rtol: float | None = None

    def over(self, references: Iterable[Arrays]) -> dict[str, Tolerance]:
        """Return the tolerance of each output, given the reference's values over all samples."""
        scales: dict[str, float] = {}
        kinds: dict[str, str] = {}
        for arrays in references:
            for name, array in arrays.items():
                kinds.setdefault(name, datatypes.from_numpy(array.dtype))
                scales[name] = max(scales.get(name, 0.0), _scale(array))
        return {name: self._of(kind, scales[name]) for name, kind in kinds.items()}

    def _of(self, datatype: str, scale: float) -> Tolerance:
        derived = derive(self.precision, datatype, scale)
        if datatype in _EXACT:
            return derived
        return Tolerance(
            derived.atol if self.atol is None else self.atol,
            derived.rtol if self.rtol is None else self.rtol,
        )


@dataclass(slots=True)
class _Figures:
    """What was seen of one output."""

    tolerance: Tolerance
    max_abs: float = 0.0
    max_rel: float = 0.0
    elements: int = 0
    outside: int = 0
    problem: str = ""
    agreement: Agreement = field(default_factory=Agreement)

    @property
    def within(self) -> bool:
        return self.outside == 0 and not self.problem


class Comparison:
    """Compares outputs with references, in as many pieces as one likes.

    Args:
        tolerances: by name of output; of names that are not in it, values have to be equal.
    """

    def __init__(self, tolerances: Mapping[str, Tolerance]) -> None:
        self._tolerances = tolerances
        self._figures: dict[str, _Figures] = {}

    def add(self, name: str, actual: Array | None, reference: Array, *, axis: int | None = None) -> None:
        """Compare two tensors; another shape or datatype is infinitely far.

        Args:
            name: of the output.
            actual: the converted model's; None if it has none.
            reference: the source's.
            axis: axis of the rows, for figures that are of a row; None if the tensor is one row.

        Complexity: memory for a block of elements; for a copy where the rows are not along the first axis.
        """
        figures = self._figures.setdefault(name, _Figures(self._tolerances.get(name, Tolerance(0.0, 0.0))))
        figures.elements += reference.size
        problem = _mismatch(actual, reference)
        if problem or actual is None:
            figures.problem = figures.problem or problem
            figures.outside += reference.size
            figures.max_abs = figures.max_rel = np.inf
            return
        for a, b in blocks(actual, reference):
            gap, relative, outside = _differences(a, b, figures.tolerance)
            figures.max_abs = max(figures.max_abs, gap)
            figures.max_rel = max(figures.max_rel, relative)
            figures.outside += outside
        if datatypes.from_numpy(reference.dtype) not in _EXACT:
            has_rows = axis is not None and axis < reference.ndim
            figures.agreement.add(actual, reference, axis if has_rows else None)

    def add_all(self, actual: Arrays, reference: Arrays, *, axis: int | None = None) -> None:
        """Compare every output that the reference has."""
        for name, array in reference.items():
            self.add(name, actual.get(name), array, axis=axis)

    @property
    def within(self) -> bool:
        """Everything so far was within tolerance."""
        return all(figures.within for figures in self._figures.values())

    @property
    def problems(self) -> dict[str, str]:
        """By output, in words, what could not be compared at all."""
        return {name: figures.problem for name, figures in self._figures.items() if figures.problem}

    def differences(self) -> dict[str, Difference]:
        """Return the figures by output."""
        return {
            name: Difference(
                max_abs=figures.max_abs,
                max_rel=figures.max_rel,
                atol=figures.tolerance.atol,
                rtol=figures.tolerance.rtol,
                within=figures.within,
                outside=figures.outside / figures.elements if figures.elements else 0.0,
                cosine=figures.agreement.cosine,
                top1=figures.agreement.top(1),
                top5=figures.agreement.top(5),
            )
            for name, figures in self._figures.items()
        }


def _mismatch(actual: Array | None, reference: Array) -> str:
    if actual is None:
        return "it is missing"
    kinds = [datatypes.from_numpy(array.dtype) for array in (actual, reference)]
    if kinds[0] != kinds[1]:
        return f"it is {kinds[0]}, the reference {kinds[1]}"
    if actual.shape != reference.shape:
        return f"it has shape {list(actual.shape)}, the reference {list(reference.shape)}"
    return ""


def _differences(actual: Array, reference: Array, tolerance: Tolerance) -> tuple[float, float, int]:
    """Return the largest absolute and relative difference, and how many elements are outside."""
    equal = np.asarray(actual == reference, dtype=bool)
    if actual.dtype.kind in "Ob":
        outside = int(equal.size - np.count_nonzero(equal))
        return float(outside > 0), float(outside > 0), outside
    a, b = actual.astype(np.float64), reference.astype(np.float64)
    equal |= np.isnan(a) & np.isnan(b)
    with np.errstate(all="ignore"):
        gap = np.where(equal, 0.0, np.abs(a - b))
        if actual.dtype.kind in "iu":  # large ones may differ by less than a double shows
            gap = np.where(equal, 0.0, np.maximum(gap, 1.0))
            close = equal
        else:
            close = equal | ((gap <= tolerance.atol + tolerance.rtol * np.abs(b)) & np.isfinite(gap))
        relative = np.where(equal | (b == 0), 0.0, gap / np.abs(b))
    return _largest(gap), _largest(relative), int(close.size - np.count_nonzero(close))


def _largest(values: Array) -> float:
    """Return the maximum; what cannot be compared (NaN against a number) counts as infinite."""
    return float(np.where(np.isnan(values), np.inf, values).max(initial=0.0))


def _scale(array: Array) -> float:
    if datatypes.from_numpy(array.dtype) in _EXACT:
        return 0.0
    largest = 0.0
    for (part,) in blocks(array):
        sizes = np.abs(part.astype(np.float64))
        largest = max(largest, float(sizes.max(initial=0.0, where=np.isfinite(sizes))))
    return largest
