"""Requests as they lie in a file: recorded traffic to replay, and what the engine hands its generators.

A recording is the magic line and then entries, each a fixed head (instant in ns, rows, length of the label,
length of the request; little-endian) followed by the label, which is the model's name, and the encoded
``ModelInferRequest``. Instants never fall. Nothing in it is code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from runtime.errors import InvalidInput

MAGIC: Final = b"runtime-recording 1\n"
_HEAD: Final = struct.Struct("<QIHI")
_MAX_LABEL: Final = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One request.

    Attributes:
        data: an encoded ``ModelInferRequest``.
        rows: rows that it asks for.
        label: the model's name.
        at_ns: when it was seen, from the beginning of the recording; 0 for one that was made up.
    """

    data: bytes
    rows: int = 1
    label: str = ""
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Deck:
    """Encoded requests and the order in which they are sent; after its end it begins again.

    Attributes:
        payloads: all different requests.
        order: indexes of payloads.
    """

    payloads: tuple[Payload, ...]
    order: tuple[int, ...]

    @property
    def trace(self) -> tuple[int, ...]:
        """When the requests of a recording were seen: the ``trace`` of the load that replays it."""
        return tuple(self.payloads[index].at_ns for index in self.order)


class Writer:
    """Appends requests to an open binary file, which stays the caller's.

    Concurrency: one thread at a time.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last_ns = 0
        file.write(MAGIC)

    def write(self, payload: Payload) -> None:
        """Append one request.

        Raises:
            ValueError: its instant lies before the last one, or its label is too long.
        """
        label = payload.label.encode()
        if payload.at_ns < self._last_ns:
            raise ValueError(f"{payload.at_ns} ns lies before the last request, {self._last_ns} ns")
        if len(label) > _MAX_LABEL:
            raise ValueError(f"a label has at most {_MAX_LABEL} bytes")
        self._last_ns = payload.at_ns
        self._file.write(_HEAD.pack(payload.at_ns, payload.rows, len(label), len(payload.data)))
        self._file.write(label)
        self._file.write(payload.data)


def write_all(file: BinaryIO, payloads: Iterable[Payload]) -> None:
    """Write a whole recording; see :class:`Writer`."""
    writer = Writer(file)
    for payload in payloads:
        writer.write(payload)


def read(file: BinaryIO, name: str = "the recording") -> Iterator[Payload]:
    """The requests of a recording, in order.

    Raises:
        InvalidInput: it is no recording, or it ends inside a request.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise InvalidInput(f"{name} is no recording of requests", field="replay")
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise _truncated(name)
        at_ns, rows, label_bytes, data_bytes = _HEAD.unpack(head)
        label, data = file.read(label_bytes), file.read(data_bytes)
        if len(label) < label_bytes or len(data) < data_bytes:
            raise _truncated(name)
        yield Payload(data=data, rows=rows, label=label.decode(errors="replace"), at_ns=at_ns)


def _truncated(name: str) -> InvalidInput:
    return InvalidInput(f"{name} ends inside a request", field="replay")
