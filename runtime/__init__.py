"""The public face: ``import runtime`` and everything is an attribute away.

Nothing heavy is imported before it is used: adapters import their framework, clients gRPC. Importing the
package also makes ``to_runner`` of saved models work, whenever the store is imported.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from frameworks import (
        RowErrors,
        jax,
        lightgbm,
        onnx,
        python,
        pytorch,
        sklearn,
        tensorflow,
        tensorrt,
        torch_export,
        torchscript,
        transformers,
        xgboost,
    )
    from runtime import convert, models
    from runtime.client import AsyncClient, Client
    from runtime.runner.local import Runner
    from store import Model, Tag

__all__ = [
    "AsyncClient",
    "Client",
    "Model",
    "RowErrors",
    "Runner",
    "Tag",
    "__version__",
    "convert",
    "jax",
    "lightgbm",
    "models",
    "onnx",
    "python",
    "pytorch",
    "sklearn",
    "tensorflow",
    "tensorrt",
    "torch_export",
    "torchscript",
    "transformers",
    "xgboost",
]

_MODULES: Final = {
    "convert": "runtime.convert",
    "models": "runtime.models",
    "jax": "frameworks.jax",
    "lightgbm": "frameworks.lightgbm",
    "onnx": "frameworks.onnx",
    "python": "frameworks.python",
    "pytorch": "frameworks.pytorch",
    "sklearn": "frameworks.sklearn",
    "tensorflow": "frameworks.tensorflow",
    "tensorrt": "frameworks.tensorrt",
    "torch_export": "frameworks.torch_export",
    "torchscript": "frameworks.torchscript",
    "transformers": "frameworks.transformers",
    "xgboost": "frameworks.xgboost",
}
_OBJECTS: Final = {
    "AsyncClient": "runtime.client",
    "Client": "runtime.client",
    "Model": "store",
    "RowErrors": "frameworks",
    "Runner": "runtime.runner.local",
    "Tag": "store",
}

_STORE: Final = "store.model"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used.

    Raises:
        AttributeError: there is no such name.
        MissingFramework: the adapter's library is not installed; the message names the extra.
    """
    if name in _MODULES:
        value: Any = importlib.import_module(_MODULES[name])
    elif name in _OBJECTS:
        value = getattr(importlib.import_module(_OBJECTS[name]), name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("runtime-serving")
    except metadata.PackageNotFoundError:  # used from a source tree
        return "0+unknown"


class _StoreFinder:
    """Sees the store being imported, steps aside, and lends it our runners once it is there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as it would be found without us."""
        if fullname != _STORE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_lend(module: ModuleType) -> None:
            execute(module)
            _lend_runners(module)

        spec.loader.exec_module = execute_and_lend  # type: ignore[method-assign]
        return spec


def _lend_runners(store_model: ModuleType) -> None:
    store_model.set_runner_factory(_make_runner)


def _make_runner(model: Model, /, **options: object) -> object:
    from runtime.runner.local import Runner

    return Runner(model, **options)


if _STORE in sys.modules:
    _lend_runners(sys.modules[_STORE])
else:
    sys.meta_path.insert(0, _StoreFinder())
