from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from frameworks import InvalidModel
from frameworks.trt.profile import as_profile, check, derive, largest_rows
from store import Signature, TensorSpec

X = TensorSpec("x", "FP32", (-1, -1, 16))
BATCHABLE = Signature(batchable=True, inputs=(X, TensorSpec("fixed", "FP32", (-1, 4))))
SAMPLES = [{"x": np.zeros((1, length, 16), np.float32)} for length in (5, 3, 9)]


def test_the_batch_axis_takes_one_row_up_to_the_limit_and_others_what_the_samples_show() -> None:
    assert derive(BATCHABLE, SAMPLES, 8, {}) == {
        "x": ((1, 3, 16), (8, 5, 16), (8, 9, 16)),
        "fixed": ((1, 4), (8, 4), (8, 4)),
    }


def test_the_users_axes_come_first() -> None:
    found = derive(BATCHABLE, SAMPLES, 8, {"x": {0: (2, 4, 32), 1: (1, 64, 512)}})
    assert found["x"] == ((2, 1, 16), (4, 64, 16), (32, 512, 16))


def test_inputs_without_dynamic_axes_need_no_profile() -> None:
    assert derive(Signature(inputs=(TensorSpec("x", "FP32", (2, 3)),)), [], 8, {}) == {}


def test_another_batch_axis_is_honoured() -> None:
    signature = Signature(batchable=True, batch_dim=(1, 0), inputs=(TensorSpec("x", "FP32", (4, -1)),))
    found = derive(signature, [], 8, {})
    assert found == {"x": ((4, 1), (4, 8), (4, 8))}
    assert largest_rows(found, 1) == 8


def test_an_axis_of_which_nothing_is_known_is_refused_by_name() -> None:
    with pytest.raises(InvalidModel, match="how far axis 1 of input 'x' extends") as caught:
        derive(BATCHABLE, [], 8, {})
    assert caught.value.field == "profile.x"


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"z": {0: (1, 2, 3)}}, "names the input 'z'; there are x, fixed"),
        ({"x": {2: (1, 2, 3)}}, r"axis 2 of input 'x', which is not dynamic: its shape is \[-1, -1, 16\]"),
        ({"x": {3: (1, 2, 3)}}, "axis 3 of input 'x'"),
        ({"x": {0: (3, 2, 1)}}, "must not decrease"),
        ({"x": {0: (-1, 2, 3)}}, "nor be negative"),
        ({"x": {0: (1, 2)}}, "three extents"),
        ({"x": {0: (1, 2.5, 3)}}, "three extents"),
    ],
)
def test_axes_that_contradict_the_signature_are_refused(axes: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        derive(BATCHABLE, SAMPLES, 8, axes)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({}, r"input 'x' has the shape \[-1, 3\]: give its least, usual and largest shape"),
        ({"z": ((1,), (1,), (1,))}, "names the input 'z'; the graph takes x"),
        ({"x": ((1, 3), (4, 3), (8, 4))}, r"has the shape \[8, 4\]; the graph takes \[-1, 3\]"),
        ({"x": ((1,), (4,), (8,))}, r"has the shape \[1\]"),
    ],
)
def test_a_profile_that_does_not_fit_the_network_is_refused(profile: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        check(profile, [TensorSpec("x", "FP32", (-1, 3))])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "maps inputs to shapes"),
        ({"x": [[1, 2], [3, 4]]}, "least, usual and largest shape"),
        ({"x": "abc"}, "least, usual and largest shape"),
        ({"x": [[1], [1], ["2"]]}, "least, usual and largest shape"),
        ({"x": [[1], [1, 2], [3]]}, "differ in their number of axes"),
        ({"x": [[2], [1], [3]]}, "must not decrease"),
    ],
)
def test_what_is_no_profile_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        as_profile(value)
