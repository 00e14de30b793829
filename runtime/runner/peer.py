"""The worker's end of the way to one service process."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import weakref
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import MemoryExhausted, RuntimeServingError
from runtime.runner import reports
from runtime.runner.link import INLINE_BYTES, Link
from runtime.runner.splitting import NOBODY, Refused, Share
from runtime.tensors.arena import Allocator, Arena
from runtime.tensors.frame import JOINED, KEPT, Frame, Kind, Timing, encode

log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """A share that no longer refers to the model's arrays: in the arena, or inline, or a failure.

    ``refused`` are the tasks that are left out of it.
    """

    kind: Kind
    head: bytes
    sizes: list[int]
    payload: bytes
    offset: int
    length: int
    refused: Refused = NOBODY

    def frame(
        self, batch: int, rows: tuple[int, ...], timing: Timing, *, kept: bool, joined: bool = False
    ) -> bytes:
        """The encoded answer, behind the refusal of the tasks that are left out."""
        kind, head, sizes, payload, offset, length, refused = self
        answer = encode(
            Frame(
                kind, batch, head, rows, tuple(sizes), payload, offset, length, 0, 0,
                KEPT * kept | JOINED * joined, timing,
            )
        )  # fmt: skip
        if not refused:
            return answer
        errors = reports.encode_all(refused.values())
        return encode(Frame(Kind.REFUSED, batch, errors, tuple(refused))) + answer


class Peer:
    """One service process.

    Args:
        name: of the service, for logs.
        sock: stream socket to it.
        incoming: descriptor of the arena that the service writes.
        outgoing: descriptor of the arena that this side writes.
    """

    def __init__(self, name: str, sock: socket.socket, incoming: int, outgoing: int) -> None:
        self.name = name
        self.link = Link(sock)
        self.open = True
        self._theirs = Arena(incoming)
        self._ours = Arena(outgoing)
        self._allocator = Allocator(self._ours.size)
        self._answered = 0
        self._unread: deque[tuple[int, int]] = deque()
        self._copying = False
        self._lent: dict[int, weakref.ref[NDArray[np.uint8]]] = {}

    def receive(self) -> list[Frame]:
        """The batches and cancellations that have come; their acks free what the service has read.

        Raises:
            WorkerLost: the service is gone.
        """
        frames = self.link.receive()
        unread = self._unread
        for frame in frames:
            while unread and unread[0][0] <= frame.ack:
                self._allocator.free(unread.popleft()[1])
        return frames

    def payload(self, frame: Frame) -> memoryview | bytearray:
        """A batch's inputs: where they lie in the arena, or a copy if the model keeps its inputs."""
        if frame.offset < 0:
            return frame.payload  # type: ignore[return-value]  # the decoder makes bytearrays
        if self._copying:
            return bytearray(self._theirs.view[frame.offset : frame.offset + frame.length])
        lent = np.frombuffer(self._theirs.view, np.uint8, frame.length, frame.offset)
        self._lent[frame.batch] = weakref.ref(lent)
        return lent.data

    def is_kept(self, frame: Frame, payload: memoryview | bytearray) -> bool:
        """Whether somebody still refers to a batch's inputs in the arena now that the batch is over.

        A model that keeps its inputs (a cache, a history) would see them change when the space is reused:
        this space is then given up, and later batches are copied before the model sees them.
        """
        if frame.offset < 0 or not isinstance(payload, memoryview):
            return False
        lent = self._lent.pop(frame.batch)
        with contextlib.suppress(BufferError):  # arrays hold on to what the view shows, others to the view
            payload.release()
        if lent() is None:
            return False
        gc.collect()
        if lent() is None:
            return False
        log.warning(
            "model_keeps_inputs", extra={"service": self.name, "effect": "inputs are copied from now on"}
        )
        self._copying = True
        return True

    def store(self, share: Share) -> Stored:
        """Copy a share's outputs to where the service will read them."""
        length = sum(map(len, share.parts))
        self._answered += 1
        if length <= INLINE_BYTES:
            return Stored(Kind.RESULT, share.head, share.sizes, b"".join(share.parts), -1, 0, share.refused)
        offset = self._allocator.allocate(length)
        if offset is None:
            error = MemoryExhausted(
                f"outputs of {length} bytes do not fit into the arena of {self._ours.size} bytes"
            )
            return Stored(Kind.FAILURE, reports.encode(error), [], b"", -1, 0)
        at = offset
        for part in share.parts:
            end = at + len(part)
            self._ours.view[at:end] = part
            at = end
        self._unread.append((self._answered, offset))
        return Stored(Kind.RESULT, share.head, share.sizes, b"", offset, length, share.refused)

    def refusal(self, batch: int, error: RuntimeServingError, timing: Timing, *, kept: bool = False) -> bytes:
        """The encoded answer that a batch failed."""
        self._answered += 1
        stored = Stored(Kind.FAILURE, reports.encode(error), [], b"", -1, 0)
        return stored.frame(batch, (), timing, kept=kept)

    def close(self) -> None:
        """Close the connection and unmap the arenas."""
        self.open = False
        self.link.close()
        self._theirs.close()
        self._ours.close()
