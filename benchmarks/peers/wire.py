"""The few protobuf messages of foreign protocols, written and read without their generated code.

Only what the requests and answers of the peers need: nested messages, bytes, strings, small numbers. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

Value = int | bytes


def varint(value: int) -> bytes:
    """Encode a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(*fields: tuple[int, Value | str]) -> bytes:
    """Encode fields, ``(number, value)``: numbers as varints, all else by length."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3 | VARINT) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | LENGTH) + varint(len(data)) + data
    return bytes(out)


def packed(values: Iterable[int]) -> bytes:
    """Encode a repeated number, as the value of its field."""
    return b"".join(map(varint, values))


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Decode one level: numbers as they are, everything else as bytes.

    Raises:
        ValueError: this is no message.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == LENGTH:
            size, at = _varint(data, at)
        elif kind in {FIXED32, FIXED64}:
            size = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} of field {number}")
        if at + size > len(data):
            raise ValueError(f"field {number} is cut off")
        yield number, data[at : at + size]
        at += size


def field(data: bytes, *path: int) -> bytes:
    """Return the last value with this path of field numbers.

    Raises:
        ValueError: there is none, or it is a number.
    """
    for number in path:
        found = [value for key, value in fields(data) if key == number]
        if not found or isinstance(found[-1], int):
            raise ValueError(f"no field {number}")
        data = found[-1]
    return data


def framed(data: bytes) -> bytes:
    """Return a message as gRPC frames it, not compressed."""
    return b"\0" + struct.pack(">I", len(data)) + data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("a number is cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
