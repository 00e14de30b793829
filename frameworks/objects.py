"""Artifacts and methods of pickled Python objects; shared by the adapters whose models are such objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from frameworks import pickling
from frameworks.arrays import Array, as_array
from frameworks.calling import Caller
from frameworks.errors import InvalidModel
from store import Signature

ARTIFACT: Final = "model.pkl"
CALL: Final = "__call__"


def read(folder: Path) -> Any:
    """Return the object that ``pickling.dump`` wrote below ``folder``."""
    return pickling.load(folder / ARTIFACT)


def function_of(model: Any, method: str) -> Callable[..., object]:
    """Return what a method name stands for; ``__call__`` is the object itself.

    Raises:
        InvalidModel: the object has no such method.
    """
    function: object = model if method == CALL else getattr(model, method, None)
    if not callable(function):
        raise InvalidModel(f"a {type(model).__name__} has no method {method!r}", field=f"signatures.{method}")
    return function


def bind(
    model: Any, signatures: Mapping[str, Signature], out: Callable[[object], Array] = as_array
) -> dict[str, Caller]:
    """Return one caller per method.

    Raises:
        InvalidModel: a method is missing.
    """
    return {
        name: Caller(function_of(model, name), signature, out=out) for name, signature in signatures.items()
    }
