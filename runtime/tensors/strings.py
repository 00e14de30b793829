"""BYTES tensors: each element is a 32-bit little-endian length and that many bytes, in row-major order.

Source: Open Inference Protocol v2, raw contents; Triton's binary tensor data extension.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import numpy as np

from runtime.errors import ShapeMismatch
from runtime.tensors.layout import Array

_LENGTH: Final = struct.Struct("<I")


def count(buffer: bytes | bytearray | memoryview, *, field: str) -> int:
    """How many elements a raw BYTES tensor holds.

    Raises:
        ShapeMismatch: the buffer ends inside an element.
    """
    at, end, elements = 0, len(buffer), 0
    unpack = _LENGTH.unpack_from
    while at < end - 3:
        at += 4 + unpack(buffer, at)[0]
        elements += 1
    if at != end:
        broken = elements + (at < end)  # the last one counted, unless not even a length was left
        raise ShapeMismatch(
            f"{field}: its bytes end inside element {broken}: each needs a 4-byte length", field=field
        )
    return elements


def decode(buffer: bytes | bytearray | memoryview, elements: int) -> tuple[Array, int]:
    """The first ``elements`` elements as an object array of ``bytes``, and the bytes they took."""
    out = np.empty(elements, dtype=object)
    unpack = _LENGTH.unpack_from
    at = 0
    for index in range(elements):
        start = at + 4
        at = start + unpack(buffer, at)[0]
        out[index] = bytes(buffer[start:at])
    return out, at


def encode(array: Array) -> bytes:
    """The wire form of an array of ``bytes``, ``str`` (as UTF-8) or anything with a ``str``."""
    return encode_all(array.ravel(order="C").tolist())


def encode_all(items: Iterable[object]) -> bytes:
    """The wire form of elements."""
    pack = _LENGTH.pack
    parts: list[bytes] = []
    for item in items:
        if isinstance(item, bytes):
            data = item
        else:
            data = bytes(item) if isinstance(item, bytearray | memoryview) else str(item).encode()
        parts.append(pack(len(data)))
        parts.append(data)
    return b"".join(parts)
