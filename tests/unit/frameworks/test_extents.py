from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from frameworks import extents
from store import TensorSpec

LONG = np.arange(12).reshape(2, 6)
SHORT = np.arange(8).reshape(2, 4)
SPECS = [TensorSpec("long", "INT64", (-1, -1)), TensorSpec("short", "INT64", (-1, -1))]


def tried(inputs: dict[str, Any], refused: Any = lambda _: False) -> list[tuple[int, ...]]:
    """The extents that were taken, of the axes after the first, by input."""
    axes = extents.open_axes(SPECS[: len(inputs)], 0)
    run = lambda other: None if refused(other) else other  # noqa: E731
    found = extents.try_others(inputs, extents.around(inputs, axes), run)
    return [tuple(array.shape[1] for array in other.values()) for other, _ in found]


@pytest.mark.parametrize(("batch_axis", "axes"), [(0, [1]), (1, [0]), (None, [0, 1])])
def test_dynamic_axes_but_that_of_the_rows_are_open(batch_axis: int | None, axes: list[int]) -> None:
    specs = [SPECS[0], TensorSpec("fixed", "FP32", (4, 4))]
    assert extents.open_axes(specs, batch_axis) == [("long", axis) for axis in axes]


def test_all_axes_change_together_to_half_and_twice() -> None:
    assert tried({"long": LONG, "short": LONG}) == [(3, 3), (12, 12)]
    assert tried({"long": LONG, "short": SHORT}) == [(3, 2), (12, 8)]


def test_axes_of_one_extent_change_alone_where_all_together_are_refused() -> None:
    inputs = {"long": LONG, "short": SHORT}
    assert tried(inputs, lambda other: other["short"].shape[1] < 4) == [(3, 4), (12, 8)]
    assert tried(inputs, lambda other: other["long"].shape[1] + other["short"].shape[1] != 16) == [(12, 4)]


def test_axes_that_have_to_keep_one_extent_are_never_torn_apart() -> None:
    seen = []
    tried({"long": LONG, "short": LONG}, lambda other: seen.append(other) or True)
    assert len(seen) == 2
    assert all(other["long"].shape == other["short"].shape for other in seen)


@pytest.mark.parametrize(("extent", "found"), [(1, [(2,)]), (0, [])])
def test_an_extent_of_one_only_grows_and_none_stays(extent: int, found: list[tuple[int]]) -> None:
    assert tried({"long": LONG[:, :extent]}) == found


def test_rows_are_cut_and_repeated() -> None:
    less, more = (other for other, _ in extents.try_others({"x": LONG}, {("x", 1): (2, 8)}, lambda one: one))
    np.testing.assert_array_equal(less["x"], LONG[:, :2])
    np.testing.assert_array_equal(more["x"], np.hstack([LONG, LONG[:, :2]]))
    assert all(other["x"].flags.c_contiguous and other["x"].flags.writeable for other in (less, more))
