"""Histograms of durations by powers of two: cheap to count into, and sums of them mean what they say. Pure.

Bucket ``b`` counts the durations of less than 2**b nanoseconds that no smaller one counts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

BUCKETS: Final = 64


def empty() -> list[int]:
    """A histogram that has counted nothing."""
    return [0] * BUCKETS


def count(buckets: list[int], since: Sequence[int], until: int) -> None:
    """Count the durations from each instant, in ascending order, until one instant.

    Complexity: a few operations for each bucket that the durations fall into, not for each of them.
    """
    if not since:
        return
    if len(since) == 1:
        buckets[(until - since[0]).bit_length()] += 1
        return
    bucket = (until - since[0]).bit_length()
    last = (until - since[-1]).bit_length()
    at = 0
    while bucket > last:  # the oldest have waited longest
        end = bisect_right(since, until - (1 << (bucket - 1)))
        buckets[bucket] += end - at
        at = end
        bucket -= 1
    buckets[bucket] += len(since) - at


def add(buckets: list[int], others: Sequence[int]) -> None:
    """Count what another histogram has counted too."""
    buckets[:] = [mine + theirs for mine, theirs in zip(buckets, others, strict=True)]
