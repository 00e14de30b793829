"""The worker process: one loaded copy of one model version, one thread.

Started by the supervisor as ``python -m runtime.runner.worker FD``. It loads the model, warms it up, says
that it is ready, and then serves every service process that the supervisor connects it to::

    receive ─► inbox ─► merge what has the same key, up to max_batch_size ─► execute ─► one answer per batch

What is cancelled before its batch begins is left out of it; what has begun is finished. The process ends
when the supervisor's control connection ends. A service that goes away takes its batches along.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections import deque
from typing import Final, NamedTuple

from runtime import logs
from runtime.clock import now_ns
from runtime.errors import DeadlineExceeded, RuntimeServingError, WorkerLost
from runtime.runner import control, failures, loading
from runtime.runner.executor import Executor
from runtime.runner.merging import Group
from runtime.runner.order import Order
from runtime.runner.peer import Peer, Stored
from runtime.runner.poller import READABLE, WRITABLE, Poller
from runtime.runner.splitting import CANCELLED
from runtime.tensors.frame import ALONE, Frame, Kind, Timing

log = logging.getLogger("runtime.runner.worker")  # this module runs as __main__

_EXPIRED: Final = DeadlineExceeded("every caller's deadline passed while the batch waited for the worker")


class Arrival(NamedTuple):
    """A batch that waits to be executed; of its tasks nobody waits for those in ``skip``."""

    peer: Peer
    frame: Frame
    received_ns: int
    skip: frozenset[int] = frozenset()

    def rows(self) -> int:
        """Rows that are to be executed."""
        return sum([rows for task, rows in enumerate(self.frame.rows) if task not in self.skip])


class Worker:
    """Serves batches until the supervisor goes away.

    Args:
        supervisor: the control connection.
        executor: runs the model.
        max_batch_size: rows to which batches of several services are merged.
    """

    def __init__(self, supervisor: socket.socket, executor: Executor, max_batch_size: int) -> None:
        self._supervisor = supervisor
        self._executor = executor
        self._max_batch_size = max_batch_size
        self._poller: Poller[Peer | None] = Poller()
        self._poller.add(supervisor.fileno(), None)
        self._inbox: deque[Arrival] = deque()
        self._open = True

    def run(self) -> None:
        """Serve until the control connection ends."""
        while self._open:
            for peer, events in self._poller.wait(block=not self._inbox):
                if peer is None:
                    self._obey()
                else:
                    self._serve(peer, events)
            if self._inbox:
                self._work()
        for peer in self._poller.owners():
            if peer is not None:
                self._drop(peer)
        self._poller.close()

    def _obey(self) -> None:
        """Handle a message of the supervisor: the connection to one more service, or the end."""
        received = control.receive(self._supervisor)
        if received is None:
            self._open = False
            return
        message, descriptors = received
        if message["type"] == "attach":
            stream, incoming, outgoing = descriptors
            peer = Peer(message["service"], socket.socket(fileno=stream), incoming, outgoing)
            self._poller.add(peer.link.fileno(), peer)

    def _serve(self, peer: Peer, events: int) -> None:
        try:
            if events & WRITABLE:
                peer.link.flush()
                self._poller.watch(peer.link)
            if events & READABLE:
                now = now_ns()
                for frame in peer.receive():
                    if frame.kind != Kind.CANCEL:
                        self._inbox.append(Arrival(peer, frame, now))
                    elif not self._cancel(peer, frame):
                        break
        except WorkerLost:
            self._drop(peer)

    def _cancel(self, peer: Peer, cancellation: Frame) -> bool:
        """Leave out tasks of a batch that has not begun; False if its service turns out to be gone."""
        for index, arrival in enumerate(self._inbox):
            if arrival.peer is peer and arrival.frame.batch == cancellation.batch:
                tasks = len(arrival.frame.rows)
                skip = arrival.skip.union([task for task in cancellation.rows if task < tasks])
                if len(skip) < tasks:
                    self._inbox[index] = arrival._replace(skip=skip)
                else:
                    del self._inbox[index]
                    self._refuse(arrival, CANCELLED, now_ns())
                break
        return peer.open

    def _drop(self, peer: Peer) -> None:
        """Forget a service that is gone, and its batches."""
        if peer.open:
            self._poller.remove(peer.link.fileno())
            self._inbox = deque(arrival for arrival in self._inbox if arrival.peer is not peer)
            peer.close()
            log.info("service_detached", extra={"service": peer.name})

    # -- work -----------------------------------------------------------------------------------

    def _work(self) -> None:
        """Execute the oldest batch together with what may be merged with it."""
        arrivals = self._take()
        now = now_ns()
        late = [arrival for arrival in arrivals if 0 < arrival.frame.deadline <= now]
        for arrival in late:
            self._refuse(arrival, _EXPIRED, now)
        if late:  # refusing may have shown that a service is gone
            arrivals = [arrival for arrival in arrivals if arrival not in late and arrival.peer.open]
        if arrivals:
            self._execute(arrivals)

    def _take(self) -> list[Arrival]:
        """The oldest batch and those behind it with the same head that fit beside it."""
        first = self._inbox.popleft()
        head = first.frame.head
        taken = [first]
        if not self._inbox or first.frame.flags & ALONE or self._executor.layouts[head].axes is None:
            return taken
        rows = first.rows()
        left: deque[Arrival] = deque()
        for arrival in self._inbox:
            more = arrival.rows()
            fits = arrival.frame.head == head and rows + more <= self._max_batch_size
            if fits and not arrival.frame.flags & ALONE:
                rows += more
                taken.append(arrival)
            else:
                left.append(arrival)
        self._inbox = left
        return taken

    def _execute(self, arrivals: list[Arrival]) -> None:
        """Run batches of one key as one and answer each."""
        begun = now_ns()
        payloads = [arrival.peer.payload(arrival.frame) for arrival in arrivals]
        failure: RuntimeServingError | None = None
        try:
            stored, rows, started, executed = self._run(arrivals, payloads)
        except Exception as error:  # noqa: BLE001  # a fence: the model's own code may raise anything
            failure = failures.to_tell(error, is_known=all(_is_part(arrival) for arrival in arrivals))
        # From here on nothing of ours refers to the inputs any more: whoever still does is the model.
        for index, (arrival, payload) in enumerate(zip(arrivals, payloads, strict=True)):
            peer, frame, received, _ = arrival
            kept = peer.is_kept(frame, payload)
            if failure is not None:
                self._refuse(arrival, failure, begun, kept=kept)
            else:
                timing = Timing(received, started, executed, now_ns(), begun)
                data = stored[index].frame(frame.batch, rows, timing, kept=kept, joined=index > 0)
                self._send(peer, data)

    def _run(
        self, arrivals: list[Arrival], payloads: list[memoryview | bytearray]
    ) -> tuple[list[Stored], tuple[int, int], int, int]:
        """Execute, and copy the outputs to where the services will read them; with rows and times."""
        groups = [
            Group(arrival.frame.rows, arrival.frame.sizes, payload, arrival.skip)
            for arrival, payload in zip(arrivals, payloads, strict=True)
        ]
        head = arrivals[0].frame.head
        shares, rows, padded, started, executed = self._executor.execute(head, groups)
        stored = [arrival.peer.store(share) for arrival, share in zip(arrivals, shares, strict=True)]
        return stored, (rows, padded), started, executed

    def _refuse(
        self, arrival: Arrival, error: RuntimeServingError, started: int, *, kept: bool = False
    ) -> None:
        now = now_ns()
        timing = Timing(arrival.received_ns, started, now, now, started)
        self._send(arrival.peer, arrival.peer.refusal(arrival.frame.batch, error, timing, kept=kept))

    def _send(self, peer: Peer, data: bytes) -> None:
        if not peer.open:
            return
        try:
            peer.link.send(data)
        except WorkerLost:
            self._drop(peer)
            return
        if peer.link.wants_write:
            self._poller.watch(peer.link)


def _is_part(arrival: Arrival) -> bool:
    """Whether a batch is part of one that has failed before, and will be taken apart further if it fails."""
    return bool(arrival.frame.flags & ALONE) and len(arrival.frame.rows) > 1


def main(descriptor: int) -> int:
    """Run a worker process; the exit status is 0 after an orderly end, 1 if the model cannot be loaded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches the whole group; the supervisor decides
    control.die_with_parent()
    with socket.socket(fileno=descriptor) as supervisor:
        return _live(supervisor)


def _live(supervisor: socket.socket) -> int:
    """Load what is ordered and serve it; the exit status."""
    received = control.receive(supervisor)
    if received is None:
        return 0
    order = Order(**received[0])
    logs.configure(order.log_level, role="worker", instance=order.instance)
    try:
        executor = loading.load(order)
    except Exception as error:  # a fence: loading runs the model's own code
        log.exception("load_failed", extra={"tag": order.tag})
        _tell(supervisor, {"type": "failed", "message": loading.describe(error)})
        return 1
    if _tell(supervisor, {"type": "ready"}):
        Worker(supervisor, executor, order.max_batch_size).run()
    return 0


def _tell(supervisor: socket.socket, message: control.Message) -> bool:
    """Send a message; False if the supervisor has gone meanwhile."""
    try:
        control.send(supervisor, message)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
