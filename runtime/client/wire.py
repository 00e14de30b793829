"""Takes serialized protobuf messages apart, and puts them together, without copying large fields.

The generated classes copy each ``bytes`` field on the way in and on the way out. Tensors are such
fields, so the codec lets the generated classes handle everything but the tensors and does the rest
here. Serialized fields may stand in any order, and messages may be joined by concatenation: that is
what makes the split legal.

Source: protobuf's encoding specification. Groups (wire types 3 and 4) do not occur in proto3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runtime.tensors.wire import varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LENGTH_DELIMITED: Final = 2
_MAX_VARINT_BYTES: Final = 10


class WireError(ValueError):
    """The bytes are not a protobuf message."""


def fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview, int, int]]:
    """Yield ``(number, value, start, end)`` of each field of a message, nested ones left closed.

    ``value`` is a number, or a view for everything that is not a varint; ``start`` and ``end`` are the
    extent of the whole field, tag included.

    Raises:
        WireError: the message is cut short or has an unknown wire type.
    """
    view = memoryview(message)
    at = 0
    while at < len(view):
        start = at
        tag, at = _varint(view, at)
        value: int | memoryview
        match tag & 7:
            case 0:  # varint
                value, at = _varint(view, at)
                yield tag >> 3, value, start, at
                continue
            case 1:  # fixed 64 bits
                size = 8
            case 2:  # bytes, strings, messages, packed numbers
                size, at = _varint(view, at)
            case 5:  # fixed 32 bits
                size = 4
            case other:
                raise WireError(f"wire type {other} at byte {start}")
        if size > len(view) - at:
            raise WireError(f"the field at byte {start} is cut short")
        value, at = view[at : at + size], at + size
        yield tag >> 3, value, start, at


def split(message: bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """Separate the repeated ``bytes`` field ``number`` from the rest of a message.

    Returns:
        The message without the field, and views of the field's values on ``message``, in order.

    Raises:
        WireError: the bytes are no message, or the field is not of type ``bytes``.
    """
    view = memoryview(message)
    rest: list[memoryview] = []
    values: list[memoryview] = []
    for found, value, start, end in fields(message):
        if found != number:
            rest.append(view[start:end])
        elif isinstance(value, memoryview):
            values.append(value)
        else:
            raise WireError(f"field {number} is a number")
    return b"".join(rest), values


def join(message: bytes, number: int, values: Iterable[bytes | memoryview]) -> bytes:
    """Append values of the repeated ``bytes`` field ``number`` to a message, each copied once.

    ``len(value)`` must be the count of bytes: views have to be of bytes.
    """
    tag = varint(number << 3 | _LENGTH_DELIMITED)
    parts: list[bytes | memoryview] = [message]
    for value in values:
        parts += (tag, varint(len(value)), value)
    return b"".join(parts)


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    result = 0
    for index, byte in enumerate(view[at : at + _MAX_VARINT_BYTES]):
        result |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return result, at + index + 1
    raise WireError(f"no number at byte {at}")
