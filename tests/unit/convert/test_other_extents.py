"""Extents that samples do not show are tried on the source, and what it answers is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from frameworks.convert import extents
from frameworks.convert.samples import Samples, collect
from frameworks.convert.work import Settings
from store import Signature
from store.signature import parse_signatures

ROWS = np.arange(36, dtype=np.float32).reshape(6, 6)
SPEC = {"name": "x", "datatype": "FP32", "shape": [-1, -1]}
SUMS = {"name": "sums", "datatype": "FP32", "shape": [-1]}


def signature(**changes: Any) -> Signature:
    wanted = {"batchable": True, "inputs": [SPEC], "outputs": [SUMS], **changes}
    return parse_signatures({"__call__": wanted})["__call__"]


def sums(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"sums": inputs["x"].sum(1)}


def found(
    samples: Samples, method: Any = sums, signature: Signature | None = None, **settings: Any
) -> list[int]:
    """The extents that are kept."""
    known = {"__call__": signature or SIGNATURE}
    added = extents.find(samples, {"__call__": method}, known, Settings(**settings))
    for given, answers in added:
        np.testing.assert_array_equal(answers["__call__"]["sums"], given["x"].sum(1))
    return [given["x"].shape[1] for given, _ in added]


SIGNATURE = signature()
ONE = collect([ROWS], names=["x"])


def test_an_axis_along_which_samples_do_not_vary_is_tried_at_half_and_twice() -> None:
    assert found(ONE) == [3, 12]


def test_axes_that_vary_or_are_not_dynamic_are_left_alone() -> None:
    assert found(collect([ROWS, ROWS[:, :4]], names=["x"])) == []
    assert found(ONE, signature=signature(inputs=[{**SPEC, "shape": [-1, 6]}])) == []


def test_what_the_source_refuses_or_a_server_would_is_not_kept() -> None:
    def few(inputs: dict[str, Any]) -> dict[str, Any]:
        if inputs["x"].shape[1] > 6:
            raise IndexError("position out of range")
        return sums(inputs)

    assert found(ONE, few) == [3]
    assert found(ONE, lambda inputs: {"sums": sums(inputs)["sums"].astype(np.float64)}) == []


def test_every_method_that_takes_the_samples_has_to_take_them() -> None:
    def odd(inputs: dict[str, Any]) -> dict[str, Any]:
        if inputs["x"].shape[1] % 2:
            return sums(inputs)
        raise ValueError("even")

    methods = {"all": sums, "odd": odd}
    (added,) = extents.find(ONE, methods, dict.fromkeys(methods, SIGNATURE), Settings())
    assert set(added[1]) == {"all", "odd"}


def test_a_padded_axis_is_tried_at_its_first_and_last_bucket() -> None:
    padding = [{"inputs": {"x": 1}, "buckets": [2, 6, 7]}]
    assert found(ONE, signature=signature(padding=padding)) == [2, 7]


@pytest.mark.parametrize(("axes", "tried"), [((4, 6, 9), [4, 9]), ((6, 6, 6), []), ((0, 6, 6), [1])])
def test_extents_that_were_named_for_tensorrt_are_the_ones_to_try(
    axes: tuple[int, int, int], tried: list[int]
) -> None:
    assert found(ONE, trt_axes={"x": {1: axes}}) == tried
