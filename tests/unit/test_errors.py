"""The tree of errors: reasons are stable and tell classes apart."""

from __future__ import annotations

import inspect

import pytest

from runtime import errors

CLASSES: list[type[errors.RuntimeServingError]] = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.RuntimeServingError)
]


def test_each_class_has_a_reason_of_its_own() -> None:
    reasons = [kind.reason for kind in CLASSES]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_is_made_from_a_message_and_a_field(kind: type[errors.RuntimeServingError]) -> None:
    error = kind("what is wrong", field="at")
    assert (str(error), error.message, error.field) == ("what is wrong", "what is wrong", "at")
    assert kind("no field").field is None
    assert kind("no field").retry_after_ms is None
    assert kind("later", retry_after_ms=7).retry_after_ms == 7


@pytest.mark.parametrize("kind", CLASSES)
def test_reasons_are_fit_for_metadata_and_metric_labels(kind: type[errors.RuntimeServingError]) -> None:
    assert kind.reason.isascii()
    assert kind.reason.replace("_", "").isalnum()
    assert kind.reason == kind.reason.lower()


def test_whatever_contradicts_the_signature_is_invalid_input() -> None:
    for kind in (errors.ShapeMismatch, errors.DatatypeMismatch, errors.TaskTooLarge):
        assert issubclass(kind, errors.InvalidInput)
