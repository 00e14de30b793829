"""The comparison of outputs against a plain one, element by element."""

from __future__ import annotations

import math
from itertools import starmap

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from frameworks.arrays import Array
from frameworks.convert.formats import TensorRTPrecision
from frameworks.convert.records import Difference
from frameworks.convert.tolerance import Comparison, Rule, Tolerance

VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf]),
    st.floats(-1e6, 1e6),
    st.floats(-1.0, 1.0),
)
TOLERANCES = st.builds(Tolerance, st.sampled_from([0.0, 1e-5, 0.5]), st.sampled_from([0.0, 1e-3, 0.25]))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array]:
    """A reference and an output that is near it, more or less."""
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    size = rows * width
    reference = draw(st.lists(VALUES, min_size=size, max_size=size))
    noise = st.sampled_from([0.0, 1e-7, 1e-3, -0.2, 1.0])
    actual = [draw(st.one_of(noise.map(lambda n, v=v: v + n), VALUES)) for v in reference]
    return np.array(actual).reshape(rows, width), np.array(reference).reshape(rows, width)


def plain(a: float, b: float, tolerance: Tolerance) -> tuple[float, float, bool]:
    """The rule as one reads it: absolute and relative difference, and whether two numbers are close."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0, 0.0, True
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf, 0.0 if b == 0 else math.inf, False
    gap = abs(a - b)
    return gap, gap / abs(b) if b else 0.0, gap <= tolerance.atol + tolerance.rtol * abs(b)


def compare(items: list[tuple[Array, Array]], tolerance: Tolerance) -> Difference:
    comparison = Comparison({"y": tolerance})
    for actual, reference in items:
        comparison.add("y", actual, reference, axis=0)
    return comparison.differences()["y"]


@settings(deadline=None, max_examples=300)
@given(st.lists(pairs(), min_size=1, max_size=4), TOLERANCES)
def test_the_rule_is_the_plain_one(items: list[tuple[Array, Array]], tolerance: Tolerance) -> None:
    found = compare(items, tolerance)
    singles = [(float(a), float(b)) for x, y in items for a, b in zip(x.flat, y.flat, strict=True)]
    expected = [plain(a, b, tolerance) for a, b in singles]
    assert found.max_abs == max(gap for gap, _, _ in expected)
    assert found.max_rel == max(relative for _, relative, _ in expected)
    outside = sum(not close for _, _, close in expected)
    assert found.outside == outside / len(expected)
    assert found.within == (outside == 0)


@settings(deadline=None)
@given(st.lists(pairs(), min_size=2, max_size=5), TOLERANCES, st.randoms(use_true_random=False))
def test_the_order_of_pieces_is_irrelevant(
    items: list[tuple[Array, Array]], tolerance: Tolerance, random: np.random.Generator
) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    assert compare(items, tolerance) == compare(shuffled, tolerance)


def same_top(actual: Array, reference: Array, count: int) -> bool:
    """Whether the largest elements are the same ones; a NaN is the least, equal ones may change places."""
    if [math.isnan(a) for a in actual] != [math.isnan(b) for b in reference]:
        return False
    a, b = (
        [-math.inf if math.isnan(value) else float(value) for value in row] for row in (actual, reference)
    )
    chosen = sorted(range(len(a)), key=lambda index: (a[index], b[index]))[-count:]
    return sorted(b[index] for index in chosen) == sorted(b)[-count:]


@settings(deadline=None, max_examples=300)
@given(pairs())
def test_shares_of_classes_are_the_plain_ones_where_no_output_is_tied(pair: tuple[Array, Array]) -> None:
    actual, reference = pair
    found = compare([pair], Tolerance(0.0, 0.0))
    ranks = np.where(np.isnan(actual), -np.inf, actual)  # a NaN is the least, beside a minus infinity
    untied = all(len(set(row.tolist())) == row.size for row in ranks)
    for share, count in ((found.top1, 1), (found.top5, 5)):
        if reference.shape[1] <= count:
            assert share is None
        elif untied:
            expected = [same_top(a, b, count) for a, b in zip(actual, reference, strict=True)]
            assert share == sum(expected) / len(expected)


@settings(deadline=None)
@given(pairs())
def test_cosines_are_the_plain_ones(pair: tuple[Array, Array]) -> None:
    found = compare([pair], Tolerance(0.0, 0.0)).cosine
    rows = [
        (a, b)
        for a, b in zip(*pair, strict=True)
        if a.size >= 2 and np.isfinite(a).all() and np.isfinite(b).all() and (a**2).sum() and (b**2).sum()
    ]
    zeros = any(not (row**2).sum() for both in zip(*pair, strict=True) for row in both)
    if rows and not zeros:
        expected = min(starmap(lambda a, b: float((a * b).sum() / math.hypot(*a) / math.hypot(*b)), rows))
        assert found is not None
        assert abs(found - max(-1.0, min(1.0, expected))) < 1e-6


@settings(deadline=None)
@given(st.integers(0, 1 << 30), st.integers(2, 40), st.integers(1, 8), st.sampled_from([1.0, 300.0]))
def test_disturbed_weights_fail_with_figures_and_noise_passes(
    seed: int, inputs: int, outputs: int, size: float
) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((8, inputs)).astype(np.float32)
    weights = (random.standard_normal((inputs, outputs)) * size).astype(np.float32)
    reference = {"y": x @ weights}
    noise = random.uniform(-1e-7, 1e-7, reference["y"].shape).astype(np.float32)
    for precision in (None, TensorRTPrecision.FP32, TensorRTPrecision.FP16):
        tolerances = Rule(precision=precision).over([reference])
        comparison = Comparison(tolerances)
        comparison.add_all({"y": reference["y"] + noise * size}, reference, axis=0)
        assert comparison.within
    comparison = Comparison(Rule().over([reference]))
    comparison.add_all({"y": x @ (weights * np.float32(1.01))}, reference, axis=0)
    found = comparison.differences()["y"]
    scale = float(np.abs(reference["y"]).max())
    assert not found.within
    assert found.outside > 0
    assert math.isclose(found.max_abs, 0.01 * scale, rel_tol=0.05)
    assert found.cosine is None or found.cosine > 0.9999
