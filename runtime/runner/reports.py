"""How an error travels from a worker to a service: as its reason, its message and the field it is about."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, TypedDict

from runtime.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    MemoryExhausted,
    MethodNotFound,
    ModelError,
    OutputMismatch,
    RuntimeServingError,
)

_KINDS: Final[dict[str, type[RuntimeServingError]]] = {
    kind.reason: kind
    for kind in (
        Cancelled,
        DeadlineExceeded,
        InvalidInput,
        MemoryExhausted,
        MethodNotFound,
        ModelError,
        OutputMismatch,
    )
}


class Report(TypedDict):
    """An error in a form that JSON has."""

    reason: str
    message: str
    field: str | None


def encode(error: RuntimeServingError) -> bytes:
    """The head of a failure."""
    return json.dumps(_report(error)).encode()


def encode_all(errors: Iterable[RuntimeServingError]) -> bytes:
    """The head of a refusal, with an error for each task that it names."""
    return json.dumps([_report(error) for error in errors]).encode()


def decode(head: bytes) -> RuntimeServingError:
    """The error that :func:`encode` was given; a ``ModelError`` if workers have no business with its kind."""
    return _error(json.loads(head))


def decode_all(head: bytes) -> list[RuntimeServingError]:
    """The errors that :func:`encode_all` was given."""
    return [_error(report) for report in json.loads(head)]


def _report(error: RuntimeServingError) -> Report:
    return {"reason": error.reason, "message": error.message, "field": error.field}


def _error(report: Report) -> RuntimeServingError:
    return _KINDS.get(report["reason"], ModelError)(report["message"], field=report["field"])
