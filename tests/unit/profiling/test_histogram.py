"""Edges of the histogram; its error bound is a property test."""

from __future__ import annotations

import pytest

from runtime.profiling.histogram import Histogram, nearest_rank


def test_an_empty_histogram_has_zeros_and_no_ranks() -> None:
    empty = Histogram()
    assert (len(empty), empty.quantile(0.99), empty.mean_ns, empty.max_ns, empty.cdf()) == (0, 0, 0.0, 0, [])
    with pytest.raises(ValueError, match="no rank 1"):
        empty.bounds(1)


def test_values_below_256_ns_are_kept_exactly() -> None:
    made = Histogram(range(256))
    assert [made.quantile((value + 1) / 256) for value in range(256)] == list(range(256))


def test_a_count_records_a_value_so_many_times() -> None:
    made = Histogram()
    made.record(1_000_000, 99)
    made.record(5_000_000)
    assert made == Histogram([1_000_000] * 99 + [5_000_000])


def test_the_ends_are_exact_quantiles() -> None:
    made = Histogram([1_000_001, 2_000_003, 3_000_007])
    assert (made.quantile(0), made.quantile(1)) == (1_000_001, 3_000_007)


@pytest.mark.parametrize(
    ("q", "rank"), [(0.0, 1), (0.5, 50), (0.55, 55), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_the_nearest_rank_is_not_moved_by_rounding(q: float, rank: int) -> None:
    assert nearest_rank(q, 100) == rank


def test_percentiles_are_quantiles_of_a_hundred() -> None:
    made = Histogram(range(1, 101))
    assert (made.percentile(50), made.percentile(99)) == (50, 99)


def test_a_negative_duration_is_refused_and_changes_nothing() -> None:
    made = Histogram([5])
    with pytest.raises(ValueError, match="negative"):
        made.record(-1)
    assert made == Histogram([5])


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_a_quantile_outside_of_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Histogram([1]).quantile(q)


def test_merging_leaves_the_other_as_it_is() -> None:
    other = Histogram([7])
    made = Histogram()
    made.merge(other)
    made.merge(Histogram())
    made.record(9)
    assert (len(other), other.max_ns, len(made), made.min_ns) == (1, 7, 2, 7)


def test_merging_with_itself_doubles() -> None:
    made = Histogram([5, 6])
    made.merge(made)
    assert made == Histogram([5, 5, 6, 6])


def test_nothing_is_above_the_maximum_and_all_is_above_zero() -> None:
    made = Histogram([1_000_000, 1_000_900])
    assert (made.count_above(1_000_900), made.count_above(0)) == (0, 2)


@pytest.mark.parametrize("change", [{"sub_bits": 8}, {"count": 3}, {"buckets": [[1, -1], [2, 3]]}])
def test_a_record_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"sub-bits|hold"):
        Histogram.from_dict({**Histogram([1, 2]).to_dict(), **change})


def test_a_histogram_says_what_it_holds() -> None:
    assert repr(Histogram([3, 4])) == "Histogram(count=2, min_ns=3, max_ns=4)"
    assert Histogram() != 0
