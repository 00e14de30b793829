"""Do two outputs point the same way, and choose the same classes? Figures beside the tolerance.

They pass no verdict. They show what a difference means: logits that are all too large by a tenth are outside
of any tolerance, and yet every class is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from frameworks.arrays import Array

BLOCK: Final = 1 << 18
"""Elements that are looked at together: 2 MiB in float64."""

_TOPS: Final = (1, 5)


def blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Yield flat pieces of equal arrays, of ``BLOCK`` elements at most."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield tuple(array[start : start + BLOCK] for array in flat)


class Agreement:
    """Least cosine similarity of a row, and shares of equal largest elements, over many pairs of tensors."""

    def __init__(self) -> None:
        self._cosine: float | None = None
        self._same = dict.fromkeys(_TOPS, 0)
        self._ranked = dict.fromkeys(_TOPS, 0)

    @property
    def cosine(self) -> float | None:
        """Least similarity of a row; None if no finite row of two elements was seen."""
        return self._cosine

    def top(self, count: int) -> float | None:
        """Return the share of rows with the same ``count`` largest elements; None if there was no row."""
        return self._same[count] / self._ranked[count] if self._ranked[count] else None

    def add(self, actual: Array, reference: Array, axis: int | None) -> None:
        """Look at two float tensors of one shape; ``axis`` is that of the rows, None if they are one row."""
        if not reference.size:
            return
        last = reference.ndim - 1
        if reference.ndim >= 2 and axis != last:
            for count in _TOPS:
                if reference.shape[-1] > count:
                    self._rank(actual, reference, count)
        a, b = (
            array.reshape(1, -1)
            if axis is None
            else np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
            for array in (actual, reference)
        )
        if b.shape[1] >= 2:
            self._turn(a, b)

    def _turn(self, actual: Array, reference: Array) -> None:
        rows, width = reference.shape
        step = max(1, BLOCK // width)
        for start in range(0, rows, step):
            sums = np.zeros((3, min(step, rows - start)))
            for left in range(0, width, BLOCK):
                part = (slice(start, start + step), slice(left, left + BLOCK))
                a, b = actual[part].astype(np.float64), reference[part].astype(np.float64)
                with np.errstate(all="ignore"):
                    sums += [np.einsum("ij,ij->i", *pair) for pair in ((a, b), (a, a), (b, b))]
            with np.errstate(all="ignore"):
                cosines = np.clip(sums[0] / np.sqrt(sums[1]) / np.sqrt(sums[2]), -1.0, 1.0)
            zeros = np.count_nonzero(sums[1:] == 0, axis=0)
            cosines = np.where(zeros == 2, 1.0, np.where(zeros == 1, 0.0, cosines))
            cosines = cosines[np.isfinite(sums).all(axis=0)]
            if cosines.size:
                self._cosine = min(float(cosines.min()), 1.0 if self._cosine is None else self._cosine)

    def _rank(self, actual: Array, reference: Array, count: int) -> None:
        width = reference.shape[-1]
        a, b = actual.reshape(-1, width), reference.reshape(-1, width)
        step = max(1, BLOCK // width)
        for start in range(0, len(b), step):
            rows = slice(start, start + step)
            same = _same_top(a[rows].astype(np.float64), b[rows].astype(np.float64), count)
            self._same[count] += int(np.count_nonzero(same))
            self._ranked[count] += len(same)


def _same_top(actual: Array, reference: Array, count: int) -> Array:
    """Return for each row whether the largest elements are the same ones; of equal ones, any may be it."""
    unknown = np.isnan(reference)
    comparable = (np.isnan(actual) == unknown).all(axis=1)
    actual, reference = np.where(np.isnan(actual), -np.inf, actual), np.where(unknown, -np.inf, reference)
    chosen = np.argpartition(-actual, count - 1, axis=1)[:, :count]
    theirs = np.sort(np.take_along_axis(reference, chosen, axis=1), axis=1)
    largest = np.sort(np.partition(reference, reference.shape[1] - count, axis=1)[:, -count:], axis=1)
    return np.asarray(comparable & (theirs == largest).all(axis=1))
