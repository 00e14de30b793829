"""The benchmark of the adapters compares like with like: direct calls answer what the adapters answer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from benchmarks import adapters
from benchmarks.adapter_cases import CASES, Case
from benchmarks.adapters import Figures
from frameworks import LoadOptions, registry
from store import ModelStore


def test_every_adapter_is_measured() -> None:
    assert {case.adapter for case in CASES} == set(registry.NAMES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.adapter)
def test_direct_calls_answer_as_methods_do(case: Case, tmp_path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = case.save(ModelStore(tmp_path))
        methods = registry.adapter(case.adapter).open_methods(model, LoadOptions())
        direct: Any = case.direct(model)
    inputs = dict(case.inputs(3))
    answer: Any = methods[case.method](inputs)
    expected = direct(inputs)
    (found,) = answer.values()
    np.testing.assert_allclose(
        found, expected[0] if isinstance(expected, list) else expected, rtol=1e-5, atol=1e-6
    )


def test_figures_are_medians_of_turns_and_of_their_differences() -> None:
    direct, method, beyond, ratio = adapters.compare(lambda: None, lambda: sum(range(200)), 20)
    assert 0 < direct < method
    assert beyond > 0
    assert ratio > 1


def test_the_table_has_one_line_for_each_case() -> None:
    text = adapters.table(
        [Figures("onnx", 1, 5.0, 6.25, 1.25, 1.249), Figures("onnx", 32, 6.0, 5.5, -0.5, 0.92)]
    )
    assert text.splitlines()[2:] == [
        "| onnx | 1 | 5.0 | 6.2 | +1.2 | 1.25 |",
        "| onnx | 32 | 6.0 | 5.5 | -0.5 | 0.92 |",
    ]
