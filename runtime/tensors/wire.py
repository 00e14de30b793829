"""Cuts infer requests and builds infer responses at the level of protobuf's wire format.

A request's tensors (``raw_input_contents``) and its ``id`` differ from call to call, the rest hardly ever.
:func:`split` separates them without parsing or copying, so that the rest, the *head*, can be looked up
in a table of requests that were parsed and validated before. The head is itself a valid
``ModelInferRequest``: protobuf defines the concatenation of encoded messages as their merge.

Source: protobuf encoding specification; field numbers of Open Inference Protocol v2.
"""

from __future__ import annotations

from typing import Final

from runtime.errors import InvalidInput

Buffer = bytes | bytearray | memoryview

COPY_BELOW: Final = 1 << 14
"""Tensors up to this size are copied out of the request: cheaper than the bookkeeping of a view."""

_SCATTERED: Final = 4096
"""A head of more bytes to which yet another piece is added is left to protobuf: no client sends such, and
putting thousands of pieces together one by one would stop the server for minutes."""

_LENGTH_DELIMITED: Final = 2
_REQUEST_ID: Final = 3 << 3 | _LENGTH_DELIMITED
_RAW_INPUT: Final = 7 << 3 | _LENGTH_DELIMITED
_RAW_OUTPUT: Final = bytes((6 << 3 | _LENGTH_DELIMITED,))
_RESPONSE_ID: Final = bytes((3 << 3 | _LENGTH_DELIMITED,))


Cut = tuple[bytes, bytes, list[Buffer]]
"""An infer request in three pieces: the head, which is the request without the others, the encoded id, and
the raw tensors."""


def split(data: bytes) -> Cut | None:  # noqa: C901, PLR0912  # one loop, on the way of every request
    """Cut a ``ModelInferRequest``; None if it must be parsed: for its order or for unknown fields.

    Raises:
        InvalidInput: the bytes end inside a field.
    """
    end = len(data)
    at = kept = 0
    head = identity = b""
    raws: list[Buffer] = []
    view = memoryview(data) if end > COPY_BELOW else data
    try:
        while at < end:
            start = at
            tag = data[at]
            size = data[at + 1]
            at += 2
            if size >= 0x80:
                if tag & 0x87 != _LENGTH_DELIMITED:
                    return None
                size, at = _varint(data, at - 1)
            body = at
            at += size
            if tag == _RAW_INPUT:
                if at > end:
                    break
                raws.append(data[body:at] if size <= COPY_BELOW else view[body:at])
            elif tag == _REQUEST_ID:
                identity = data[body:at]
            elif tag & 0x87 == _LENGTH_DELIMITED:
                continue
            else:
                return None
            if start > kept:
                if len(head) > _SCATTERED:
                    return None
                head += data[kept:start]
            kept = at
    except IndexError:
        raise _truncated() from None
    if at > end:
        raise _truncated()
    if end > kept:
        head += data[kept:end]
    return head, identity, raws


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            raise _truncated()
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _truncated() -> InvalidInput:
    return InvalidInput("the request ends inside a field", field="request")


def varint(value: int) -> bytes:
    """The encoding of a non-negative number."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(content)) + content


def raw_output_header(size: int) -> bytes:
    """What precedes ``size`` bytes of an output tensor in a ``ModelInferResponse``."""
    return _RAW_OUTPUT + varint(size)


def response_id(identity: bytes) -> bytes:
    """The id field of a ``ModelInferResponse``; may stand anywhere in the message."""
    return _RESPONSE_ID + varint(len(identity)) + identity if identity else b""
