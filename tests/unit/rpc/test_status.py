"""The one table from errors to statuses."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest
from grpc import StatusCode

from frameworks import errors as framework_errors
from runtime import errors
from runtime.rpc import status
from store import errors as store_errors
from tests.support import details
from tests.support.calls import FakeCall

TABLE: dict[StatusCode, list[Any]] = {
    StatusCode.INVALID_ARGUMENT: [
        errors.InvalidInput, errors.ShapeMismatch, errors.DatatypeMismatch, errors.TaskTooLarge,
        store_errors.InvalidTag, store_errors.InvalidSignature, store_errors.InvalidManifest,
        store_errors.UnknownDatatype, framework_errors.UnsupportedInput,
    ],
    StatusCode.NOT_FOUND: [
        errors.ModelNotFound, errors.VersionNotFound, errors.MethodNotFound, store_errors.ModelMissing,
    ],
    StatusCode.UNIMPLEMENTED: [errors.NotSupported],
    StatusCode.ALREADY_EXISTS: [store_errors.TagExists],
    StatusCode.FAILED_PRECONDITION: [
        errors.LoadFailed, errors.WrongState, errors.ConfigError, store_errors.StoreError,
        store_errors.RunnerUnavailable, framework_errors.FrameworkError, framework_errors.MissingFramework,
        framework_errors.UnknownModule, framework_errors.InvalidModel, framework_errors.WrongModule,
        framework_errors.SampleFailed,
    ],
    StatusCode.RESOURCE_EXHAUSTED: [
        errors.QueueFull, errors.DeadlineUnreachable, errors.MessageTooLarge, errors.MemoryExhausted,
    ],
    StatusCode.UNAVAILABLE: [errors.NotReady, errors.Draining, errors.WorkerLost],
    StatusCode.DEADLINE_EXCEEDED: [errors.DeadlineExceeded],
    StatusCode.CANCELLED: [errors.Cancelled],
    StatusCode.DATA_LOSS: [store_errors.CorruptArtifact],
    StatusCode.INTERNAL: [
        errors.RuntimeServingError, errors.ModelError, errors.OutputMismatch, errors.PoisonInput,
        framework_errors.InvalidOutput,
    ],
}  # fmt: skip
RETRIED = {
    errors.QueueFull, errors.DeadlineUnreachable, errors.NotReady, errors.Draining, errors.WorkerLost,
}  # fmt: skip
ROWS = [(kind, code) for code, kinds in TABLE.items() for kind in kinds]


def public_classes(module: ModuleType) -> set[type[Exception]]:
    return {
        kind
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__ and not name.startswith("_")
    }


def test_every_public_error_has_exactly_one_row_here() -> None:
    listed = [kind for kind, _ in ROWS]
    assert len(listed) == len(set(listed))
    assert set(listed) == public_classes(errors) | public_classes(store_errors) | public_classes(
        framework_errors
    )


@pytest.mark.parametrize(("kind", "code"), ROWS)
def test_errors_are_answered_as_the_table_says(
    kind: type[errors.RuntimeServingError], code: StatusCode
) -> None:
    call = FakeCall()
    assert status.fail(call, kind("what is wrong", field="at"))
    assert (call.code, call.details) == (code, "what is wrong")
    assert call.trailing["runtime-reason"] == kind.reason
    assert ("grpc-retry-pushback-ms" in call.trailing) is (kind in RETRIED)


def test_a_subclass_is_answered_like_its_nearest_base() -> None:
    class Special(errors.ShapeMismatch):
        pass

    assert status.rule(Special("x")).code is StatusCode.INVALID_ARGUMENT


def test_reasons_are_told_apart_across_the_trees() -> None:
    kinds = [kind for kind, _ in ROWS if kind is not store_errors.ModelMissing]  # the same to a caller
    assert len({kind.reason for kind in kinds}) == len(kinds)


def test_details_name_the_field() -> None:
    call = FakeCall()
    status.fail(call, errors.ShapeMismatch("wrong shape ä", field="inputs['x'].shape"))
    data = call.trailing["grpc-status-details-bin"]
    assert isinstance(data, bytes)
    code, message, parsed = details.parse(data)
    assert (code, message) == (StatusCode.INVALID_ARGUMENT.value[0], "wrong shape ä")
    (violation,) = parsed["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("inputs['x'].shape", "wrong shape ä")
    assert list(parsed) == ["BadRequest"]


@pytest.mark.parametrize(
    ("error", "delay_s"),
    [
        (errors.QueueFull("x"), 0.1),
        (errors.NotReady("x"), 1.0),
        (errors.Draining("x"), 0.0),
        (errors.QueueFull("x", retry_after_ms=2345), 2.345),
        (errors.DeadlineUnreachable("x", retry_after_ms=7), 0.007),
        (errors.NotReady("x", retry_after_ms=0), 0.0),
        (errors.QueueFull("x", retry_after_ms=-3), 0.0),
    ],
)
def test_details_say_when_to_try_again(error: Exception, delay_s: float) -> None:
    call = FakeCall()
    status.fail(call, error)
    data = call.trailing["grpc-status-details-bin"]
    assert isinstance(data, bytes)
    _, _, parsed = details.parse(data)
    assert list(parsed) == ["RetryInfo"]
    delay = parsed["RetryInfo"].retry_delay
    assert delay.seconds + delay.nanos / 1e9 == pytest.approx(delay_s)
    assert call.trailing["grpc-retry-pushback-ms"] == str(round(delay_s * 1000))


def test_a_prediction_does_not_make_a_repeat_useful_where_it_is_not() -> None:
    call = FakeCall()
    status.fail(call, errors.ModelError("x", retry_after_ms=5))
    assert "grpc-retry-pushback-ms" not in call.trailing


def test_what_is_unforeseen_is_internal_and_told_by_an_id_only(caplog: pytest.LogCaptureFixture) -> None:
    call = FakeCall()
    status.fail(call, ZeroDivisionError("secret"))
    assert call.code is StatusCode.INTERNAL
    assert "secret" not in call.details
    assert call.trailing["runtime-reason"] == "internal"
    (record,) = caplog.records
    assert record.error_id in call.details  # type: ignore[attr-defined]
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    "text", ["n" * 1_000_000, "ä" * 10_000, "😀" * 10_000, "\ud800" * 10_000, "\n" * 10_000]
)
def test_what_a_caller_is_told_fits_into_metadata_whatever_it_quotes(text: str) -> None:
    call = FakeCall()
    status.fail(call, errors.ModelNotFound(text, field=text))
    percent_encoded = 3 * len(call.details.encode())
    data = call.trailing["grpc-status-details-bin"]
    assert isinstance(data, bytes)
    assert percent_encoded + len(data) * 4 / 3 < 7_000
    assert details.parse(data)[1] == call.details
    assert call.details.endswith("…")
