"""Exports for particular providers of models; each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runtime.convert.contrib import huggingface

__all__ = ["huggingface"]

_MODULES: Final = ("huggingface",)


def __getattr__(name: str) -> Any:
    """Import a provider's module.

    Raises:
        AttributeError: there is no such name.
        MissingFramework: its library is not installed; the message names the extra.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
