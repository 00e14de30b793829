"""Models at rest: identity, contract, record and files of every saved model."""

from __future__ import annotations

from store.errors import (
    CorruptArtifact,
    InvalidManifest,
    InvalidSignature,
    InvalidTag,
    ModelMissing,
    RunnerUnavailable,
    StoreError,
    TagExists,
    UnknownDatatype,
)
from store.manifest import Context, ModelInfo
from store.model import Model, set_runner_factory
from store.signature import Signature, TensorSpec, default_method
from store.store import Draft, ModelStore
from store.tag import Tag

__all__ = [
    "Context",
    "CorruptArtifact",
    "Draft",
    "InvalidManifest",
    "InvalidSignature",
    "InvalidTag",
    "Model",
    "ModelInfo",
    "ModelMissing",
    "ModelStore",
    "RunnerUnavailable",
    "Signature",
    "StoreError",
    "Tag",
    "TagExists",
    "TensorSpec",
    "UnknownDatatype",
    "default_method",
    "set_runner_factory",
]
