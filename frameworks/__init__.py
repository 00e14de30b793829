"""Adapters: saving, loading and calling models of each framework. ``registry.adapter`` finds one by name."""

from __future__ import annotations

from frameworks.base import Adapter, LoadOptions, Method, SaveArguments
from frameworks.errors import (
    FrameworkError,
    InvalidModel,
    InvalidOutput,
    MissingFramework,
    SampleFailed,
    UnknownModule,
    UnsupportedInput,
    WrongModule,
)
from frameworks.registry import NAMES, adapter
from frameworks.row_errors import RowErrors

__all__ = [
    "NAMES",
    "Adapter",
    "FrameworkError",
    "InvalidModel",
    "InvalidOutput",
    "LoadOptions",
    "Method",
    "MissingFramework",
    "RowErrors",
    "SampleFailed",
    "SaveArguments",
    "UnknownModule",
    "UnsupportedInput",
    "WrongModule",
    "adapter",
]
