"""A gate that models in other processes wait at, so that tests decide when a batch goes on."""

from __future__ import annotations

import queue
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType

import numpy as np

WAIT_S = 30.0


class Visit:
    """One batch that stands at the gate.

    Attributes:
        tags: of its rows, in their order.
    """

    def __init__(self, connection: socket.socket, tags: list[int]) -> None:
        self.tags = tags
        self._connection = connection

    def release(self) -> None:
        """Let it go on."""
        self._connection.close()


class Gate:
    """Listens on a Unix socket; each visit is announced once.

    Attributes:
        path: where models find it.
        seen: the tags of every batch that has come, in the order of their coming.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gate-")
        self.path = Path(self._folder.name, "socket")
        self.seen: list[list[int]] = []
        self._all: list[Visit] = []
        self._visits: queue.Queue[Visit] = queue.Queue()
        self._is_open = False
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    def next(self) -> Visit:
        """The next batch that comes; fails after 30 s."""
        return self._visits.get(timeout=WAIT_S)

    def open(self) -> None:
        """Let everybody through, now and later."""
        with self._lock:
            self._is_open = True
            self._visits = queue.Queue()
            for visit in self._all:
                visit.release()
            self._all.clear()

    def close(self) -> None:
        """Make everybody wait again, beginning with the next."""
        with self._lock:
            self._is_open = False

    def forget(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.seen = []

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the end
                return
            data = b""
            while not data.endswith(b"end") and (more := connection.recv(65536)):
                data += more
            visit = Visit(connection, np.frombuffer(data[:-3], np.int64).tolist())
            with self._lock:
                self._all.append(visit)
                self.seen.append(visit.tags)
                if self._is_open:
                    visit.release()
                else:
                    self._visits.put(visit)

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._folder.cleanup()
