"""The one table from exceptions to gRPC statuses, and the details that go with a failed call.

Every failed call carries, in its trailing metadata, ``runtime-reason`` (the stable reason string) and a
``google.rpc.Status`` whose details name the field (``BadRequest``) and, where it makes sense, when to try
again (``RetryInfo`` and ``grpc-retry-pushback-ms``).

Source: google/rpc/{status,error_details}.proto, whose few fields used here are encoded by hand: a
dependency on their generated code would raise the oldest protobuf that the runtime works with.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

import grpc

from frameworks import errors as framework_errors
from runtime import errors
from runtime.clock import now_ns
from runtime.tensors.wire import field, varint
from runtime.transport.interface import Call, Metadata
from store import errors as store_errors

log = logging.getLogger(__name__)
Code = grpc.StatusCode


class Rule(NamedTuple):
    """How one class of error is answered.

    ``retry_ms`` is told where the error itself has no ``retry_after_ms``; None where a repeat cannot help.
    """

    code: grpc.StatusCode
    retry_ms: int | None = None


RULES: Final[dict[type[Exception], Rule]] = {
    errors.InvalidInput: Rule(Code.INVALID_ARGUMENT),
    errors.ModelNotFound: Rule(Code.NOT_FOUND),
    errors.VersionNotFound: Rule(Code.NOT_FOUND),
    errors.MethodNotFound: Rule(Code.NOT_FOUND),
    errors.NotSupported: Rule(Code.UNIMPLEMENTED),
    errors.LoadFailed: Rule(Code.FAILED_PRECONDITION),
    errors.WrongState: Rule(Code.FAILED_PRECONDITION),
    errors.QueueFull: Rule(Code.RESOURCE_EXHAUSTED, 100),
    errors.DeadlineUnreachable: Rule(Code.RESOURCE_EXHAUSTED, 100),
    errors.NotReady: Rule(Code.UNAVAILABLE, 1000),
    errors.Draining: Rule(Code.UNAVAILABLE, 0),
    errors.WorkerLost: Rule(Code.UNAVAILABLE, 100),
    errors.MessageTooLarge: Rule(Code.RESOURCE_EXHAUSTED),
    errors.MemoryExhausted: Rule(Code.RESOURCE_EXHAUSTED),
    errors.DeadlineExceeded: Rule(Code.DEADLINE_EXCEEDED),
    errors.Cancelled: Rule(Code.CANCELLED),
    errors.ModelError: Rule(Code.INTERNAL),
    errors.PoisonInput: Rule(Code.INTERNAL),
    errors.ConfigError: Rule(Code.FAILED_PRECONDITION),
    errors.RuntimeServingError: Rule(Code.INTERNAL),
    store_errors.InvalidTag: Rule(Code.INVALID_ARGUMENT),
    store_errors.InvalidSignature: Rule(Code.INVALID_ARGUMENT),
    store_errors.InvalidManifest: Rule(Code.INVALID_ARGUMENT),
    store_errors.UnknownDatatype: Rule(Code.INVALID_ARGUMENT),
    store_errors.ModelMissing: Rule(Code.NOT_FOUND),
    store_errors.TagExists: Rule(Code.ALREADY_EXISTS),
    store_errors.CorruptArtifact: Rule(Code.DATA_LOSS),
    store_errors.StoreError: Rule(Code.FAILED_PRECONDITION),
    framework_errors.UnsupportedInput: Rule(Code.INVALID_ARGUMENT),
    framework_errors.InvalidOutput: Rule(Code.INTERNAL),
    framework_errors.FrameworkError: Rule(Code.FAILED_PRECONDITION),
}
"""A class that is not here is answered like its nearest base class."""

MAX_TEXT_BYTES: Final = 800
"""Of a message and of a field that a caller is told: each goes out up to three times, escaped."""

_UNEXPECTED: Final = Rule(Code.INTERNAL)
_TYPE_PREFIX: Final = b"type.googleapis.com/google.rpc."


def rule(error: BaseException) -> Rule:
    """The row for an error; INTERNAL for anything unforeseen."""
    for kind in type(error).__mro__:
        found = RULES.get(kind)
        if found is not None:
            return found
    return _UNEXPECTED


def fail(call: Call, error: BaseException) -> bool:
    """Answer a call with an error."""
    code, retry_ms = rule(error)
    if retry_ms is not None:
        predicted = getattr(error, "retry_after_ms", None)
        retry_ms = retry_ms if predicted is None else max(0, predicted)
    message = _short(message_of(error, call.method))
    reason = getattr(error, "reason", "internal")
    at = getattr(error, "field", None)
    return call.fail(code, message, trailing(code, message, reason, at and _short(at), retry_ms))


def message_of(error: BaseException, method: str) -> str:
    """What the caller is told. What is unforeseen is logged under an id, which is all that he sees."""
    if hasattr(error, "reason"):
        return str(error)
    identity = f"{now_ns():x}"
    log.error("call_failed", exc_info=error, extra={"method": method, "error_id": identity})
    return f"internal error (error id {identity})"


def _short(text: str) -> str:
    """Text that quotes a request must not outgrow what clients take as metadata, 8 KiB in all."""
    data = text.encode(errors="backslashreplace")
    return (
        data.decode() if len(data) <= MAX_TEXT_BYTES else data[:MAX_TEXT_BYTES].decode(errors="ignore") + "…"
    )


def trailing(
    code: grpc.StatusCode, message: str, reason: str, at: str | None = None, retry_ms: int | None = None
) -> Metadata:
    """The trailing metadata of a failed call."""
    metadata: list[tuple[str, str | bytes]] = [
        ("runtime-reason", reason),
        ("grpc-status-details-bin", details(code, message, at, retry_ms)),
    ]
    if retry_ms is not None:
        metadata.append(("grpc-retry-pushback-ms", str(retry_ms)))
    return tuple(metadata)


def details(code: grpc.StatusCode, message: str, at: str | None, retry_ms: int | None) -> bytes:
    """An encoded ``google.rpc.Status``."""
    text = message.encode()
    status = b"\x08" + varint(code.value[0]) + field(2, text)
    if at:
        violation = field(1, at.encode()) + field(2, text)
        status += _detail(b"BadRequest", field(1, violation))
    if retry_ms is not None:
        seconds, milliseconds = divmod(retry_ms, 1000)
        delay = b"\x08" + varint(seconds) + b"\x10" + varint(milliseconds * 1_000_000)
        status += _detail(b"RetryInfo", field(1, delay))
    return status


def _detail(name: bytes, content: bytes) -> bytes:
    """One entry of ``Status.details``: a ``google.protobuf.Any``."""
    return field(3, field(1, _TYPE_PREFIX + name) + field(2, content))
