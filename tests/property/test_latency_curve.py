"""Whatever was measured, in whatever order: the curve stays a curve."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime.batching.latency import TRAINED, LatencyCurve

TIMES = st.floats(0, 1e12)
LIMITS = st.integers(1, 300)
SIZES = st.one_of(st.just([]), st.lists(st.integers(1, 300), min_size=1, max_size=9, unique=True).map(sorted))
MEASURED = st.lists(st.tuples(st.integers(1, 300), TIMES), max_size=60)
PROFILES = st.dictionaries(st.integers(1, 300), TIMES, max_size=5)


def curve_of(
    limit: int, sizes: list[int], profile: dict[int, float], measured: list[tuple[int, float]]
) -> LatencyCurve:
    curve = LatencyCurve(sizes[-1] if sizes else limit, sizes, profile)
    for rows, ns in measured:
        curve.observe(rows, ns)
    return curve


def is_order_kept(values: list[float]) -> bool:
    """Non-decreasing, but for the last bits."""
    return all(a <= b * (1.0 + 1e-9) for a, b in pairwise(values))


@given(LIMITS, SIZES, PROFILES, MEASURED)
def test_more_rows_never_take_less(
    limit: int, sizes: list[int], profile: dict[int, float], measured: list[tuple[int, float]]
) -> None:
    curve = curve_of(limit, sizes, profile, measured)
    means = [curve.mean(rows) for rows in range(1, 301)]
    highs = [curve.high(rows) for rows in range(1, 301)]
    assert all(math.isfinite(mean) and mean >= 0.0 for mean in means)
    assert is_order_kept(means)
    assert is_order_kept(highs)
    assert all(high == 0.0 or high > mean for high, mean in zip(highs, means, strict=True))


@given(LIMITS, SIZES, PROFILES, MEASURED)
def test_whatever_is_known_has_a_cost(
    limit: int, sizes: list[int], profile: dict[int, float], measured: list[tuple[int, float]]
) -> None:
    curve = curve_of(limit, sizes, profile, measured)
    assert curve.known == (curve.mean(1) > 0.0) == bool(curve.knots())
    assert 0.0 <= curve.alpha <= curve.mean(1) * (1.0 + 1e-9)
    assert (curve.high(1) > 0.0) == (curve.batches >= TRAINED)


@given(LIMITS, SIZES, PROFILES, MEASURED, st.integers(1, 300))
def test_never_more_rows_are_efficient_than_there_are(
    limit: int, sizes: list[int], profile: dict[int, float], measured: list[tuple[int, float]], rows: int
) -> None:
    curve = curve_of(limit, sizes, profile, measured)
    fewer = curve.efficient(rows)
    assert 1 <= fewer <= rows
    if fewer < rows:
        assert fewer / curve.mean(fewer) > rows / curve.mean(rows)


@given(LIMITS, SIZES, MEASURED)
def test_a_copy_predicts_the_same_and_lives_apart(
    limit: int, sizes: list[int], measured: list[tuple[int, float]]
) -> None:
    curve = curve_of(limit, sizes, {}, measured)
    before = [curve.mean(rows) for rows in range(1, 301)]
    copy = curve.copy()
    assert is_order_kept([copy.mean(rows) for rows in range(1, 301)])
    copy.observe(1, 1e15)
    assert [curve.mean(rows) for rows in range(1, 301)] == before


@given(
    LIMITS, st.lists(st.tuples(st.integers(1, 300), st.floats(1e3, 1e9)), max_size=40), st.floats(1e-3, 1e3)
)
def test_the_unit_of_time_does_not_matter(
    limit: int, measured: list[tuple[int, float]], factor: float
) -> None:
    curve = curve_of(limit, [], {}, measured)
    other = curve_of(limit, [], {}, [(rows, ns * factor) for rows, ns in measured])
    for rows in (1, 2, 7, 300):
        assert math.isclose(curve.mean(rows) * factor, other.mean(rows), rel_tol=1e-3)
