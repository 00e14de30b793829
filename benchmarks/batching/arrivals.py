"""When requests arrive, from fixed seeds: every policy sees the same ones.

All of them are one row each. Rates are in requests per nanosecond.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

ON, OFF = 1.8, 0.2
"""Of the mean rate, in the two phases of on-off arrivals."""
DWELL: Final = 30
"""Mean length of a phase, in executions of a full batch."""
CLUMP: Final = 4
CLUMP_NS: Final = 50_000
"""Mean requests of a clump (their number is geometric) and the time within which they arrive."""

Times = Iterator[float]


class Arrival(NamedTuple):
    """One request that is sent whatever happens.

    Attributes:
        at_ns: instant of it.
        shape: requests of different shapes do not share a batch.
        priority: level, 1 the most urgent.
    """

    at_ns: int
    shape: int = 0
    priority: int = 1


class Step(NamedTuple):
    """A part of a run: so many requests at this share of the mean rate."""

    requests: int
    factor: float


def poisson(chance: random.Random, rate: float) -> Times:
    """Independent requests."""
    at = 0.0
    while True:
        at += chance.expovariate(rate)
        yield at


def on_off(chance: random.Random, rate: float, full_ns: float) -> Times:
    """Poisson, with a rate that jumps between 1.8 and 0.2 of the mean.

    Args:
        chance: source of all randomness.
        rate: mean of both phases.
        full_ns: duration of a full batch, which a phase is a multiple of.
    """
    begin = 0.0
    for factor in itertools.cycle((ON, OFF)):
        end = begin + chance.expovariate(1 / (DWELL * full_ns))
        at = begin + chance.expovariate(factor * rate)
        while at < end:
            yield at
            at += chance.expovariate(factor * rate)
        begin = end


def clumps(chance: random.Random, rate: float) -> Times:
    """Fan-out: clumps arrive independently, each of a few requests at nearly the same time."""
    at = 0.0
    ahead: list[float] = []
    while True:
        at += chance.expovariate(rate / CLUMP)
        count = 1
        while chance.random() > 1 / CLUMP:
            count += 1
        while ahead and ahead[0] <= at:
            yield ahead.pop(0)
        ahead = sorted([*ahead, *(at + chance.uniform(0, CLUMP_NS) for _ in range(count))])


def stepped(chance: random.Random, rate: float, steps: Sequence[Step]) -> Times:
    """Poisson, at one rate after the other."""
    at = 0.0
    for requests, factor in steps:
        for _ in range(requests):
            at += chance.expovariate(factor * rate)
            yield at


def choose(chance: random.Random, shares: Sequence[float], count: int) -> Sequence[int]:
    """Draw the numbers 0, 1, ... with these probabilities."""
    if len(shares) < 2:
        return [0] * count
    return chance.choices(range(len(shares)), shares, k=count)
