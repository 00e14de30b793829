"""The runtime's one exception tree.

Every class carries a stable ``reason``: it is sent in trailing metadata, used as a metric label and
never changes once released. ``runtime/rpc/status.py`` maps each class to one gRPC status; the classes
of ``store.errors`` and ``frameworks.errors`` are mapped there too.

The message names the offending field and says what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class RuntimeServingError(Exception):
    """Root of every error that the runtime raises on purpose.

    Args:
        message: what is wrong and how to mend it, for the caller's eyes.
        field: the request field, option or file that is at fault, where there is one.
        retry_after_ms: when a repeat has a chance, as far as that can be predicted; None tells callers the
            constant that belongs to the class. Of no effect where a repeat cannot help.
    """

    reason: ClassVar[str] = "internal"

    def __init__(self, message: str, *, field: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_ms = retry_after_ms


# -- the request is at fault: INVALID_ARGUMENT ------------------------------------------------------


class InvalidInput(RuntimeServingError):
    """The request contradicts the protocol or the signature."""

    reason = "invalid_input"


class ShapeMismatch(InvalidInput):
    """A tensor's shape contradicts its spec, its bytes or the other tensors."""

    reason = "shape_mismatch"


class DatatypeMismatch(InvalidInput):
    """A tensor's datatype is unknown or not the one in the signature."""

    reason = "datatype_mismatch"


class TaskTooLarge(InvalidInput):
    """More rows in one request than the queue may hold (``max_queued_rows``); others are cut."""

    reason = "task_too_large"


# -- unknown names: NOT_FOUND -----------------------------------------------------------------------


class ModelNotFound(RuntimeServingError):
    """No model of this name is served."""

    reason = "model_not_found"


class VersionNotFound(RuntimeServingError):
    """The model is served, this version of it is not."""

    reason = "version_not_found"


class MethodNotFound(RuntimeServingError):
    """The model has no such method in its signatures."""

    reason = "method_not_found"


# -- cannot be done here ----------------------------------------------------------------------------


class NotSupported(RuntimeServingError):
    """A part of the protocol that this model or server does not offer: UNIMPLEMENTED."""

    reason = "not_supported"


class LoadFailed(RuntimeServingError):
    """The model could not be loaded; an operator must act: FAILED_PRECONDITION."""

    reason = "load_failed"


class WrongState(RuntimeServingError):
    """The operation does not fit the state of the model: FAILED_PRECONDITION."""

    reason = "wrong_state"


# -- not now ----------------------------------------------------------------------------------------


class QueueFull(RuntimeServingError):
    """Shed load, to be retried later: RESOURCE_EXHAUSTED with RetryInfo."""

    reason = "queue_full"


class DeadlineUnreachable(RuntimeServingError):
    """The answer would come too late, by all that is predicted: refused at once, or dropped from the queue.

    RESOURCE_EXHAUSTED with RetryInfo: with more time, or less load, the call can succeed.
    """

    reason = "deadline_unreachable"


class NotReady(RuntimeServingError):
    """No instance can serve yet, or none can any more: UNAVAILABLE with RetryInfo."""

    reason = "not_ready"


class Draining(RuntimeServingError):
    """The server is going down: UNAVAILABLE, to be retried elsewhere."""

    reason = "draining"


class WorkerLost(RuntimeServingError):
    """The worker is gone: UNAVAILABLE. What it had not answered is run again elsewhere, once."""

    reason = "worker_lost"


class MessageTooLarge(RuntimeServingError):
    """A message over the transport's limit: RESOURCE_EXHAUSTED."""

    reason = "message_too_large"


class MemoryExhausted(RuntimeServingError):
    """No room in the shared arena or on the device: RESOURCE_EXHAUSTED."""

    reason = "memory_exhausted"


# -- too late, or unwanted --------------------------------------------------------------------------


class DeadlineExceeded(RuntimeServingError):
    """The caller's deadline passed before the work began: DEADLINE_EXCEEDED."""

    reason = "deadline_exceeded"


class Cancelled(RuntimeServingError):
    """The caller went away: CANCELLED."""

    reason = "cancelled"


# -- the model or the runtime is at fault: INTERNAL -------------------------------------------------


class ModelError(RuntimeServingError):
    """The model's own code raised."""

    reason = "model_error"


class OutputMismatch(ModelError):
    """The model returned something else than its signature promises, such as a wrong number of rows."""

    reason = "output_mismatch"


class PoisonInput(RuntimeServingError):
    """The request killed two workers, or is equal to one that did: it is not tried again for a while."""

    reason = "poison_input"


# -- before anything is served ----------------------------------------------------------------------


class ConfigError(RuntimeServingError):
    """One or more options are wrong; all of them are named in the message. Exit code 2."""

    reason = "config_error"
