"""A non-blocking frame connection between a service process and a worker.

Used by one thread for receiving; sending may come from another one and never waits: what the kernel
does not take at once is kept and flushed when the socket can be written again.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from runtime.errors import WorkerLost
from runtime.tensors.frame import Decoder, Frame, FrameError

INLINE_BYTES: Final = 64 << 10
"""Payloads over this go through the arena: above it the copies into and out of the socket cost more."""
_SOCKET_BYTES: Final = 1 << 20


class Link:
    """One end of the connection.

    Args:
        sock: a connected Unix stream socket; the link owns it.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
        self._socket = sock
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether :meth:`flush` should be called when the socket can be written."""
        return bool(self._unsent)

    def send(self, data: bytes) -> None:
        """Send a frame, or keep what does not fit into the socket now.

        Raises:
            WorkerLost: the other side is gone.
        """
        with self._lock:
            if self._unsent:
                self._unsent += data
                return
            sent = self._write(data)
            if sent < len(data):
                self._unsent += memoryview(data)[sent:]

    def flush(self) -> None:
        """Send more of what was kept.

        Raises:
            WorkerLost: the other side is gone.
        """
        with self._lock:
            sent = self._write(self._unsent)
            del self._unsent[:sent]

    def receive(self) -> list[Frame]:
        """The frames that are whole now; an empty list if none is.

        Raises:
            WorkerLost: the other side is gone or speaks nonsense.
        """
        try:
            count = self._socket.recv_into(self._decoder.buffer())
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise WorkerLost(f"the connection broke: {error}") from error
        if not count:
            raise WorkerLost("the other side closed the connection")
        try:
            return self._decoder.received(count)
        except FrameError as error:
            raise WorkerLost(f"the other side sent no frame: {error}") from error

    def hang_up(self) -> None:
        """End the conversation; whoever receives on either side sees the end of the stream."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; the other side sees the end of the stream."""
        self._socket.close()

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise WorkerLost(f"the connection broke: {error}") from error
