"""How much is measured: all of it, or a little of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from benchmarks.served.bar import STRANGERS
from benchmarks.served.bench import Bench, Measured
from runtime.profiling.records import Load

T = TypeVar("T")
REPEATS: Final = 20
"""Disturbed measurements that are done once more, over all."""


class Plan:
    """Rounds, durations and repeats.

    Args:
        short: a tenth of it, to see that it works.

    Attributes:
        short: as given.
        rounds: of each comparison.
        repeats: that are left.
    """

    def __init__(self, *, short: bool) -> None:
        self.short = short
        self.rounds = 1 if short else 3
        self.repeats = 0 if short else REPEATS

    def seconds(self, whole: float) -> float:
        """How long to measure what is measured for so long in the whole form."""
        return min(whole, 1.0) if self.short else whole

    def some(self, cases: Mapping[str, Sequence[T]]) -> dict[str, Sequence[T]]:
        """Cases by model: all, or every other one of the first model."""
        if not self.short:
            return dict(cases)
        name, values = next(iter(cases.items()))
        return {name: values[1::2]}

    def measure(self, bench: Bench, name: str, load: Load) -> Measured:
        """Measure, and once more if others disturbed it; the quieter of the two counts."""
        first = bench.load(name, load)
        if first.strangers <= STRANGERS or not self.repeats:
            return first
        self.repeats -= 1
        return min(first, bench.load(name, load), key=lambda measured: measured.strangers)
