"""The generator processes of one run, as the engine sees them: started together, started off together."""

from __future__ import annotations

import functools
import io
import json
import logging
import mmap
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from runtime.clock import MILLISECOND, SECOND, now_ns
from runtime.errors import NotReady, WorkerLost
from runtime.profiling import link, recording
from runtime.profiling.recording import Deck
from runtime.profiling.records import Load
from runtime.profiling.target import Target
from runtime.runner import control

log = logging.getLogger(__name__)

MODULE: Final = "runtime.profiling.generator"
CONNECT_S: Final = 10.0
_READY_S: Final = 30.0
_START_DELAY_NS: Final = 20 * MILLISECOND
"""From the word to start until the first send, so that all processes begin together."""

_ROOT: Final = Path(__file__).resolve().parents[2]
_EXPERIMENT: Final = "event_engine_client"
"""Switched off, the thread that takes answers reads the socket itself: 30 us a request, not 45 (grpcio
1.85)."""


class SenderUnusable(Exception):
    """The fast sender does not work with the installed grpcio."""


class Fleet:
    """The generator processes of one run.

    ::

        starting --wait_ready--> ready --start--> running --results of all--> over

    Use as a context manager: at its end no process is left.

    Args:
        target: the server.
        load: the whole load.
        deck: what is sent.
        window_ns: length of the windows.
        sender: ``core`` or ``public``.
    """

    def __init__(self, target: Target, load: Load, deck: Deck, window_ns: int, sender: str) -> None:
        order = {
            "target": target.to_dict(),
            "load": load.to_dict(),
            "window_ns": window_ns,
            "deck_order": deck.order,
            "connect_s": CONNECT_S,
            "sender": sender,
        }
        self._selector = selectors.DefaultSelector()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []
        self._url = target.url
        requests = link.memory_file(_encoded(deck))
        try:
            for share in range(load.processes):
                self._spawn({**order, "share": share}, requests)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(requests)

    def wait_ready(self) -> None:
        """Wait until each process is connected.

        Raises:
            SenderUnusable: the fast sender failed its trial, or a process died of it.
            NotReady: nobody answers at the target.
        """
        waiting = set(range(len(self._processes)))
        end_ns = now_ns() + round(_READY_S * SECOND)
        while waiting:
            if now_ns() > end_ns:
                raise SenderUnusable(f"a generator was not ready within {_READY_S:g} s")
            for share, message, _ in self.receive(0.5):
                if not isinstance(message, dict):
                    raise SenderUnusable("a generator died before it was ready")
                if message["type"] == "failed":
                    self._refuse(message)
                waiting.discard(share)

    def start(self) -> int:
        """Start the load; returns the instant of its beginning."""
        at_ns = now_ns() + _START_DELAY_NS
        for sock in self._sockets:
            _tell(sock, {"type": "start", "at_ns": at_ns})
        return at_ns

    def stop(self) -> None:
        """Ask all processes to send no more; their results still come."""
        for sock in self._sockets:
            _tell(sock, {"type": "stop"})

    def receive(self, timeout_s: float) -> Iterator[tuple[int, link.Received | None, list[int]]]:
        """What has come within the timeout: (share, message, descriptors); None for a process that ended."""
        for key, _ in self._selector.select(timeout_s):
            sock = self._sockets[key.data]
            received = link.receive(sock)
            if received is None:
                self._selector.unregister(sock)
                yield key.data, None, []
            else:
                yield key.data, *received

    def lost(self, share: int) -> WorkerLost:
        """The error for a process that ended without a result."""
        code = self._processes[share].wait(timeout=_READY_S)
        return WorkerLost(f"generator process {share} ended with {code} in the middle of the run")

    def close(self) -> None:
        """End every process."""
        for sock in self._sockets:
            sock.close()
        for process in self._processes:
            process.kill()
            process.wait()
        self._selector.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _spawn(self, order: Mapping[str, Any], requests: int) -> None:
        ours, theirs = control.pair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
            )
        self._processes.append(process)
        self._selector.register(ours, selectors.EVENT_READ, len(self._sockets))
        self._sockets.append(ours)
        # Each process reads from the file's own position, hence a copy of the descriptor is not enough.
        again = os.open(f"/proc/self/fd/{requests}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            link.send_document(ours, {"type": "order"}, json.dumps(order).encode(), again)
        finally:
            os.close(again)

    def _refuse(self, message: dict[str, Any]) -> None:
        if message["kind"] == "connection":
            raise NotReady(f"{self._url}: {message['reason']}", field="url")
        raise SenderUnusable(message["reason"])


def _encoded(deck: Deck) -> bytes:
    buffer = io.BytesIO()
    recording.write_all(buffer, deck.payloads)
    return buffer.getvalue()


def _tell(sock: socket.socket, message: control.Message) -> None:
    """Send to a process that may have ended, which its socket will tell."""
    try:
        control.send(sock, message)
    except OSError:
        log.debug("message_lost", extra={"type": message["type"]})


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _environment() -> dict[str, str]:
    """Ours, with the C library set up for one thread that polls, and our packages in reach."""
    environment = dict(os.environ)
    given = [name for name in environment.get("GRPC_EXPERIMENTS", "").split(",") if name]
    if _knows_experiment() and _EXPERIMENT not in {name.lstrip("-") for name in given}:
        environment["GRPC_EXPERIMENTS"] = ",".join((*given, f"-{_EXPERIMENT}"))
    paths = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH", "")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment["OMP_NUM_THREADS"] = "1"
    return environment


@functools.cache
def _knows_experiment() -> bool:
    """Whether the C library has the experiment: it complains of names that it does not know."""
    from grpc._cython import cygrpc

    library = Path(cygrpc.__file__)
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b"\0" + _EXPERIMENT.encode() + b"\0") >= 0
