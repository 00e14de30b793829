"""Turning what a model returns, or what a user gives as a sample, into arrays that travel.

Invariants: values and datatypes are never changed; the result is C-contiguous and in native byte order;
text and byte strings become object arrays of ``bytes``.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np

from frameworks.errors import InvalidOutput
from store import datatypes
from store.errors import UnknownDatatype

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Arrays: TypeAlias = dict[str, Array]

_PLAIN: Final = frozenset(datatypes.numpy_dtype(name) for name in datatypes.NAMES if name != "BYTES")


def as_array(value: object) -> Array:
    """Return the array for an array-like value: array, number, text, or nested lists of them.

    The result shares memory with the value where it can.

    Raises:
        InvalidOutput: ragged, of a datatype without a protocol name, or no array at all.
    """
    if type(value) is np.ndarray and value.flags.c_contiguous and value.dtype in _PLAIN:
        return value
    try:
        array = np.asarray(value)
        if array.dtype.kind in "SU" and not isinstance(value, np.ndarray | np.generic):
            # numpy's own text types drop trailing zero bytes and mix text with bytes: keep the objects.
            array = np.asarray(value, dtype=object)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidOutput(f"a {type(value).__name__} is no tensor: {error}") from error
    if array.dtype.kind in "OSUT":
        return _as_bytes(array)
    try:
        datatypes.from_numpy(array.dtype)
    except UnknownDatatype as error:
        raise InvalidOutput(error.message) from error
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.c_contiguous else np.array(array, order="C")


def _as_bytes(array: Array) -> Array:
    items = array.astype(object).ravel().tolist()
    packed = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        packed[index] = _item_bytes(item)
    return packed.reshape(array.shape)


def _item_bytes(item: object) -> bytes:
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError as error:
            raise InvalidOutput(f"text that has no UTF-8 form: {error}") from error
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    raise InvalidOutput(f"a {type(item).__name__} is neither a number nor a string")
