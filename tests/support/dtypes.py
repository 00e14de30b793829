"""One array per protocol datatype, with the values that conversions tend to lose."""

from __future__ import annotations

from typing import Any

import numpy as np

from store import datatypes


def edge_array(name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Return a ``[3, 2]`` array of a datatype: extremes, denormals and infinities, or odd byte strings."""
    if name == "BYTES":
        array = np.empty((3, 2), dtype=object)
        array[:] = [[b"", b"plain"], ["ünïcode".encode(), b"end\x00"], [b"\x00", b"x" * 300]]
        return array
    dtype = datatypes.numpy_dtype(name)
    if name == "BOOL":
        return np.array([[True, False], [False, False], [True, True]])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)  # type: ignore[type-var]
        return np.array([[info.min, info.max], [0, 1], [info.max - 1, 7]], dtype=dtype)
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[dtype.itemsize]
    size = dtype.itemsize * 8
    sign, denormal = 1 << (size - 1), 1
    one = int(np.ones(1, dtype).view(bits)[0])
    infinity = int(np.full(1, np.inf, dtype).view(bits)[0])
    values = [[one, sign], [denormal, sign | denormal], [infinity, sign | infinity]]
    return np.array(values, dtype=bits).view(dtype)
