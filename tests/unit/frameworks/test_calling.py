from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest

from frameworks import InvalidOutput
from frameworks.calling import Caller, Parameters, name_results
from store import Signature, TensorSpec


class Boxes(NamedTuple):
    corners: Any
    scores: Any


A, B = np.array([1, 2]), np.array([[3.0], [4.0]])


def call(function: Any, inputs: dict[str, Any], *outputs: str) -> dict[str, Any]:
    specs = tuple(TensorSpec(name, "FP64", (-1,)) for name in outputs) or None
    return Caller(function, Signature(outputs=specs))(inputs)


def test_inputs_go_by_keyword_when_all_names_are_parameters() -> None:
    assert call(lambda a, b: (a, b), {"b": B, "a": A})["output_0"] is A


def test_inputs_go_by_position_when_a_name_is_no_parameter() -> None:
    assert call(lambda a, b: (a, b), {"x": B, "a": A})["output_0"] is B


def test_defaults_may_be_left_out() -> None:
    assert call(lambda a, scale=2: a * scale, {"a": A})["output_0"].tolist() == [2, 4]


def test_open_keywords_take_any_name() -> None:
    assert call(lambda **features: features, {"age": A, "height": B}) == {"age": A, "height": B}
    assert set(call(lambda a, **rest: {"a": a, **rest}, {"a": A, "more": B})) == {"a", "more"}
    assert call(lambda a, **rest: a, {"x": A})["output_0"] is A


def test_a_wrapper_that_hides_its_parameters_is_called_by_position() -> None:
    def inner(x: Any) -> Any:
        return x

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    assert call(wrapper, {"input_0": A})["output_0"] is A


def test_a_transparent_wrapper_shows_its_parameters() -> None:
    def inner(x: Any) -> Any:
        return x

    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    assert Parameters.of(wrapper).names == ("x",)


def test_positional_only_parameters_and_builtins_are_called_by_position() -> None:
    assert call(lambda a, /, b=1: (a, b), {"b": A})["output_0"] is A
    assert call(max, {"a": np.array(1), "b": np.array(2)})["output_0"] == 2
    assert Parameters.of(type) == Parameters()


@pytest.mark.parametrize(
    ("result", "names", "expected"),
    [
        ({"p": A, 1: B}, (), {"p": A, "1": B}),
        ((A, B), (), {"output_0": A, "output_1": B}),
        ((A, B), ("a", "b"), {"a": A, "b": B}),
        ([A, B], (), {"output_0": A, "output_1": B}),
        ([A, B], ("a", "b"), {"a": A, "b": B}),
        ([[1], 2], ("a", "b"), {"a": [1], "b": 2}),
        ([A, A], ("a",), {"a": [A, A]}),
        ([1, 2], (), {"output_0": [1, 2]}),
        ([np.float32(1)], (), {"output_0": [np.float32(1)]}),
        ([], (), {"output_0": []}),
        (A, (), {"output_0": A}),
        (A, ("a",), {"a": A}),
        ((A,), ("a",), {"a": A}),
        (Boxes(A, B), (), {"corners": A, "scores": B}),
        (Boxes(A, B), ("a", "b"), {"a": A, "b": B}),
    ],
)
def test_results_are_named(result: object, names: tuple[str, ...], expected: dict[str, object]) -> None:
    named = name_results(result, names)
    assert list(named) == list(expected)
    assert all(named[name] is expected[name] or named[name] == expected[name] for name in expected)


@pytest.mark.parametrize(("result", "names"), [(A, ("a", "b")), ((A, B), ("a",)), ([A], ("a", "b"))])
def test_another_number_of_results_than_names_is_refused(result: object, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidOutput, match="its signature names a"):
        name_results(result, names)


def test_a_result_that_is_no_tensor_names_the_output() -> None:
    with pytest.raises(InvalidOutput, match="output 'p'") as caught:
        call(lambda a: {"p": None}, {"a": A})
    assert caught.value.field == "p"


def test_what_the_function_raises_passes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        call(lambda a: 1 // 0, {"a": A})


def test_names_for_nameless_inputs_are_the_parameters() -> None:
    def caller(function: Any) -> Caller:
        return Caller(function, Signature())

    assert caller(lambda x, y, z=1: x).input_names(2) == ("x", "y")
    assert caller(lambda x: x).input_names(2) == ("input_0", "input_1")
    assert caller(lambda *a: a).input_names(1) == ("input_0",)


def test_calls_that_differ_from_the_last_one_are_read_anew() -> None:
    def either(a: Any, b: Any = 0) -> Any:
        return a if isinstance(b, int) else {"a": a, "b": b}

    caller = Caller(either, Signature())
    assert caller({"a": A}) == {"output_0": A}
    assert caller({"b": B, "a": A}) == {"a": A, "b": B}
    assert caller({"x": A}) == {"output_0": A}
    assert caller({"x": A, "a": B}) == {"a": A, "b": B}


def test_results_of_another_kind_than_the_last_one_are_named_anew() -> None:
    results = iter([A, (A, B), 2.5, {"sum": A}, A, [A, B], "text"])
    caller = Caller(lambda _: next(results), Signature())
    names = [sorted(caller({"x": A})) for _ in range(7)]
    one, two = ["output_0"], ["output_0", "output_1"]
    assert names == [one, two, one, ["sum"], one, two, one]


def test_the_number_of_results_is_checked_in_each_call() -> None:
    results = iter([(A, B), A])
    specs = (TensorSpec("a", "INT64", (-1,)), TensorSpec("b", "FP64", (-1, 1)))
    caller = Caller(lambda _: next(results), Signature(outputs=specs))
    assert set(caller({"x": A})) == {"a", "b"}
    with pytest.raises(InvalidOutput, match="returned 1 outputs; its signature names a, b"):
        caller({"x": A})
