"""Instants of arrivals that the load generator has no kind of its own for. Pure and reproducible."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final

SECOND: Final = 1_000_000_000
CLUMP_SPREAD_NS: Final = 50_000
"""Within so long of the first one all requests of a clump come."""


def stepped(steps: Sequence[tuple[float, float]], seed: int) -> tuple[int, ...]:
    """Independent arrivals at a rate that changes.

    Args:
        steps: seconds and requests per second, one after the other.
        seed: of the randomness.

    Returns:
        Nanoseconds from the start, ascending.
    """
    chance = random.Random(seed)
    instants, start = [], 0.0
    for seconds, rate in steps:
        at = start + chance.expovariate(rate)
        while at < start + seconds:
            instants.append(round(at * SECOND))
            at += chance.expovariate(rate)
        start += seconds
    return tuple(instants)


def clumps(seconds: float, rate: float, mean: float, seed: int) -> tuple[int, ...]:
    """Independent clumps of requests that come almost at once.

    Args:
        seconds: how long.
        rate: requests per second, over all clumps.
        mean: requests of a clump, whose number is geometrically distributed.
        seed: of the randomness.

    Returns:
        Nanoseconds from the start, ascending.
    """
    chance = random.Random(seed)
    instants, at = [], 0.0
    while (at := at + chance.expovariate(rate / mean)) < seconds:
        size = 1 + math.floor(math.log(1.0 - chance.random()) / math.log(1.0 - 1.0 / mean))
        first = round(at * SECOND)
        instants += [first, *(first + chance.randrange(CLUMP_SPREAD_NS) for _ in range(size - 1))]
    return tuple(sorted(instants))


def padded_up_mean_ms(
    instants: Sequence[int], alpha_ms: float, beta_ms: float, sizes: Sequence[int]
) -> float:
    """Mean latency of requests of one row, if an idle instance always takes all it can and pads it up.

    Args:
        instants: of the arrivals, in nanoseconds, ascending.
        alpha_ms: of an execution.
        beta_ms: of each row of it, padding included.
        sizes: that may be executed, ascending.
    """
    arrived = [instant / 1e6 for instant in instants]
    at, free, total = 0, 0.0, 0.0
    while at < len(arrived):
        start = max(free, arrived[at])
        taken = 0
        while taken < sizes[-1] and at + taken < len(arrived) and arrived[at + taken] <= start:
            taken += 1
        size = next(size for size in sizes if size >= taken)
        free = start + alpha_ms + beta_ms * size
        total += sum([free - one for one in arrived[at : at + taken]])
        at += taken
    return total / len(arrived)
