"""Choosing few rows of many in one pass: random ones, the ones that span the extents, one of the largest."""

from __future__ import annotations

from typing import Final

import numpy as np

from frameworks.arrays import Arrays

_Key = tuple[int, int]
"""Item and row: what a row is known by."""


class Chooser:
    """Sees every row once and keeps copies of those it may return.

    Args:
        count: random rows to keep.
        axis: batch axis of what is added; None if an item is one row as it is.
        seed: of the choice.

    Source: reservoir sampling, Algorithm R (Vitter, "Random Sampling with a Reservoir", 1985).
    Complexity: per item one random number per row; memory for ``count`` rows and two per axis.
    """

    def __init__(self, count: int, axis: int | None, seed: int) -> None:
        self._count: Final = count
        self._axis: Final = axis
        # two streams, so that the choice of one kind does not depend on the other
        self._random, self._ties_random = (np.random.default_rng([seed, stream]) for stream in range(2))
        self._items = 0
        self._rows = 0
        self._first: Arrays = {}
        self._reservoir: dict[int, tuple[_Key, Arrays]] = {}
        self._span: dict[tuple[str, int], dict[int, tuple[_Key, Arrays]]] = {}
        self._largest: Arrays = {}
        self._size = -1
        self._ties = 0

    def add(self, arrays: Arrays, rows: int) -> None:
        """Look at an item of so many rows, at least one; the arrays may be changed afterwards."""
        first = self._take(arrays, 0)
        self._first = self._first or first
        self._choose(arrays, rows)
        self._widen(arrays, first)
        self._enlarge(arrays, rows)
        self._items += 1
        self._rows += rows

    @property
    def conversion(self) -> tuple[Arrays, ...]:
        """For each axis that varies a row of the least extent and one of the largest; else the first row."""
        found: dict[_Key, Arrays] = {}
        for extents in self._span.values():
            if len(extents) == 2:
                found.update(extents[extent] for extent in sorted(extents))
        return tuple(found.values()) or (self._first,)

    @property
    def correctness(self) -> tuple[Arrays, ...]:
        """The random rows, in the order in which they came."""
        return tuple(row for _, row in sorted(self._reservoir.values(), key=lambda kept: kept[0]))

    @property
    def profiling(self) -> tuple[Arrays, ...]:
        """One row, random among those with the most elements."""
        return (self._largest,)

    def _choose(self, arrays: Arrays, rows: int) -> None:
        """Give the row of position ``p`` a place in the reservoir with probability ``count / (p + 1)``."""
        positions = np.arange(self._rows, self._rows + rows)
        places = np.where(
            positions < self._count, positions, self._random.integers(0, positions, endpoint=True)
        )
        winners = {int(places[row]): row for row in np.flatnonzero(places < self._count).tolist()}
        for place, row in winners.items():
            self._reservoir[place] = ((self._items, row), self._take(arrays, row))

    def _widen(self, arrays: Arrays, first: Arrays) -> None:
        """Keep the least and the largest extent of each axis; all rows of an item have the same ones."""
        for name, array in arrays.items():
            for axis, extent in enumerate(array.shape):
                if axis == self._axis:
                    continue
                seen = self._span.setdefault((name, axis), {})
                if not seen or extent < min(seen) or extent > max(seen):
                    seen[extent] = ((self._items, 0), first)
                    if len(seen) > 2:
                        del seen[sorted(seen)[1]]

    def _enlarge(self, arrays: Arrays, rows: int) -> None:
        size = sum(array.size for array in arrays.values()) // rows
        if size < self._size:
            return
        self._ties = rows if size > self._size else self._ties + rows
        self._size = size
        place = int(self._ties_random.integers(self._ties))
        if place < rows:
            self._largest = self._take(arrays, place)

    def _take(self, arrays: Arrays, row: int) -> Arrays:
        if self._axis is None:
            return {name: array.copy() for name, array in arrays.items()}
        index = (slice(None),) * self._axis + (slice(row, row + 1),)
        return {name: array[index].copy() for name, array in arrays.items()}
