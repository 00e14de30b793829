"""The table of Open Inference Protocol datatypes and their numpy counterparts.

Every part that names a datatype (signatures, wire codec, clients) reads this table. numpy is imported on
first use, so that listing models stays quick. BYTES is a numpy object array of ``bytes``.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from store.errors import UnknownDatatype

if TYPE_CHECKING:
    import numpy as np

_ITEMSIZES: Final = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BF16": 2,
    "BYTES": 0,
}
_NUMPY_NAMES: Final = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object"}
_PREFIXES: Final = {"u": "UINT", "i": "INT", "f": "FP"}

NAMES: Final[tuple[str, ...]] = tuple(_ITEMSIZES)
"""Every datatype, in the protocol's order."""


def itemsize(name: str) -> int:
    """Return the bytes per element; 0 means variable (BYTES).

    Raises:
        UnknownDatatype: ``name`` is not in ``NAMES``.
    """
    try:
        return _ITEMSIZES[name]
    except KeyError:
        raise _unknown(name) from None


@functools.cache
def numpy_dtype(name: str) -> np.dtype[np.generic[object]]:
    """Return the numpy dtype, in native byte order, that holds the datatype without loss.

    Raises:
        UnknownDatatype: ``name`` is not in ``NAMES``.
    """
    import numpy as np

    if name not in _ITEMSIZES:
        raise _unknown(name)
    if name == "BF16":
        import ml_dtypes

        brain_float: np.dtype[np.generic[object]] = np.dtype(ml_dtypes.bfloat16)
        return brain_float
    return np.dtype(_NUMPY_NAMES.get(name, name.lower()))


@functools.lru_cache(maxsize=256)
def from_numpy(dtype: np.dtype[np.generic[object]]) -> str:
    """Return the datatype that holds a numpy dtype; byte order is not looked at.

    Text, byte strings and objects are BYTES; whether each object is a string is for the encoder to check.

    Raises:
        UnknownDatatype: no datatype holds it, for example complex numbers or dates.
    """
    if dtype.name == "bfloat16":
        return "BF16"
    if dtype.kind in "OSUT":
        return "BYTES"
    name = "BOOL" if dtype.kind == "b" else f"{_PREFIXES.get(dtype.kind, dtype.kind)}{dtype.itemsize * 8}"
    if name not in _ITEMSIZES:
        raise UnknownDatatype(
            f"numpy dtype {dtype.name!r} has no tensor datatype; cast it to one of {_listed()}"
        )
    return name


def _unknown(name: str) -> UnknownDatatype:
    return UnknownDatatype(f"unknown datatype {name!r}; the datatypes are {_listed()}")


def _listed() -> str:
    return ", ".join(NAMES)
