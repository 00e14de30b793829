"""What a failed call looks like to the caller.

Servers say more than a status code: our own put a stable reason into the trailing metadata, and any
server may attach ``google.rpc`` details. Both are read here; a server that sends neither is fine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc

from runtime.client import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

Metadata = Sequence[tuple[str, str | bytes]]

REASON_KEY: Final = "runtime-reason"
DETAILS_KEY: Final = "grpc-status-details-bin"

_TYPE_PREFIX: Final = "type.googleapis.com/google.rpc."


class FieldViolation(NamedTuple):
    """One thing that is wrong with a request: which field, and why."""

    field: str
    description: str


class RpcFailed(Exception):
    """A call did not succeed.

    Attributes:
        code: gRPC status code.
        details: the server's message.
        reason: stable word for the cause (``queue_full``, ``shape_mismatch`` ...); empty when the server
            did not say.
        retry_after_s: seconds after which a retry makes sense; None when the server gave no hint.
        violations: the fields that the server objected to.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        details: str,
        *,
        reason: str = "",
        retry_after_s: float | None = None,
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.violations = violations

    @classmethod
    def of(cls, error: Any) -> RpcFailed:
        """Translate an error of ``grpc`` or ``grpc.aio``."""
        trailing: Metadata = tuple(error.trailing_metadata() or ())
        retry_after_s: float | None = None
        violations: list[FieldViolation] = []
        for kind, detail in _details(trailing):
            match kind:
                case "RetryInfo":
                    retry_after_s = _retry_delay(detail)
                case "BadRequest":
                    violations += _violations(detail)
        return cls(
            error.code(),
            error.details() or "",
            reason=_text(trailing, REASON_KEY),
            retry_after_s=retry_after_s,
            violations=tuple(violations),
        )


def bad_response(problem: str) -> RpcFailed:
    """Return the failure for a server that breaks the protocol."""
    return RpcFailed(
        grpc.StatusCode.INTERNAL, f"the server's response is malformed: {problem}", reason="bad_response"
    )


def _text(metadata: Metadata, key: str) -> str:
    for name, value in metadata:
        if name == key:
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return ""


def _details(trailing: Metadata) -> list[tuple[str, memoryview]]:
    """Return (kind, serialized message) of each ``google.rpc`` detail; none when they cannot be read.

    ``google.rpc.Status`` has its details in field 3, each an ``Any`` of type URL (1) and value (2).
    """
    try:
        found = [
            _parts(detail)
            for key, status in trailing
            if key == DETAILS_KEY and isinstance(status, bytes)
            for detail in _nested(status, 3)
        ]
        empty = memoryview(b"")
        return [
            (bytes(parts.get(1, empty)).decode().removeprefix(_TYPE_PREFIX), parts.get(2, empty))
            for parts in found
        ]
    except ValueError:
        return []


def _retry_delay(retry_info: memoryview) -> float | None:
    """Read ``RetryInfo.retry_delay`` (1), a ``Duration`` of seconds (1) and nanoseconds (2)."""
    try:
        for duration in _nested(retry_info, 1):
            parts = {number: value for number, value, *_ in wire.fields(duration) if isinstance(value, int)}
            return parts.get(1, 0) + parts.get(2, 0) / 1e9
    except wire.WireError:
        pass
    return None


def _violations(bad_request: memoryview) -> Iterator[FieldViolation]:
    """Read ``BadRequest.field_violations`` (1): field (1) and description (2)."""
    try:
        for violation in _nested(bad_request, 1):
            parts = {number: bytes(value).decode() for number, value in _parts(violation).items()}
            yield FieldViolation(parts.get(1, ""), parts.get(2, ""))
    except ValueError:
        return


def _nested(message: bytes | memoryview, number: int) -> list[memoryview]:
    """Return the values of one field that holds messages, strings or bytes."""
    return [
        value
        for found, value, *_ in wire.fields(message)
        if found == number and isinstance(value, memoryview)
    ]


def _parts(message: memoryview) -> dict[int, memoryview]:
    """Return the fields that hold messages, strings or bytes; of a repeated one the last."""
    return {number: value for number, value, *_ in wire.fields(message) if isinstance(value, memoryview)}
