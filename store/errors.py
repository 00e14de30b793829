"""The store's exception tree: what can be wrong with a tag, a manifest or the files of a model.

Each class carries a stable ``reason`` that is sent to callers and used as a metric label. The store knows
nothing of gRPC; the layer that answers callers maps each class to one status.
"""

from __future__ import annotations

from typing import ClassVar


class StoreError(Exception):
    """Root of every error that the store raises on purpose.

    Args:
        message: what is wrong and how to mend it.
        field: the argument, manifest field or file that is at fault, where there is one.
    """

    reason: ClassVar[str] = "store_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidTag(StoreError):
    """A model name or version breaks the naming rules (INVALID_ARGUMENT)."""

    reason = "invalid_tag"


class InvalidSignature(StoreError):
    """A signature contradicts itself or has unknown keys (INVALID_ARGUMENT)."""

    reason = "invalid_signature"


class InvalidManifest(StoreError):
    """A manifest field is missing, of the wrong type or cannot be written down (INVALID_ARGUMENT)."""

    reason = "invalid_manifest"


class UnknownDatatype(StoreError):
    """A tensor datatype is not one of the Open Inference Protocol (INVALID_ARGUMENT)."""

    reason = "unknown_datatype"


class ModelMissing(StoreError):
    """No such model or version, or it was deleted meanwhile (NOT_FOUND)."""

    reason = "model_not_found"


class TagExists(StoreError):
    """The version was published before; versions never change (ALREADY_EXISTS)."""

    reason = "tag_exists"


class CorruptArtifact(StoreError):
    """A file differs from its digest, is missing, or the manifest cannot be read (DATA_LOSS)."""

    reason = "corrupt_artifact"


class RunnerUnavailable(StoreError):
    """``to_runner`` was called before the serving runtime was imported (FAILED_PRECONDITION)."""

    reason = "runner_unavailable"
