"""Writing and reading Python objects by value: code that a worker cannot import travels with the object.

cloudpickle stores what is defined in ``__main__`` by value of its own accord; modules that are named here
are treated likewise for the time of one dump. Reading runs code from the file: check its digest before.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import cloudpickle

from frameworks.errors import InvalidModel

PROTOCOL: Final = 5

_registry_lock: Final = threading.Lock()
"""cloudpickle's list of modules is global."""


def dump(value: object, path: Path, modules: Sequence[ModuleType] = ()) -> None:
    """Write an object; definitions from ``modules`` are stored by value.

    Raises:
        Exception: whatever the object's own pickling raises.
    """
    with by_value(modules), path.open("wb") as file:
        cloudpickle.dump(value, file, protocol=PROTOCOL)


def load(path: Path) -> Any:
    """Read an object back.

    Raises:
        InvalidModel: it needs a module that cannot be imported here; the message says what to do.
    """
    with path.open("rb") as file, readable_imports():
        return pickle.load(file)  # noqa: S301 -- the digest was checked


@contextmanager
def by_value(modules: Sequence[ModuleType]) -> Iterator[None]:
    """Store definitions from these modules by value while the block runs.

    Concurrency: one block with modules at a time; others wait.
    """
    if not modules:
        yield
        return
    with _registry_lock:
        added = [
            module for module in modules if module.__name__ not in cloudpickle.list_registry_pickle_by_value()
        ]
        for module in added:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in added:
                cloudpickle.unregister_pickle_by_value(module)


@contextmanager
def readable_imports() -> Iterator[None]:
    """Turn a failed import while unpickling into an error that says how to save the model instead.

    Raises:
        InvalidModel: the block needed a module that is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InvalidModel(
            f"the model needs the module {error.name!r}, which cannot be imported here; "
            f"install it, or save the model with external_modules=[{error.name}]",
            field="external_modules",
        ) from error
