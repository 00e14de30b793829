"""A worker's loop in a thread, and services connected to it, all in one process."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runtime.batching.scheduler import Limits, Scheduler
from runtime.batching.task import BatchKey
from runtime.errors import WorkerLost
from runtime.runner import control
from runtime.runner.channel import Channel
from runtime.runner.executor import Executor
from runtime.runner.link import Link
from runtime.runner.worker import Worker
from runtime.tensors import arena
from runtime.tensors.frame import Frame, encode
from runtime.tensors.layout import LayoutTable
from tests.support.execution import Inputs, Method, executor, head_of
from tests.support.tasks import RecordingTask

ARENA_BYTES = 4 << 20
WAIT_S = 20.0


class RawService:
    """A service that speaks in frames, for what a channel would not say."""

    def __init__(self, sock: socket.socket) -> None:
        self.link = Link(sock)

    def send(self, *frames: Frame) -> None:
        """All frames in one write, so that the worker finds them together."""
        self.link.send(b"".join(encode(frame) for frame in frames))

    def receive(self, count: int) -> list[Frame]:
        frames: list[Frame] = []
        while len(frames) < count:
            wait_readable(self.link)
            frames += self.link.receive()
        return frames


class WorkerRig:
    """A worker with a model, ready to be connected to."""

    def __init__(
        self, model: Executor | Method, *, max_batch_size: int = 64, arena_bytes: int = ARENA_BYTES
    ) -> None:
        made = model if isinstance(model, Executor) else executor(model)
        self.arena_bytes = arena_bytes
        self._supervisor, theirs = control.pair()
        self._theirs = theirs
        self._worker = Worker(theirs, made, max_batch_size)
        self._thread = threading.Thread(target=self._worker.run, name="worker")
        self.channels: list[Channel] = []
        self.services: list[RawService] = []

    def start(self) -> None:
        self._thread.start()

    def connect(self, scheduler: Scheduler, *, owned: bool = True) -> Channel:
        """A channel of a scheduler; attached to it. One that is not ``owned`` is closed by a reader."""
        front, outgoing, incoming = self._attach("service")
        channel = Channel("instance", front, outgoing, incoming, scheduler=scheduler, layouts=LayoutTable())
        if owned:
            self.channels.append(channel)
        scheduler.attach(channel)
        return channel

    def connect_raw(self) -> RawService:
        front, *arenas = self._attach("raw")
        for descriptor in arenas:
            os.close(descriptor)
        self.services.append(RawService(front))
        return self.services[-1]

    def stop(self) -> None:
        self._supervisor.close()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self._theirs.close()
        for channel in self.channels:
            channel.lose()
        for service in self.services:
            service.link.close()

    def _attach(self, name: str) -> tuple[socket.socket, int, int]:
        front, back = socket.socketpair()
        outgoing, incoming = arena.create(self.arena_bytes), arena.create(self.arena_bytes)
        with back:
            message = {"type": "attach", "service": name}
            control.send(self._supervisor, message, (back.fileno(), outgoing, incoming))
        return front, outgoing, incoming


@contextmanager
def worker(model: Executor | Method, **options: Any) -> Iterator[WorkerRig]:
    rig = WorkerRig(model, **options)
    rig.start()
    try:
        yield rig
    finally:
        rig.stop()


def wait_readable(source: Link | Channel) -> None:
    """Wait for what the worker sends."""
    link = source.link if isinstance(source, Channel) else source
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        assert selector.select(WAIT_S), "the worker does not answer"


def read_until(condition: Callable[[], bool], *channels: Channel) -> None:
    """Be the reader's thread until a condition holds."""
    while not condition():
        with selectors.DefaultSelector() as selector:
            for channel in channels:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.link.wants_write else 0)
                selector.register(channel.link, events, channel)
            ready = selector.select(WAIT_S)
            assert ready, "the worker does not answer"
        for key, events in ready:
            if events & selectors.EVENT_WRITE:
                key.data.link.flush()
            if events & selectors.EVENT_READ:
                try:
                    key.data.read()
                except WorkerLost:
                    key.data.lose()
                    return


def answered(tasks: Sequence[RecordingTask]) -> Callable[[], bool]:
    return lambda: all(task.outcomes for task in tasks)


def scheduler(**limits: int) -> Scheduler:
    return Scheduler(Limits(**limits))


def key_of(inputs: Inputs, axes: tuple[int, int] | None = (0, 0), method: str = "f") -> BatchKey:
    """The key of tasks with such inputs."""
    variable = tuple(array.dtype.kind in "OSU" for array in inputs.values())
    return BatchKey(head_of(inputs, axes, method), batchable=axes is not None, variable=variable)
