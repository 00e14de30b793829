"""When requests come: how long after the one before them, and how long after the last answer. Pure.

Two histograms over half octaves of time, in which recent arrivals count more; :mod:`runtime.batching.hold`
asks them what is to be expected within the next moments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

ENOUGH: Final = 8
"""Completions, or gaps between arrivals, that must have been seen before anything is expected of them."""

RETURN_MEMORY: Final = 32
"""Completions after which what followed one of them counts for about a third."""

GAP_MEMORY: Final = 256
"""So many gaps are counted before all counts are halved."""

REFRESH: Final = 4
"""What is expected to follow a completion is taken together anew every so many completions."""

LIKELY: Final = 0.5
"""The next one of a clump must come with a greater chance."""

_HEAVY: Final = 1e100
"""Weights are divided down when they exceed it, after some thousands of completions."""


def _ends(bits: int, buckets: int) -> list[float]:
    """Where the buckets of a histogram end; one more takes all the rest."""
    return [*[2.0 ** ((bucket + bits) / 2) for bucket in range(buckets)], math.inf]


# Gaps are told apart from 1 us to 10 s, returns from 10 us to 0.5 s. A last bucket takes what is longer; it
# has no end, so nothing is ever expected within it.
_GAP_BITS: Final = 20
_GAP_BUCKETS: Final = 48
_GAP_ENDS: Final = _ends(_GAP_BITS, _GAP_BUCKETS)
_RETURN_BITS: Final = 27
_RETURN_BUCKETS: Final = 32
_RETURN_ENDS: Final = _ends(_RETURN_BITS, _RETURN_BUCKETS)


def _bucket(ns: int, bits: int, last: int) -> int:
    """The bucket of a time: the bit length of its square counts half octaves."""
    bucket = (ns * ns).bit_length() - bits
    if bucket < 0:
        return 0
    return bucket if bucket < last else last


def _pieces(
    ends: Sequence[float], bucket: int, at: float, waits: Sequence[float]
) -> Iterator[tuple[int, float, bool]]:
    """Cut the longest of some waits where another one or a bucket ends.

    Args:
        ends: of the buckets.
        bucket: in which they begin.
        at: when they begin.
        waits: ascending.

    Yields:
        A piece's bucket and length, and whether a wait ends with it.
    """
    start = at
    for wait in waits:
        end = start + wait
        while ends[bucket] < end:
            yield bucket, ends[bucket] - at, False
            at = ends[bucket]
            bucket += 1
        yield bucket, end - at, True
        at = end


class Returns:
    """How many requests come when, counted from the last completion.

    For each bucket of the time since then: the arrivals, the time for which such ones could have been seen,
    and that time multiplied by the requests that the completion answered. Later completions count more: by
    a weight that grows, which forgets all earlier ones without touching them. Likewise the time is not added
    to each bucket that an interval passes through; the intervals are counted by the bucket they end in.

    Attributes:
        completions: that were counted.
        last_ns: when the last one was.
        tasks: that it answered.
    """

    __slots__ = (
        "_arrivals",
        "_ended",
        "_ended_tasks",
        "_part",
        "_part_tasks",
        "_rates",
        "_weight",
        "completions",
        "last_ns",
        "tasks",
    )

    def __init__(self) -> None:
        self._arrivals = [0.0] * (_RETURN_BUCKETS + 1)
        self._ended = [0.0] * (_RETURN_BUCKETS + 1)
        self._ended_tasks = [0.0] * (_RETURN_BUCKETS + 1)
        self._part = [0.0] * (_RETURN_BUCKETS + 1)
        self._part_tasks = [0.0] * (_RETURN_BUCKETS + 1)
        self.tasks = 0
        self._rates: dict[int, tuple[float, float]] = {}
        self._weight = 1.0
        self.completions = 0
        self.last_ns = 0

    def add(self, now_ns: int) -> None:
        """Count an arrival."""
        self._arrivals[_bucket(now_ns - self.last_ns, _RETURN_BITS, _RETURN_BUCKETS)] += self._weight

    def completed(self, tasks: int, now_ns: int) -> None:
        """Begin a new interval."""
        if self.completions:
            since = max(now_ns - self.last_ns, 0)
            bucket = _bucket(since, _RETURN_BITS, _RETURN_BUCKETS)
            weight = self._weight
            part = weight * (since - (_RETURN_ENDS[bucket - 1] if bucket else 0.0))
            self._ended[bucket] += weight
            self._ended_tasks[bucket] += weight * self.tasks
            self._part[bucket] += part
            self._part_tasks[bucket] += part * self.tasks
            self._weight *= RETURN_MEMORY / (RETURN_MEMORY - 1)
            if self._weight > _HEAVY:
                self._lighten()
        self.completions += 1
        self.tasks = tasks
        if self.completions % REFRESH == 0:
            self._rates.clear()
        self.last_ns = now_ns

    def expected(self, since_ns: int, tasks: int, waits: Sequence[float]) -> list[float]:
        """How many requests are expected within each of these waits, which ascend.

        At each time since the completion the rate is the lower of two: what it was in the mean, and what it
        was for each request answered, times ``tasks``.

        Args:
            since_ns: how long before the waits the completion was.
            tasks: that it answered.
            waits: ascending.
        """
        first = _bucket(since_ns, _RETURN_BITS, _RETURN_BUCKETS)
        total = 0.0
        found = []
        for bucket, length, is_last in _pieces(_RETURN_ENDS, first, since_ns, waits):
            rates = self._rates.get(bucket)
            if rates is None:
                rates = self._rates[bucket] = self._measure(bucket)
            rate = rates[1] * tasks
            total += length * (rate if rate < rates[0] else rates[0])
            if is_last:
                found.append(total)
        return found

    def _measure(self, bucket: int) -> tuple[float, float]:
        """Arrivals per nanosecond in this bucket, and that for each request answered."""
        arrivals = self._arrivals[bucket]
        if not arrivals or bucket == _RETURN_BUCKETS:
            return 0.0, 0.0
        width = _RETURN_ENDS[bucket] - (_RETURN_ENDS[bucket - 1] if bucket else 0.0)
        later = bucket + 1
        time = width * sum(self._ended[later:]) + self._part[bucket]
        time_tasks = width * sum(self._ended_tasks[later:]) + self._part_tasks[bucket]
        if not time or not time_tasks:
            return 0.0, 0.0
        return arrivals / time, arrivals / time_tasks

    def _lighten(self) -> None:
        """Divide all weights by the present one, which keeps their proportions."""
        for table in (self._arrivals, self._ended, self._ended_tasks, self._part, self._part_tasks):
            table[:] = [count / self._weight for count in table]
        self._weight = 1.0


class Gaps:
    """Histogram of the time between arrivals.

    Attributes:
        count: gaps that were counted and not forgotten.
    """

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self._counts = [0.0] * (_GAP_BUCKETS + 1)
        self.count = 0

    def add(self, gap_ns: int) -> None:
        """Count a gap."""
        self._counts[_bucket(gap_ns, _GAP_BITS, _GAP_BUCKETS)] += 1.0
        self.count += 1
        if self.count >= GAP_MEMORY:
            self._counts = [count / 2.0 for count in self._counts]
            self.count //= 2

    def next(self, since_ns: int, waits: Sequence[float]) -> list[tuple[float, float]]:
        """Return for each wait, ascending, the chance of an arrival in it, and how long it lasts in the mean.

        Args:
            since_ns: how long there has been no arrival.
            waits: from now; each ends early when somebody comes.

        Returns:
            Zero chances if too few gaps were as long as the present one to say how they went on, or if an
            arrival is surely not likely.
        """
        first = _bucket(since_ns, _GAP_BITS, _GAP_BUCKETS)
        last = _bucket(since_ns + int(waits[-1]), _GAP_BITS, _GAP_BUCKETS)
        gone = (since_ns - (_GAP_ENDS[first - 1] if first else 0.0)) * self._density(first)
        alive = known = sum(self._counts[first:]) - gone
        if known < ENOUGH or sum(self._counts[first : last + 1]) - gone <= LIKELY * known:
            return [(0.0, 0.0) for _ in waits]
        area = 0.0
        found = []
        for bucket, length, is_last in _pieces(_GAP_ENDS, first, since_ns, waits):
            ended = length * self._density(bucket)
            area += length * (alive - ended / 2.0)
            alive -= ended
            if is_last:
                found.append((1.0 - alive / known, area / known))
        return found

    def _density(self, bucket: int) -> float:
        """Gaps for each nanosecond of this bucket."""
        return self._counts[bucket] / (_GAP_ENDS[bucket] - (_GAP_ENDS[bucket - 1] if bucket else 0.0))
