"""Tensor descriptions as ModelCI's users write them, read into specs.

A description is an object with ``shape``, ``dtype`` and perhaps ``name`` (an ``IOShape``), a mapping with
these keys, or a tuple ``(shape, dtype)``. A first extent of -1 is the batch axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import numpy as np

from runtime.convert.reading import InvalidArguments
from store import StoreError, TensorSpec, datatypes
from store.fields import is_int
from store.signature import DYNAMIC

_OF_PYTHON: Final[Mapping[object, str]] = {
    float: "FP32",
    int: "INT32",
    bool: "BOOL",
    str: "BYTES",
    bytes: "BYTES",
}
"""What Python's own types stand for there."""


def specs(given: Iterable[Any], names: Sequence[str] = ()) -> tuple[TensorSpec, ...]:
    """Read descriptions.

    Args:
        given: descriptions, in order.
        names: for those without a name; ``input_0`` … where there are too few.

    Raises:
        InvalidArguments: one cannot be read; its position is named.
    """
    found = []
    for index, one in enumerate(given):
        default = names[index] if index < len(names) else f"input_{index}"
        try:
            found.append(_spec(one, default))
        except (StoreError, InvalidArguments) as error:
            raise InvalidArguments(
                f"tensor {index} cannot be read: {error.message}", field="inputs"
            ) from error
    if not found:
        raise InvalidArguments("there must be one tensor at least", field="inputs")
    return tuple(found)


def is_batchable(tensors: Iterable[TensorSpec]) -> bool:
    """Return whether each has a batch axis: a first extent of -1."""
    return all(spec.shape[:1] == (DYNAMIC,) for spec in tensors)


def _spec(given: Any, default: str) -> TensorSpec:
    if isinstance(given, TensorSpec):
        return given
    if isinstance(given, Mapping):
        name, shape, dtype = given.get("name"), given.get("shape"), given.get("dtype", given.get("datatype"))
    elif isinstance(given, tuple) and len(given) == 2:
        name, (shape, dtype) = None, given
    else:
        name, shape, dtype = (getattr(given, key, None) for key in ("name", "shape", "dtype"))
    if isinstance(shape, str) or not isinstance(shape, Iterable):
        raise InvalidArguments(f"{given!r} has no shape, such as [-1, 3, 224, 224]")
    extents = [DYNAMIC if extent is None else extent for extent in shape]
    if not all(map(is_int, extents)):
        raise InvalidArguments(f"shape {extents!r} must be whole numbers, -1 for what differs")
    return TensorSpec(str(name or default), _datatype(dtype), tuple(extents))


def _datatype(given: Any) -> str:
    """Return the protocol's name of a Python, numpy or torch type, of ModelCI's enumeration, or of a text."""
    if given is None:
        return "FP32"
    if isinstance(given, type) and given in _OF_PYTHON:
        return _OF_PYTHON[given]
    text = given.name if isinstance(given, Enum) else given if isinstance(given, str) else None
    if text is None and not isinstance(given, type | np.dtype):
        text = str(given)  # torch.float32
    if text is not None:
        short = text.rpartition(".")[2].upper().removeprefix("TYPE_")
        short = {"STRING": "BYTES"}.get(short, short)
        if short in datatypes.NAMES:
            return short
        given = short.lower()
    try:
        return "BF16" if given == "bfloat16" else datatypes.from_numpy(np.dtype(given))
    except TypeError:
        raise InvalidArguments(
            f"there is no datatype {text or given!r}; use one of {', '.join(datatypes.NAMES)}"
        ) from None
