"""Counts of durations in buckets whose width grows with the value: a log-linear histogram.

The generator records into one histogram for each window; reports, searches and comparisons merge them. Only
merged counts are ever asked for a percentile: percentiles themselves are never averaged.

Invariants:
    - Count, sum, minimum and maximum are exact.
    - A value below 256 ns has a bucket of its own. Above, each power of two is cut into 128 equal buckets.
    - A quantile is off by at most 1/256 of the exact order statistic, whatever was recorded or merged.
    - Merging is exact: the order and the grouping of merges change nothing.

Source: the bucket layout is that of HDR Histogram (Tene, 2012) with binary instead of decimal precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

SUB_BITS: Final = 7
"""Each power of two has ``2 ** SUB_BITS`` buckets: a bucket's middle is within ``2 ** -(SUB_BITS + 1)``."""

RELATIVE_ERROR: Final = 1 / (1 << (SUB_BITS + 1))

_STEPS: Final = 1 << SUB_BITS
_EXACT: Final = _STEPS << 1


class Histogram:
    """How often each duration occurred, in integer nanoseconds.

    Memory is used only for buckets that were hit: about a thousand for the latencies of one model. One
    thread at a time may record.

    Attributes:
        sum_ns: exact sum of all values.
        min_ns: smallest value, 0 while there is none.
        max_ns: largest value, 0 while there is none.
    """

    __slots__ = ("_buckets", "_count", "max_ns", "min_ns", "sum_ns")

    def __init__(self, values_ns: Iterable[int] = ()) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0
        self.sum_ns = 0
        self.min_ns = 0
        self.max_ns = 0
        for value in values_ns:
            self.record(value)

    def record(self, value_ns: int, count: int = 1) -> None:
        """Count a duration.

        Args:
            value_ns: the duration.
            count: how often it occurred, at least 1.

        Raises:
            ValueError: the duration is negative.
        """
        if value_ns < _EXACT:
            if value_ns < 0:
                raise ValueError(f"a duration cannot be negative: {value_ns} ns")
            index = value_ns
        else:
            shift = value_ns.bit_length() - SUB_BITS - 1
            index = (shift << SUB_BITS) + (value_ns >> shift)
        buckets = self._buckets
        buckets[index] = buckets.get(index, 0) + count
        self.sum_ns += value_ns * count
        if value_ns > self.max_ns:  # noqa: PLR1730 - max() costs twice as much on the generator's hot path
            self.max_ns = value_ns
        if value_ns < self.min_ns or not self._count:
            self.min_ns = value_ns
        self._count += count

    def merge(self, other: Histogram) -> None:
        """Add everything that the other histogram has counted; the other is left as it is."""
        if not other._count:
            return
        self.min_ns = min(self.min_ns, other.min_ns) if self._count else other.min_ns
        self.max_ns = max(self.max_ns, other.max_ns)
        self.sum_ns += other.sum_ns
        self._count += other._count
        for index, count in list(other._buckets.items()):
            self._buckets[index] = self._buckets.get(index, 0) + count

    @property
    def mean_ns(self) -> float:
        """Exact arithmetic mean; 0 if nothing was recorded."""
        return self.sum_ns / self._count if self._count else 0.0

    def bounds(self, rank: int) -> tuple[int, int]:
        """The range that holds the value of this rank (1 is the smallest), both ends included.

        The exact value is certain to lie within: what an interval must use in place of a bucket's middle.

        Raises:
            ValueError: there is no such rank.
        """
        if not 1 <= rank <= self._count:
            raise ValueError(f"no rank {rank} among {self._count} values")
        seen = 0
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            if seen >= rank:
                break
        low, width = _range(index)
        return max(low, self.min_ns), min(low + width - 1, self.max_ns)

    def quantile(self, q: float) -> int:
        """The value at the nearest rank, ``ceil(q * count)``; 0 if nothing was recorded.

        Args:
            q: 0 to 1; 0 is the exact minimum, 1 the exact maximum.

        Raises:
            ValueError: q lies outside.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile lies in 0..1, not {q}")
        if not self._count:
            return 0
        if q in {0, 1}:
            return self.max_ns if q else self.min_ns
        low, high = self.bounds(nearest_rank(q, self._count))
        return (low + high) // 2

    def percentile(self, p: float) -> int:
        """The value at p of 100; see :meth:`quantile`."""
        return self.quantile(p / 100)

    def count_above(self, limit_ns: int) -> int:
        """How many values exceed the limit; one within 1/256 of it may count on either side."""
        if limit_ns >= self.max_ns:
            return 0
        above = 0
        for index, count in self._buckets.items():
            low, width = _range(index)
            if low + (width - 1) // 2 > limit_ns:
                above += count
        return above

    def below(self, rank: float, parts: Iterable[Histogram]) -> list[float]:
        """How many values of each part are among the first ``rank`` of this, their merge.

        Values that share a bucket cannot be told apart: where the rank cuts one, each part has its even
        share.

        Args:
            rank: 0 to count.
            parts: histograms whose merge this is.
        """
        low, share, seen = 0, 0.0, 0
        for low in sorted(self._buckets):
            here = self._buckets[low]
            if seen + here >= rank:
                share = (rank - seen) / here
                break
            seen += here
        return [
            sum(n for i, n in part._buckets.items() if i < low) + share * part._buckets.get(low, 0)
            for part in parts
        ]

    def cdf(self) -> list[tuple[int, float]]:
        """Steps of the distribution: (largest value of a bucket, share of values up to it), rising to 1."""
        steps = []
        seen = 0
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            low, width = _range(index)
            steps.append((min(low + width - 1, self.max_ns), seen / self._count))
        return steps

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; buckets are (index, count) pairs in order."""
        return {
            "sub_bits": SUB_BITS,
            "count": self._count,
            "sum_ns": self.sum_ns,
            "min_ns": self.min_ns,
            "max_ns": self.max_ns,
            "buckets": [[index, self._buckets[index]] for index in sorted(self._buckets)],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Histogram:
        """The histogram that :meth:`to_dict` described.

        Raises:
            ValueError: it has another precision, or its counts contradict each other.
            KeyError: a field is missing.
        """
        if data["sub_bits"] != SUB_BITS:
            raise ValueError(f"a histogram of {data['sub_bits']} sub-bits; {SUB_BITS} are needed")
        made = cls()
        made._buckets = {int(index): int(count) for index, count in data["buckets"]}
        made._count = sum(made._buckets.values())
        made.sum_ns, made.min_ns, made.max_ns = int(data["sum_ns"]), int(data["min_ns"]), int(data["max_ns"])
        if made._count != data["count"] or any(count < 1 for count in made._buckets.values()):
            raise ValueError(f"the buckets hold {made._count} values, not {data['count']}")
        return made

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Histogram(count={self._count}, min_ns={self.min_ns}, max_ns={self.max_ns})"


def nearest_rank(q: float, count: int) -> int:
    """Which of ``count`` sorted values the quantile is, from 1.

    A hair is taken off before rounding up: 0.55 of 100 values is the 55th although the product exceeds 55.
    """
    return min(count, max(1, math.ceil(q * count * (1 - 1e-12))))


def _range(index: int) -> tuple[int, int]:
    """Smallest value and width of a bucket."""
    if index < _EXACT:
        return index, 1
    shift = (index >> SUB_BITS) - 1
    return ((index & (_STEPS - 1)) + _STEPS) << shift, 1 << shift
