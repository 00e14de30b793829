"""Priority and timeout of a request, in each form in which clients send them."""

from __future__ import annotations

from typing import Any

import pytest

from protos import open_inference_pb2 as pb
from runtime.clock import LONGEST_NS
from runtime.errors import InvalidInput
from runtime.rpc import parameters


def given(**values: Any) -> Any:
    """The parameters of a request; each value is the kind of field and what it holds."""
    request = pb.ModelInferRequest()
    for name, (kind, value) in values.items():
        setattr(request.parameters[name], kind, value)
    return request.parameters


@pytest.mark.parametrize(
    ("kind", "value", "level"),
    [
        ("int64_param", 1, 1),
        ("uint64_param", 3, 3),
        ("string_param", "2", 2),
        ("int64_param", 0, 0),
        ("int64_param", 4, 0),
        ("uint64_param", 2**64 - 1, 0),
    ],
)
def test_levels_beyond_the_models_are_the_default(kind: str, value: object, level: int) -> None:
    assert parameters.priority(given(priority=(kind, value)), levels=3) == level


@pytest.mark.parametrize(
    ("kind", "value", "ns"),
    [
        ("int64_param", 1, 1_000),
        ("uint64_param", 2_500, 2_500_000),
        ("string_param", "2500", 2_500_000),
        ("int64_param", 0, 0),
        ("int64_param", -5, 0),
        ("string_param", "-5", 0),
        ("uint64_param", 2**64 - 1, LONGEST_NS),
    ],
)
def test_timeouts_are_microseconds_and_none_below_one(kind: str, value: object, ns: int) -> None:
    assert parameters.timeout_ns(given(timeout=(kind, value))) == ns


def test_requests_without_them_have_none() -> None:
    empty = given(other=("int64_param", 5))
    assert (parameters.priority(empty, 3), parameters.timeout_ns(empty)) == (0, 0)
    assert (parameters.method(empty), parameters.typed(empty)) == (None, False)


@pytest.mark.parametrize("name", ["priority", "timeout"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bool_param", True),
        ("double_param", 1.0),
        ("string_param", ""),
        ("string_param", "soon"),
        ("string_param", "1.5"),
        ("string_param", "1_0"),
        ("string_param", " 1"),
        ("string_param", "٣"),
        ("string_param", "1" * 5000),
    ],
)
def test_what_is_no_whole_number_is_refused_by_name(name: str, kind: str, value: object) -> None:
    wrong = given(**{name: (kind, value)})
    with pytest.raises(InvalidInput, match="whole number") as caught:
        parameters.priority(wrong, 3) if name == "priority" else parameters.timeout_ns(wrong)
    assert caught.value.field == f"parameters.{name}"


def test_a_parameter_without_a_value_is_refused() -> None:
    request = pb.ModelInferRequest()
    request.parameters["priority"].SetInParent()
    with pytest.raises(InvalidInput, match="whole number"):
        parameters.priority(request.parameters, 3)


def test_a_negative_priority_is_refused() -> None:
    with pytest.raises(InvalidInput, match="most urgent") as caught:
        parameters.priority(given(priority=("int64_param", -1)), 3)
    assert caught.value.field == "parameters.priority"
