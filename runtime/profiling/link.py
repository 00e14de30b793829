"""What a generator process and the engine say to each other, on top of ``runner.control``.

::

    engine    → order (descriptors: JSON of the order, recording of the requests)
    generator → ready | failed(kind, reason)
    engine    → start(at_ns)
    generator → tick, about every 100 ms: binary, because a JSON list would hold up the sends
    engine    → stop, at any time
    generator → result (descriptor: JSON)

Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.runner import control

TICK_NS: Final = 100_000_000
_TICK: Final = struct.Struct("<qqq")
_JSON_START: Final = b"{"[0]
_MAX_VALUES: Final = 1 << 16
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Tick:
    """What happened in one process up to an instant, since the tick before.

    Attributes:
        at_ns: the instant.
        not_ok: answers other than OK.
        in_flight: calls open at that instant.
        responses: response times in ns of the OK answers.
    """

    at_ns: int
    not_ok: int
    in_flight: int
    responses: array[int] = field(default_factory=lambda: array("q"))

    def encode(self) -> Iterator[bytes]:
        """One message, or several when a stopped server has answered all at once."""
        head = _TICK.pack(self.at_ns, self.not_ok, self.in_flight)
        yield b"T" + head + self.responses[:_MAX_VALUES].tobytes()
        for at in range(_MAX_VALUES, len(self.responses), _MAX_VALUES):
            rest = self.responses[at : at + _MAX_VALUES].tobytes()
            yield b"T" + _TICK.pack(self.at_ns, 0, self.in_flight) + rest

    @classmethod
    def decode(cls, data: bytes) -> Tick:
        """The tick, or part of one, that :meth:`encode` wrote."""
        responses = array("q")
        responses.frombytes(data[1 + _TICK.size :])
        at_ns, not_ok, in_flight = _TICK.unpack_from(data, 1)
        return cls(at_ns, not_ok, in_flight, responses)


Received = Tick | dict[str, Any]


def receive(sock: socket.socket) -> tuple[Received, list[int]] | None:
    """The next message with its descriptors; None at the end of the stream."""
    try:
        data, descriptors, _, _ = socket.recv_fds(sock, _MAX_BYTES, 4)
    except ConnectionError:
        return None
    if not data:
        return None
    return (json.loads(data) if data[0] == _JSON_START else Tick.decode(data)), list(descriptors)


def send_document(sock: socket.socket, message: control.Message, *documents: bytes | int) -> None:
    """Send a message with documents of any size: bytes, or descriptors of files that hold them."""
    files = [document if isinstance(document, int) else memory_file(document) for document in documents]
    try:
        control.send(sock, message, files)
    finally:
        for file, document in zip(files, documents, strict=True):
            if not isinstance(document, int):
                os.close(file)


def memory_file(content: bytes = b"") -> int:
    """A file without a name, the caller's to close."""
    file = os.memfd_create("profile", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(file), "wb") as writer:
        writer.write(content)
    return file


def read_document(descriptor: int) -> Any:
    """The JSON document in a file, which is closed."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return json.load(file)
