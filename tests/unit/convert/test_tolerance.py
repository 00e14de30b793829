"""What is allowed follows from precision, datatype and size; what is found is told truly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from frameworks.convert import agreement
from frameworks.convert.formats import TensorRTPrecision as Precision
from frameworks.convert.records import Difference
from frameworks.convert.tolerance import Comparison, Rule, Tolerance, derive
from store import datatypes
from tests.support.dtypes import edge_array

LOOSE = Tolerance(1e-5, 1e-3)


def compare(actual: Any, reference: Any, tolerance: Tolerance = LOOSE, axis: int | None = None) -> Difference:
    comparison = Comparison({"y": tolerance})
    comparison.add("y", np.asarray(actual), np.asarray(reference), axis=axis)
    return comparison.differences()["y"]


# -- what is allowed --------------------------------------------------------------------------------


def test_float32_is_allowed_the_error_of_sums_in_another_order() -> None:
    assert derive(None, "FP32", 0.5) == derive(Precision.FP32, "FP32", 0.5) == Tolerance(1e-5, 1e-3)
    assert derive(None, "FP32", 200.0) == Tolerance(pytest.approx(2e-3), 1e-3)
    assert derive(None, "FP64", 0.5) == Tolerance(1e-5, 1e-3)


@pytest.mark.parametrize("datatype", ["BOOL", "BYTES", "INT8", "UINT8", "INT64", "UINT64"])
@pytest.mark.parametrize("precision", [None, *Precision])
def test_what_is_no_float_has_to_be_equal(precision: Precision | None, datatype: str) -> None:
    assert derive(precision, datatype, 100.0) == Tolerance(0.0, 0.0)


def test_coarser_arithmetic_is_allowed_more() -> None:
    order = [Precision.FP32, Precision.TF32, Precision.FP16, Precision.INT8]
    for scale in (0.0, 0.1, 1.0, 50.0):
        found = [derive(precision, "FP32", scale) for precision in order]
        assert [each.atol for each in found] == sorted(each.atol for each in found)
        assert [each.rtol for each in found] == sorted(each.rtol for each in found)


def test_small_outputs_are_not_lost_in_what_coarse_arithmetic_is_allowed() -> None:
    assert derive(Precision.INT8, "FP32", 0.01).atol == pytest.approx(5e-4)
    assert derive(Precision.FP16, "FP32", 0.0) == Tolerance(1e-5, 1e-2)


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-30])
def test_nothing_is_allowed_that_would_take_zeros_for_a_small_output(scale: float) -> None:
    reference = {"y": np.linspace(-scale, scale, 9)}
    found = Comparison(Rule().over([reference]))
    found.add("y", np.zeros(9), reference["y"])
    assert not found.within
    assert found.differences()["y"].outside > 0.5
    assert derive(None, "FP32", scale).atol == pytest.approx(0.01 * scale)


def test_16_bit_outputs_are_allowed_their_last_places() -> None:
    half, brain = derive(None, "FP16", 8.0), derive(None, "BF16", 8.0)
    assert half == Tolerance(8 * 4 * 2.0**-10, 4 * 2.0**-10)
    assert brain == Tolerance(8 * 4 * 2.0**-7, 4 * 2.0**-7)


def test_a_given_tolerance_wins_but_for_what_has_to_be_equal() -> None:
    references = [{"y": np.array([3.0], np.float32), "n": np.array([3])}]
    assert Rule(atol=0.5, rtol=0.25).over(references) == {"y": Tolerance(0.5, 0.25), "n": Tolerance(0.0, 0.0)}
    assert Rule(atol=0.0).over(references)["y"] == Tolerance(0.0, 1e-3)


def test_the_scale_is_the_largest_finite_value_over_all_samples() -> None:
    references = [
        {"y": np.array([values], np.float32)} for values in ([1.0, np.nan], [-40.0, np.inf], [3.0, 0.0])
    ]
    assert Rule().over(references)["y"].atol == pytest.approx(4e-4)
    assert Rule().over([{"y": np.full(3, np.nan)}])["y"] == Tolerance(1e-5, 1e-3)
    assert Rule().over([{"y": np.zeros((0, 3))}])["y"] == Tolerance(1e-5, 1e-3)


# -- what is found ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", datatypes.NAMES)
def test_every_datatype_equals_itself(name: str) -> None:
    found = compare(edge_array(name), edge_array(name), Tolerance(0.0, 0.0), 0)
    assert (found.max_abs, found.max_rel, found.within, found.outside) == (0.0, 0.0, True, 0.0)


def test_the_rule_adds_both_parts_and_divides_by_the_reference() -> None:
    tolerance = Tolerance(0.1, 0.01)
    assert compare([100.0, 0.0], [101.0, 0.1], tolerance).within
    found = compare([2.0, 0.0, 5.0], [1.0, 0.25, 5.0], tolerance)
    assert (found.max_abs, found.max_rel, found.within) == (1.0, 1.0, False)
    assert found.outside == pytest.approx(2 / 3)


def test_relative_difference_leaves_out_zeros_of_the_reference() -> None:
    found = compare([1e-7, 1.0], [0.0, 1.0])
    assert (found.max_abs, found.max_rel, found.within) == (1e-7, 0.0, True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_equals_only_itself(value: float) -> None:
    assert compare([value, 1.0], [value, 1.0]).within
    for actual, reference in (([value], [1.0]), ([1.0], [value])):
        found = compare(actual, reference)
        assert (found.max_abs, found.within, found.outside) == (math.inf, False, 1.0)
    assert not compare([-value], [value]).within or math.isnan(value)


def test_integers_differ_by_at_least_one_however_large() -> None:
    found = compare([2**62 + 1, 5], [2**62, 5])
    assert (found.max_abs, found.within, found.outside) == (1.0, False, 0.5)
    assert compare(np.array([0], np.uint8), np.array([255], np.uint8)).max_abs == 255
    assert found.cosine is None
    assert found.top1 is None


def test_texts_and_truth_values_are_equal_or_not() -> None:
    texts = np.array([b"a", b"b", b"c", b"d"], dtype=object)
    found = compare(texts, np.array([b"a", b"x", b"c", b"d"], dtype=object))
    assert (found.max_abs, found.within, found.outside) == (1.0, False, 0.25)
    assert compare([True, False], [True, True]).outside == 0.5


@pytest.mark.parametrize(
    ("actual", "problem"),
    [
        (None, "it is missing"),
        (np.zeros((2, 3), np.float64), "it is FP64, the reference FP32"),
        (np.zeros((3, 2), np.float32), "it has shape [3, 2], the reference [2, 3]"),
    ],
)
def test_another_shape_or_datatype_is_infinitely_far(actual: Any, problem: str) -> None:
    comparison = Comparison({"y": LOOSE})
    comparison.add("y", np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
    comparison.add("y", actual, np.zeros((2, 3), np.float32))
    found = comparison.differences()["y"]
    assert (found.max_abs, found.max_rel, found.within, found.outside) == (math.inf, math.inf, False, 0.5)
    assert comparison.problems == {"y": problem}
    assert not comparison.within


def test_a_mismatch_without_elements_is_one_too() -> None:
    found = compare(np.zeros((0, 3)), np.zeros((0, 2)))
    assert (found.within, found.outside) == (False, 0.0)
    assert compare(np.zeros((0, 3)), np.zeros((0, 3)), axis=0).within


def test_byte_order_is_no_difference() -> None:
    assert compare(np.arange(3, dtype=">f4"), np.arange(3, dtype=np.float32)).within


def test_the_least_similar_row_gives_the_cosine() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    found = compare([[2.0, 0.0], [2.0, 2.0], [3.0, 3.0]], reference, axis=0)
    assert found.cosine == pytest.approx(math.sqrt(0.5))
    assert compare(-reference, reference, axis=0).cosine == pytest.approx(-1.0)
    assert compare(reference.T, reference.T, axis=1).cosine == pytest.approx(1.0)


def test_cosines_of_zeros_and_of_what_is_not_finite() -> None:
    zero, one = [[0.0, 0.0]], [[1.0, 0.0]]
    assert compare(zero, zero, axis=0).cosine == 1.0
    assert compare(zero, one, axis=0).cosine == compare(one, zero, axis=0).cosine == 0.0
    assert compare([[np.inf, 0.0], *one], [[np.inf, 0.0], *one], axis=0).cosine == 1.0
    assert compare([[np.nan, 0.0]], one, axis=0).cosine is None
    assert compare([[1.0]], [[-1.0]], axis=0).cosine is None


def test_shares_of_the_same_classes() -> None:
    reference = np.array([[0.1, 0.9, 0.0], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    actual = reference.copy()
    actual[0] = [0.9, 0.1, 0.0]
    found = compare(actual, reference, axis=0)
    assert found.top1 == 0.75
    assert found.top5 is None


def test_of_equal_classes_any_may_be_the_first() -> None:
    assert compare([[1.0, 1.0 + 1e-9, 0.0]], [[1.0, 1.0, 0.0]], axis=0).top1 == 1.0
    assert compare([[np.nan, 1.0]], [[0.5, 1.0]], axis=0).top1 == 0.0
    assert compare([[np.nan, 1.0]], [[np.nan, 2.0]], axis=0).top1 == 1.0
    assert compare([[-np.inf, 0.0]], [[-np.inf, 0.0]], axis=0).top1 == 1.0


def test_the_five_largest_are_a_set() -> None:
    reference = np.array([[7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 2)
    actual = np.array([[3.0, 4.0, 5.0, 6.0, 7.0, 2.0, 1.0], [7.0, 6.0, 5.0, 4.0, 2.0, 3.0, 1.0]])
    found = compare(actual, reference, axis=0)
    assert (found.top1, found.top5) == (0.5, 0.5)


def test_figures_do_not_depend_on_how_tensors_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    reference = random.standard_normal((40, 3, 11)).astype(np.float32)
    actual = reference + random.standard_normal(reference.shape).astype(np.float32) * np.float32(0.01)
    whole = compare(actual, reference, axis=0)
    for block in (1, 7, 64):
        monkeypatch.setattr(agreement, "BLOCK", block)
        cut = compare(actual, reference, axis=0)
        assert cut.cosine == pytest.approx(whole.cosine)
        cut.cosine = whole.cosine
        assert cut == whole
