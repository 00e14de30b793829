from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

from runtime.client.errors import FieldViolation, RpcFailed


class Failure:
    """What both gRPC stacks' errors have."""

    def __init__(self, *trailing: tuple[str, str | bytes], details: str | None = "no") -> None:
        self._trailing, self._details = trailing, details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing or None


@pytest.fixture(scope="module")
def rich() -> Any:
    """The message classes of ``google.rpc``, written from its documentation, as foreign servers use them."""
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, duration_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="google.rpc", syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/duration.proto"])

    def message(name: str, *fields: tuple[str, int, str]) -> None:
        added = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = added.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
            match kind.removeprefix("*"):
                case "int":
                    field.type = field.TYPE_INT32
                case "str":
                    field.type = field.TYPE_STRING
                case name_of_message:
                    field.type, field.type_name = field.TYPE_MESSAGE, name_of_message

    message("Status", ("code", 1, "int"), ("message", 2, "str"), ("details", 3, "*.google.protobuf.Any"))
    message("RetryInfo", ("retry_delay", 1, ".google.protobuf.Duration"))
    message("Violation", ("field", 1, "str"), ("description", 2, "str"))
    message("BadRequest", ("field_violations", 1, "*.google.rpc.Violation"))
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))


def status(rich: Any, *details: Any) -> tuple[str, bytes]:
    message = rich("Status")(code=8, message="no")
    for detail in details:
        message.details.add().Pack(detail)
    return "grpc-status-details-bin", message.SerializeToString()


def test_a_bare_failure_has_code_and_details() -> None:
    failure = RpcFailed.of(Failure(details=None))
    assert (failure.code, failure.details, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "", "")
    assert failure.retry_after_s is None
    assert failure.violations == ()
    assert "RESOURCE_EXHAUSTED" in str(failure)


def test_the_reason_comes_from_the_trailing_metadata() -> None:
    assert RpcFailed.of(Failure(("x", "y"), ("runtime-reason", "queue_full"))).reason == "queue_full"


def test_the_retry_delay_is_read_from_the_rich_status(rich: Any) -> None:
    info = rich("RetryInfo")()
    info.retry_delay.seconds, info.retry_delay.nanos = 2, 500_000_000
    assert RpcFailed.of(Failure(status(rich, info))).retry_after_s == pytest.approx(2.5)


def test_field_violations_are_read_from_the_rich_status(rich: Any) -> None:
    bad = rich("BadRequest")()
    bad.field_violations.add(field="inputs[0].shape", description="größer")
    bad.field_violations.add(field="inputs[1]")
    failure = RpcFailed.of(Failure(status(rich, rich("RetryInfo")(), bad)))
    assert failure.violations == (
        FieldViolation("inputs[0].shape", "größer"),
        FieldViolation("inputs[1]", ""),
    )


def test_other_details_are_passed_over(rich: Any) -> None:
    failure = RpcFailed.of(Failure(status(rich, duration_pb2.Duration(seconds=1))))
    assert failure.retry_after_s is None
    assert failure.violations == ()


@pytest.mark.parametrize("value", [b"\xff\xff", b"\x1a\x02\x0a\x05", b"\x1a\x03\x0a\x01\xff", b""])
def test_unreadable_details_do_not_hide_the_failure(value: bytes) -> None:
    failure = RpcFailed.of(Failure(("grpc-status-details-bin", value)))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unreadable_retry_delay_is_no_delay(rich: Any) -> None:
    name, good = status(rich, rich("RetryInfo")())
    url = b"type.googleapis.com/google.rpc.RetryInfo"
    detail = bytes([0x0A, len(url)]) + url + b"\x12\x02\xff\xff"
    failure = RpcFailed.of(Failure((name, bytes([0x1A, len(detail)]) + detail)))
    assert good
    assert failure.retry_after_s is None
