"""When an open loop sends: nanoseconds from its start, known before anything is sent.

Called by the generator processes. Pure and reproducible: the seed fixes the instants, on every machine.

A load is shared by dealing: with N processes, process i takes every N-th instant, starting with the i-th. The
union is thus the very sequence that one process alone would follow, for every kind of arrivals. (Giving each
process a Poisson process of its own would do for Poisson only.) The price is that each process computes all
instants, some 0.2 us for each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from itertools import count, islice

from runtime.clock import SECOND
from runtime.profiling.records import Load


def offsets(load: Load, share: int = 0) -> Iterator[int]:
    """Intended send times of one generator process, in order.

    Args:
        load: an open load.
        share: which of ``load.processes`` is asking, from 0.

    Returns:
        Nanoseconds from the start: without end, or as many as the trace has.

    Raises:
        ValueError: the load is a closed loop, or has no such share.
    """
    if load.mode != "open":
        raise ValueError("a closed loop has no set send times")
    if not 0 <= share < load.processes:
        raise ValueError(f"share {share} of {load.processes} processes")
    return islice(_all(load), share, None, load.processes)


def shares(total: int, processes: int) -> list[int]:
    """Deal calls in flight, or a count of requests, over generator processes; the first ones get the rest."""
    each, rest = divmod(total, processes)
    return [each + (process < rest) for process in range(processes)]


def parse_trace(lines: Iterable[str]) -> tuple[int, ...]:
    """Read a trace: one send time in seconds on a line, from any origin; blanks and ``#`` comments pass.

    Returns:
        Sorted offsets in nanoseconds, the first of them 0.

    Raises:
        ValueError: a line is no finite number, or there is none at all.
    """
    instants = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        seconds = _number(text)
        if not math.isfinite(seconds):
            raise ValueError(f"line {number}: {text!r} is not a time in seconds")
        instants.append(seconds)
    if not instants:
        raise ValueError("the trace has no request")
    first = min(instants)
    return tuple(sorted(round((instant - first) * SECOND) for instant in instants))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _all(load: Load) -> Iterator[int]:
    match load.arrivals:
        case "constant":
            return _constant(load.rate)
        case "burst":
            return _bursts(load.rate, load.burst)
        case "poisson":
            return _poisson(load.rate, load.seed)
        case _:
            return iter(load.trace)


def _constant(rate: float) -> Iterator[int]:
    """Evenly spaced; computed from the index, so that rounding never adds up."""
    return (round(index * SECOND / rate) for index in count())


def _bursts(rate: float, burst: int) -> Iterator[int]:
    """``burst`` requests at one instant, evenly spaced bursts, ``rate`` requests per second in all."""
    return (round((index - index % burst) * SECOND / rate) for index in count())


def _poisson(rate: float, seed: int) -> Iterator[int]:
    """Independent exponential gaps; the first request comes after one.

    Only ``random()`` is used: Python promises the same sequence from it for the same seed in every version.
    """
    uniform = random.Random(seed).random
    mean = SECOND / rate
    at = 0.0
    while True:
        at -= math.log(1.0 - uniform()) * mean
        yield round(at)
