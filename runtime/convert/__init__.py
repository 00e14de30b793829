"""Conversion as a Python face: ``from runtime import convert as nav`` and ``nav.torch.export(...)``.

Names, arguments and defaults are those of the export documentation of NVIDIA's Model Navigator 0.3, and the
converters those of ModelCI. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from frameworks.convert.formats import (
        Exporter,
        Format,
        JitType,
        RuntimeProvider,
        Status,
        TensorRTPrecision,
    )
    from frameworks.convert.isolate import Limits
    from runtime.convert import contrib, tensorflow, torch
    from runtime.convert.converters import ONNXConverter, TFSConverter, TorchScriptConverter, TRTConverter
    from runtime.convert.descriptor import PackageDescriptor
    from runtime.convert.packages import load, profile, save
    from runtime.convert.profiler_config import ProfilerConfig
    from runtime.profiling.stability import MeasurementMode

__all__ = [
    "Exporter",
    "Format",
    "JitType",
    "Limits",
    "MeasurementMode",
    "ONNXConverter",
    "PackageDescriptor",
    "ProfilerConfig",
    "RuntimeProvider",
    "Status",
    "TFSConverter",
    "TRTConverter",
    "TensorRTPrecision",
    "TorchScriptConverter",
    "contrib",
    "load",
    "profile",
    "save",
    "tensorflow",
    "torch",
]

_MODULES: Final = ("contrib", "tensorflow", "torch")
_OBJECTS: Final = {
    "Exporter": "frameworks.convert.formats",
    "Format": "frameworks.convert.formats",
    "JitType": "frameworks.convert.formats",
    "Limits": "frameworks.convert.isolate",
    "MeasurementMode": "runtime.profiling.stability",
    "ONNXConverter": "runtime.convert.converters",
    "PackageDescriptor": "runtime.convert.descriptor",
    "ProfilerConfig": "runtime.convert.profiler_config",
    "RuntimeProvider": "frameworks.convert.formats",
    "Status": "frameworks.convert.formats",
    "TFSConverter": "runtime.convert.converters",
    "TRTConverter": "runtime.convert.converters",
    "TensorRTPrecision": "frameworks.convert.formats",
    "TorchScriptConverter": "runtime.convert.converters",
    "load": "runtime.convert.packages",
    "profile": "runtime.convert.packages",
    "save": "runtime.convert.packages",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used.

    Raises:
        AttributeError: there is no such name.
    """
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _OBJECTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_OBJECTS[name]), name)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
