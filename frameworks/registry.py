"""Adapters by the module name that stands in a manifest, imported when they are first asked for.

A worker imports exactly the one adapter, and so the one framework, that its model needs.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Final, cast

from frameworks.base import Adapter, missing
from frameworks.errors import UnknownModule


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an adapter is, which import it needs and which extra brings it."""

    path: str
    library: str
    extra: str


_ENTRIES: Final = {
    "python": _Entry("frameworks.python", "cloudpickle", ""),
    "sklearn": _Entry("frameworks.sklearn", "sklearn", "sklearn"),
    "pytorch": _Entry("frameworks.pytorch", "torch", "torch"),
    "torchscript": _Entry("frameworks.torchscript", "torch", "torch"),
    "torch_export": _Entry("frameworks.torch_export", "torch", "torch"),
    "onnx": _Entry("frameworks.onnx", "onnxruntime", "onnx"),
    "tensorflow": _Entry("frameworks.tensorflow", "tensorflow", "tensorflow"),
    "tensorrt": _Entry("frameworks.tensorrt", "numpy", "tensorrt"),
    "xgboost": _Entry("frameworks.xgboost", "xgboost", "xgboost"),
    "lightgbm": _Entry("frameworks.lightgbm", "lightgbm", "lightgbm"),
    "transformers": _Entry("frameworks.transformers", "transformers", "transformers"),
    "jax": _Entry("frameworks.jax", "jax", "jax"),
}

NAMES: Final[tuple[str, ...]] = tuple(_ENTRIES)
"""Every module name, installed or not."""


def adapter(name: str) -> Adapter:
    """Return the adapter of a module name.

    Raises:
        UnknownModule: no adapter has the name; the known ones are listed.
        MissingFramework: its library is not installed; the extra to install is named.
    """
    entry = _ENTRIES.get(name)
    if entry is None:
        raise UnknownModule(f"no adapter is named {name!r}; there are {', '.join(NAMES)}", field="module")
    if importlib.util.find_spec(entry.library) is None:
        raise missing(entry.library, entry.extra)
    return cast(Adapter, importlib.import_module(entry.path))
