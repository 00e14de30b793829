"""The frame: what a service process and a runner worker say to each other. No I/O here.

One frame carries one batch, its result, or a word about one of the two::

    header (fixed size) | head | rows u32[] | sizes u32[] | payload, unless it lies in the arena

``head``    says what the payload is (method, names, datatypes, shapes) as bytes that are equal for equal
            batch keys: both sides parse a head once and look it up ever after.
``rows``    of a batch: rows of each of its tasks, in order. Of a result: the rows that were executed
            together, and those that the model was given, padding included. Of a refusal or a cancellation:
            which tasks of the batch it is about, by their place in it.
``sizes``   bytes of each variable-size (BYTES) tensor of each task: tensor by tensor, task by task.
``payload`` the tensors, tensor by tensor, and within a tensor task by task, each in wire form. For a
            batch axis of 0 the bytes of a tensor are thus those of the merged tensor.
``ack``     how many result frames the sender has consumed: the receiver may reuse their arena space.
``deadline`` of a batch: the instant by which the last of its callers will have given up, 0 for never.

The frame travels on a stream socket between two processes of the same program on the same machine, so
it has no version; numbers are little-endian. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("<IBBHIIIQQQQQQQQQQ")
HEADER_BYTES: Final = HEADER.size
MAX_FRAME_BYTES: Final = 1 << 30


class Kind(enum.IntEnum):
    """What a frame is.

    A service sends ``EXECUTE``, which the worker answers with ``RESULT``, or with ``FAILURE``, whose head is
    a JSON object: reason, message, field. ``REFUSED`` comes right before the result of the same batch and
    names the tasks that are left out of it; its head is a JSON list with one such object for each.
    ``CANCEL`` comes from a service and names tasks that nobody waits for any more; it is not answered.
    """

    EXECUTE = 1
    RESULT = 2
    FAILURE = 3
    REFUSED = 4
    CANCEL = 5


KEPT: Final = 1
"""Flag of an answer: the model kept a reference to its inputs, so their arena space is never reused."""
JOINED: Final = 2
"""Flag of an answer: its batch was merged with another, whose answer counts for the execution."""
ALONE: Final = 4
"""Flag of a batch: it is executed by itself, never merged with another."""


class Timing(NamedTuple):
    """When a batch was worked on, in nanoseconds of the machine's monotonic clock.

    It was ``received``, merged from ``begun`` on, given to the model at ``started``, returned by it at
    ``executed``, and its outputs lay ready at ``finished``.
    """

    received: int = 0
    started: int = 0
    executed: int = 0
    finished: int = 0
    begun: int = 0


class Frame(NamedTuple):
    """One decoded frame, or one to encode.

    ``payload`` holds the inline payload; with ``offset >= 0`` it is empty and ``length`` bytes lie at
    that offset in the sender's arena.
    """

    kind: int
    batch: int
    head: bytes
    rows: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    payload: bytes | bytearray | memoryview = b""
    offset: int = -1
    length: int = 0
    ack: int = 0
    deadline: int = 0
    flags: int = 0
    timing: Timing = Timing()


class FrameError(Exception):
    """The peer sent something that is no frame; the channel is unusable from here on."""


_NO_OFFSET: Final = (1 << 64) - 1


def encode(frame: Frame, parts: Sequence[bytes | bytearray | memoryview] = ()) -> bytes:
    """Return the bytes of a frame; ``parts`` are joined behind ``frame.payload`` without another copy."""
    kind, batch, head, rows, sizes, payload, offset, length, ack, deadline, flags, timing = frame
    inline = len(payload) + sum(map(len, parts))
    size = len(head) + 4 * (len(rows) + len(sizes)) + inline
    header = HEADER.pack(
        size, kind, flags, 0, len(head), len(rows), len(sizes), batch, ack,
        _NO_OFFSET if offset < 0 else offset, length or inline, deadline, *timing,
    )  # fmt: skip
    if sizes or len(rows) != 1:
        table = struct.pack(f"<{len(rows) + len(sizes)}I", *rows, *sizes)
    else:
        table = rows[0].to_bytes(4, "little")
    return b"".join((header, head, table, payload, *parts))


class Decoder:
    """Turns a byte stream, cut anywhere, into frames.

    Receive into :meth:`buffer` and say with :meth:`received` how much came. A frame's inline payload is
    a ``bytearray`` of its own, writable and safe to keep.
    """

    def __init__(self, capacity: int = 1 << 18) -> None:
        self._buffer = bytearray(capacity)
        self._have = 0

    def buffer(self) -> memoryview:
        """Room for the next receive, never empty."""
        return memoryview(self._buffer)[self._have :]

    def received(self, count: int) -> list[Frame]:
        """Take note of ``count`` new bytes; return the frames that are now whole.

        Raises:
            FrameError: a header announces an impossible frame.
        """
        have = self._have + count
        buffer = self._buffer
        frames: list[Frame] = []
        at = 0
        while have - at >= HEADER_BYTES:
            size = int.from_bytes(buffer[at : at + 4], "little")
            if size > MAX_FRAME_BYTES:
                raise FrameError(
                    f"a frame of {size} bytes is announced; at most {MAX_FRAME_BYTES} are allowed"
                )
            end = at + HEADER_BYTES + size
            if end > have:
                break
            frames.append(_decode(buffer, at, end))
            at = end
        self._keep(at, have)
        return frames

    def _keep(self, at: int, have: int) -> None:
        """Move the incomplete rest to the front and make room for the frame it begins."""
        buffer = self._buffer
        rest = have - at
        if at and rest:
            buffer[:rest] = buffer[at:have]
        self._have = rest
        needed = HEADER_BYTES
        if rest >= 4:
            needed += int.from_bytes(buffer[:4], "little")
        if needed > MAX_FRAME_BYTES + HEADER_BYTES:
            raise FrameError(f"a frame of {needed} bytes is announced; at most {MAX_FRAME_BYTES} are allowed")
        if needed > len(buffer):
            buffer.extend(bytes(needed - len(buffer)))


def _decode(buffer: bytearray, at: int, end: int) -> Frame:
    """Decode the whole frame that lies at ``at``."""
    _, kind, flags, _, head_size, row_count, size_count, batch, ack, offset, length, deadline, *stamps = (
        HEADER.unpack_from(buffer, at)
    )
    body = at + HEADER_BYTES
    table = body + head_size
    payload = table + 4 * (row_count + size_count)
    if payload > end:
        raise FrameError(f"a frame's tables do not fit in its {end - body} bytes")
    head = bytes(buffer[body:table])
    numbers = struct.unpack_from(f"<{row_count + size_count}I", buffer, table)
    return Frame(
        kind, batch, head, numbers[:row_count], numbers[row_count:], buffer[payload:end],
        -1 if offset == _NO_OFFSET else offset, length, ack, deadline, flags, Timing._make(stamps),
    )  # fmt: skip
