"""The adapters' exception tree: what can be wrong when a model is saved, loaded or called.

Each class carries a stable ``reason`` that is sent to callers and used as a metric label. Adapters know
nothing of gRPC; the layer that answers callers maps each class to one status.
"""

from __future__ import annotations

from typing import ClassVar


class FrameworkError(Exception):
    """Root of every error that an adapter raises on purpose.

    Args:
        message: what is wrong and how to mend it.
        field: the argument or tensor that is at fault, where there is one.
    """

    reason: ClassVar[str] = "framework_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class MissingFramework(FrameworkError, ImportError):
    """The library that an adapter needs is not installed (FAILED_PRECONDITION)."""

    reason = "missing_framework"


class UnknownModule(FrameworkError):
    """No adapter has this module name (FAILED_PRECONDITION)."""

    reason = "unknown_module"


class InvalidModel(FrameworkError):
    """The model cannot be saved or loaded as it is (FAILED_PRECONDITION)."""

    reason = "invalid_model"


class WrongModule(FrameworkError):
    """The model was saved by another adapter (FAILED_PRECONDITION)."""

    reason = "wrong_module"


class SampleFailed(FrameworkError):
    """The model does not do on its sample what its signature says (FAILED_PRECONDITION)."""

    reason = "sample_failed"


class UnsupportedInput(FrameworkError):
    """The framework has no value for this input, for example text that is not UTF-8 (INVALID_ARGUMENT)."""

    reason = "unsupported_input"


class InvalidOutput(FrameworkError):
    """The model returned something that is no tensor or not what its signature names (INTERNAL)."""

    reason = "invalid_output"
