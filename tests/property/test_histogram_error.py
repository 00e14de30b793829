"""Whatever is recorded, in whatever pieces: the histogram is exact where it says so and close elsewhere."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from runtime.profiling.histogram import RELATIVE_ERROR, Histogram, nearest_rank

DURATIONS = st.one_of(
    st.integers(0, 1 << 12), st.integers(0, 1 << 40), st.integers(0, 62).map(lambda bits: 1 << bits)
)
SOME = st.lists(DURATIONS, min_size=1, max_size=60)


@given(SOME, st.floats(0, 1))
def test_a_quantile_is_within_the_relative_error_of_the_order_statistic(values: list[int], q: float) -> None:
    exact = sorted(values)[nearest_rank(q, len(values)) - 1] if q else min(values)
    assert abs(Histogram(values).quantile(q) - exact) <= exact * RELATIVE_ERROR


@given(SOME, st.data())
def test_the_bounds_of_a_rank_hold_the_exact_value(values: list[int], data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, len(values)))
    low, high = Histogram(values).bounds(rank)
    assert low <= sorted(values)[rank - 1] <= high


@given(SOME)
def test_count_sum_and_ends_are_exact(values: list[int]) -> None:
    made = Histogram(values)
    assert (len(made), made.sum_ns, made.min_ns, made.max_ns) == (
        len(values),
        sum(values),
        min(values),
        max(values),
    )
    assert made.mean_ns == sum(values) / len(values)


@given(st.lists(st.lists(DURATIONS, max_size=20), max_size=6))
def test_merging_pieces_equals_recording_everything_in_one(pieces: list[list[int]]) -> None:
    merged = Histogram()
    for piece in reversed(pieces):
        merged.merge(Histogram(piece))
    assert merged == Histogram(value for piece in pieces for value in piece)


@given(st.lists(DURATIONS, max_size=40))
def test_the_record_survives_json(values: list[int]) -> None:
    made = Histogram(values)
    assert Histogram.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@given(SOME, DURATIONS)
def test_the_count_above_a_limit_errs_only_next_to_it(values: list[int], limit: int) -> None:
    margin = limit * 2 * RELATIVE_ERROR + 1
    surely = sum(value > limit + margin for value in values)
    perhaps = sum(value > limit - margin for value in values)
    assert surely <= Histogram(values).count_above(limit) <= perhaps


@given(SOME)
def test_the_distribution_rises_to_one_at_the_maximum(values: list[int]) -> None:
    steps = Histogram(values).cdf()
    assert steps == sorted(set(steps))
    assert steps[-1] == (max(values), 1.0)


@given(st.lists(SOME, min_size=1, max_size=4), st.floats(0, 1))
def test_the_first_values_of_a_merge_are_shared_out_completely(pieces: list[list[int]], q: float) -> None:
    merged = Histogram(value for piece in pieces for value in piece)
    parts = merged.below(q * len(merged), [Histogram(piece) for piece in pieces])
    assert abs(sum(parts) - q * len(merged)) < 1e-6
    assert all(0 <= part <= len(piece) + 1e-9 for part, piece in zip(parts, pieces, strict=True))
