"""How long a batch of so many rows takes, learned from those that were executed. Pure.

One curve belongs to one batch key (:attr:`BatchKey.curve`); the policy asks it at each decision and tells
it of each answered batch. It knows two values for each number of rows: ``mean``, what to plan with, and
``high``, the 95th percentile, what to promise with. Both are 0 where too little is known: an untrained
curve never refuses, holds or shortens anything.

The curve is a value at each of some *knots* (1, 2, 4, ... rows, or the allowed batch sizes) times one
*speed* for all of them. The speed follows within a few batches what changes everything at once (a slower
clock, a neighbour on the device), the knots follow slowly what belongs to one size.

Source: the constants were chosen by simulation and are insensitive where that was tested.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

TRAINED: Final = 4
"""Batches that must have been executed before ``high`` says anything: no refusal on a prediction alone."""

SPEED_GAIN: Final = 1 / 6
"""Share of a deviation that the speed takes over, of its logarithm."""

BAND: Final = 1.5
"""A batch that took longer or shorter by this factor is an outlier, unless it is one of a run of them."""

RUN: Final = 4
RUN_GAIN: Final = 0.5
"""So many outliers in succession on the same side are no outliers: the speed has changed, and catches up."""

CREDIBLE: Final = 1 / 3
"""A batch that took no more than this share of the expected is believed by itself: chance delays, it does not
hurry. What was learned during a stall would otherwise refuse the very batches that show its end."""

FOLD_BATCHES: Final = 8
FOLD_SHARE: Final = 0.25
"""Every so many batches this share of the speed, of its logarithm, moves into the knots, to stay there."""

FULL_WEIGHT: Final = 19.0
"""Most weight of a knot, in batches: the next one counts for 1/20."""

PROFILE_WEIGHT: Final = 8.0
"""Weight of what was measured before the model was served: a hint that real batches soon outweigh."""

HINT_WEIGHT: Final = 1.0
"""Weight of what another key's batches took."""

KNOWN_WEIGHT: Final = 0.5
"""A knot that has less follows from those that have more."""

YOUNG_WEIGHT: Final = 4.0
"""Below it a knot may still show a first execution, which is often slow and never fast: see ``_sober``."""

HIGH_UP: Final = 0.038
HIGH_DOWN: Final = 0.002
"""Steps of the ratio of ``high`` to ``mean``: they balance when 5% of the batches take longer."""

HIGH_RATIO: Final = (1.02, 1.1, 3.0)
"""The ratio's least value, first value and greatest value."""

WORTH_FEWER: Final = 1.05
"""Fewer rows than there are must be more efficient by this factor to be preferred."""

UNSEEN: Final = 64
"""A knot that no batch has touched for so many loses half its weight every ``FOLD_BATCHES``, until it follows
from the others: what was learned in a bad moment about a size must not keep it avoided, and so unlearned."""

FIRST_BATCHES: Final = 32
"""After so many a much faster batch is no news of its size alone: everything has become faster."""


class LatencyCurve:
    """Expected execution time by number of rows; non-decreasing.

    Between knots the curve is a straight line, or with allowed sizes the value of the next one. A knot
    without batches of its own lies on the line through its nearest two known neighbours, though more rows
    never cost less, nor a row among more of them more. If but one knot is known, the others cost as little
    as that permits: more rows the same, fewer their share. So nothing is refused or cut on a guess, and a
    guess that is too low is corrected by the batch that it leads to, while one that is too high would not be.

    Args:
        max_rows: of a batch.
        sizes: the sizes that batches are padded to, ascending; empty if they are executed as they are.
        profile: nanoseconds by rows, measured beforehand.

    Attributes:
        batches: that were executed and counted here.
        known: anything is known, be it from a profile only.
        alpha: nanoseconds that one batch less saves: what two single rows take longer than both together;
            0 while that is a guess after few batches.

    Concurrency: none of its own; the scheduler's lock guards it.
    Complexity: ``mean`` is a bisection; ``observe`` and ``efficient`` are linear in the number of knots.
    """

    __slots__ = (
        "_first",
        "_ratio",
        "_run",
        "_seen",
        "_sizes",
        "_slopes",
        "_speed",
        "_stepped",
        "_values",
        "_weights",
        "alpha",
        "batches",
        "known",
    )

    def __init__(
        self, max_rows: int, sizes: Sequence[int] = (), profile: Mapping[int, float] | None = None
    ) -> None:
        self._stepped = bool(sizes)
        self._sizes = list(sizes) or _powers(max_rows)
        count = len(self._sizes)
        self._first = 0 if self._stepped or count == 1 else 1
        self._values = [0.0] * count
        self._weights = [0.0] * count
        self._seen = [0] * count
        self._slopes = [0.0] * count
        self._speed = 1.0
        self._ratio = HIGH_RATIO[1]
        self._run = 0
        self.batches = 0
        self.known = False
        self.alpha = 0.0
        if profile:
            self._believe(profile)

    def mean(self, rows: float) -> float:
        """Nanoseconds that a batch of these rows is expected to take; 0 while nothing is known.

        Args:
            rows: may be a fraction where it is an expected number.
        """
        at = bisect_left(self._sizes, rows, self._first, len(self._sizes) - 1)
        return self._speed * (self._values[at] + (rows - self._sizes[at]) * self._slopes[at])

    def high(self, rows: float) -> float:
        """Nanoseconds that 95% of such batches do not exceed; 0 until enough batches were executed."""
        return self._ratio * self.mean(rows) if self.batches >= TRAINED else 0.0

    def efficient(self, rows: int) -> int:
        """Return how many of these rows to execute at once so that rows per second are most.

        That is all of them, unless a smaller size is known to be better by :data:`WORTH_FEWER`: the rows
        would be padded far, or need more than some cache or memory holds. Only sizes that were really
        executed count, on both sides, and the larger one not too long ago: what is avoided is tried again.
        """
        at = bisect_left(self._sizes, rows, self._first, len(self._sizes) - 1)
        if not self._seen[at] or self._weights[at] < KNOWN_WEIGHT:
            return rows
        bar = WORTH_FEWER * rows * self._speed / self.mean(rows)
        best = rows
        for size, value, seen in zip(self._sizes, self._values, self._seen, strict=True):
            if size >= rows:
                break
            if seen and size > bar * value:
                best, bar = size, size / value
        return best

    def knots(self) -> list[tuple[int, float, float]]:
        """Return rows, ``mean`` and ``high`` of the known knots."""
        known = zip(self._sizes, self._weights, strict=True)
        return [(size, self.mean(size), self.high(size)) for size, w in known if w >= KNOWN_WEIGHT]

    def copy(self) -> LatencyCurve:
        """Return a curve to begin another key's with: the same values, hardly any weight, no batches."""
        other = LatencyCurve(self._sizes[-1], self._sizes if self._stepped else ())
        other._values = list(self._values)
        other._weights = [min(w, HINT_WEIGHT) if w >= KNOWN_WEIGHT else 0.0 for w in self._weights]
        other._speed = self._speed
        other._ratio = self._ratio
        other._settle()
        return other

    # -- learning -------------------------------------------------------------------------------

    def observe(self, rows: int, ns: float) -> None:
        """Learn from a batch that was executed.

        Args:
            rows: that were executed together, with or without padding; more than the curve has are no
                evidence for any of its sizes and are ignored.
            ns: execution time within the worker.
        """
        sizes = self._sizes
        if not 0 < rows <= sizes[-1]:
            return
        self.batches += 1
        ns = max(ns, 1.0)
        at = bisect_left(sizes, rows, self._first, len(sizes) - 1)
        share = (rows - sizes[at - 1]) / (sizes[at] - sizes[at - 1]) if self._first else 1.0
        touched = [(knot, part) for knot, part in ((at - 1, 1.0 - share), (at, share)) if part]
        if not self.known:
            self._values = _filled([(sizes[touched[0][0]], ns)], sizes)
        self._learn(touched, ns)
        if self.batches % FOLD_BATCHES == 0:
            self._fold()
        self._settle()

    def _learn(self, touched: Sequence[tuple[int, float]], ns: float) -> None:
        """Move the speed, the ratio of ``high`` and the knots beside a batch towards what it took.

        The knots move by how much the prediction *for this batch* was wrong, each by its share, not towards
        the measured time itself: that would pull both to the value between them. What knots of little
        standing predict says nothing about the speed; they take over all of the difference.
        """
        base = sum([self._values[knot] * share for knot, share in touched])
        ratio = ns / (base * self._speed)
        weight = min([self._weights[knot] for knot, _ in touched])
        bold = weight < KNOWN_WEIGHT or (
            self.batches <= FIRST_BATCHES and weight < YOUNG_WEIGHT and ratio <= 1.0 / BAND
        )
        if not bold:
            self._follow(ratio)
            ratio = min(max(ns / (base * self._speed), 0.5), 2.0)
        for knot, share in touched:
            weight = self._weights[knot]
            self._values[knot] *= 1.0 + (ratio - 1.0) * share / (1.0 if bold else weight + 1.0)
            self._weights[knot] = min(weight + share, FULL_WEIGHT)
            self._seen[knot] = self.batches

    def _follow(self, ratio: float) -> None:
        """Let the speed and the ratio of ``high`` follow a batch that took ``ratio`` times the expected."""
        if ratio > self._ratio:
            self._ratio = min(self._ratio + HIGH_UP, HIGH_RATIO[2])
        else:
            self._ratio = max(self._ratio - HIGH_DOWN, HIGH_RATIO[0])
        side = (ratio >= BAND) - (ratio <= 1.0 / BAND)
        self._run = self._run + side if side * self._run > 0 else side
        if not side or abs(self._run) >= RUN or ratio <= CREDIBLE:
            self._speed *= ratio ** (RUN_GAIN if side else SPEED_GAIN)

    def _fold(self) -> None:
        """Move a share of the speed into the knots, and trust those less that were not seen for long."""
        factor = self._speed**FOLD_SHARE
        self._speed /= factor
        self._values = [value * factor for value in self._values]
        for knot, seen in enumerate(self._seen):
            if self.batches - seen >= UNSEEN:
                self._weights[knot] /= 2.0

    def _believe(self, profile: Mapping[int, float]) -> None:
        """Take over a profile: every knot within an octave of one of its points."""
        points: dict[int, float] = {}
        for rows, ns in sorted(profile.items()):
            at = bisect_left(self._sizes, rows, 0, len(self._sizes) - 1)
            points[self._sizes[at] if self._stepped else rows] = max(ns, 1.0)
        values = _non_decreasing(list(points.values()), [1.0] * len(points))
        self._values = _filled(list(zip(points, values, strict=True)), self._sizes)
        for knot, size in enumerate(self._sizes):
            if any(size < 2 * rows < 4 * size for rows in points):
                self._weights[knot] = PROFILE_WEIGHT
        self._settle()

    def _settle(self) -> None:
        """Make the known knots non-decreasing, and all that follows from them follow."""
        sizes, weights = self._sizes, self._weights
        known = [knot for knot, weight in enumerate(weights) if weight >= KNOWN_WEIGHT]
        values = self._sober(known)
        if any([a > b for a, b in pairwise(values)]):
            values = _non_decreasing(values, [weights[knot] for knot in known])
        if len(known) < len(sizes):
            values = _filled([(sizes[k], v) for k, v in zip(known, values, strict=True)], sizes)
        self._values = values
        self.known = bool(known)
        if self._first:
            for at in range(1, len(sizes)):
                self._slopes[at] = (values[at] - values[at - 1]) / (sizes[at] - sizes[at - 1])
        elif not self._stepped:
            self._slopes[0] = values[0] / sizes[0]
        guessed = len(known) == 1 and self.batches < TRAINED
        self.alpha = 0.0 if guessed else max(0.0, 2.0 * self.mean(1) - self.mean(2))

    def _sober(self, known: Sequence[int]) -> list[float]:
        """Return the values of the known knots; where a young one is too slow to be true, what may be true.

        Once its size has been executed some times it may be slower per row than a smaller one. Without this,
        a size whose first execution was very slow would be avoided, and so never be measured again.
        """
        values = [self._values[knot] for knot in known]
        young = [at for at, knot in enumerate(known) if self._weights[knot] < YOUNG_WEIGHT]
        for at in reversed(young):
            if at + 1 < len(values):
                values[at] = min(values[at], values[at + 1])
        for at in young:
            if at:
                rows = self._sizes[known[at]] / self._sizes[known[at - 1]]
                values[at] = min(values[at], values[at - 1] * rows)
        return values


def _powers(max_rows: int) -> list[int]:
    """1, 2, 4, ... and ``max_rows``."""
    return [1 << bits for bits in range((max_rows - 1).bit_length())] + [max_rows]


def _filled(known: Sequence[tuple[int, float]], sizes: Iterable[int]) -> list[float]:
    """Return values at all ``sizes``, on straight lines through the known points, in ascending order.

    Beyond them a value stays between that of the nearest point and the one proportional to it, and is the
    lower of the two if there is but one point.
    """
    if not known:
        return [0.0 for _ in sizes]
    if len(known) == 1:
        return [known[0][1] * min(1.0, size / known[0][0]) for size in sizes]
    rows = [point[0] for point in known]
    values = []
    for size in sizes:
        at = bisect_left(rows, size, 1, len(rows) - 1)
        (left, low), (right, top) = known[at - 1], known[at]
        value = low + (top - low) * (size - left) / (right - left)
        if size < left:
            value = max(value, low * size / left)
        elif size > right:
            value = min(value, top * size / right)
        values.append(value)
    return values


def _non_decreasing(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Pool neighbours that are in the wrong order into their weighted mean.

    Source: pool-adjacent-violators (Ayer et al., 1955), the least-squares non-decreasing fit.
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        count = 1
        while pools and pools[-1][0] > value:
            before, heavy, members = pools.pop()
            value = (before * heavy + value * weight) / (heavy + weight)
            weight += heavy
            count += members
        pools.append((value, weight, count))
    return [value for value, _, count in pools for _ in range(count)]
