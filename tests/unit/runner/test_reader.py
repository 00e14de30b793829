"""The reader's thread: answers, unsent bytes, lost workers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from runtime.batching.scheduler import Scheduler
from runtime.batching.task import Result, State
from runtime.errors import ModelError
from runtime.runner.channel import Channel
from runtime.runner.link import INLINE_BYTES, Link
from runtime.runner.reader import Reader
from runtime.tensors import arena
from runtime.tensors.frame import Frame, Kind, encode
from runtime.tensors.layout import LayoutTable
from tests.support.execution import Inputs
from tests.support.tasks import RecordingTask
from tests.support.workers import WAIT_S, key_of, scheduler, worker

WIDE = INLINE_BYTES  # the largest that travels inline
KEY = key_of({"x": np.zeros((1, WIDE), np.uint8)})


class WaitedFor(RecordingTask):
    """Says when it is answered."""

    __slots__ = ("done",)

    def __init__(self, value: int) -> None:
        super().__init__(KEY, 1, parts=[bytes([value]) * WIDE])
        self.done = threading.Event()

    def succeed(self, result: Result) -> None:
        super().succeed(result)
        self.done.set()

    def fail(self, error: Exception) -> None:
        super().fail(error)
        self.done.set()


class Watched:
    """A reader, and the channels that it has lost."""

    def __init__(self) -> None:
        self.reader = Reader(self._lost)
        self.added = 0
        self.lost: list[Channel] = []
        self._changed = threading.Condition()

    def add(self, channel: Channel) -> Channel:
        self.added += 1
        self.reader.add(channel)
        return channel

    def wait_for_losses(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lost) >= count, WAIT_S)

    def _lost(self, channel: Channel) -> None:
        with self._changed:
            self.lost.append(channel)
            self._changed.notify_all()


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A reader that has closed every channel when the test is over: their workers are gone by then."""
    watched = Watched()
    yield watched
    watched.wait_for_losses(watched.added)
    watched.reader.stop()
    assert len(watched.lost) == watched.added


def echo(inputs: Inputs) -> Inputs:
    return {"y": inputs["x"]}


def submit(at: Scheduler, *tasks: WaitedFor) -> None:
    for task in tasks:
        at.submit(task)
    at.pump()


def by_hand(at: Scheduler) -> tuple[Channel, socket.socket]:
    """A channel whose worker is the test."""
    ours, theirs = socket.socketpair()
    channel = Channel(
        "hand", ours, arena.create(4096), arena.create(4096), scheduler=at, layouts=LayoutTable()
    )
    at.attach(channel)
    return channel, theirs


def test_answers_are_read_as_they_come(watched: Watched) -> None:
    at = scheduler(max_batch_size=1)
    with worker(echo) as rig:
        channels = [watched.add(rig.connect(at, owned=False)) for _ in range(2)]
        tasks = [WaitedFor(value) for value in range(20)]
        submit(at, *tasks)
        for value, task in enumerate(tasks):
            assert task.done.wait(WAIT_S)
            assert task.outputs == [bytes([value]) * WIDE]
        for channel in channels:
            watched.reader.remove(channel)
        watched.wait_for_losses(2)
        assert at.instances == 0


def test_what_did_not_fit_into_the_socket_is_sent_when_it_does(watched: Watched) -> None:
    at = scheduler(max_batch_size=1)
    channel, theirs = by_hand(at)
    while not channel.link.wants_write:  # the worker reads nothing
        channel.link.send(encode(Frame(Kind.EXECUTE, 0, b"", (1,), payload=bytes(1 << 16), length=1 << 16)))
    watched.add(channel)
    task = WaitedFor(7)
    submit(at, task)
    link = Link(theirs)
    theirs.settimeout(WAIT_S)
    frames: list[Frame] = []
    while not frames or frames[-1].batch != 1:
        frames += link.receive()
    assert frames[-1].payload == task.parts[0]
    link.close()


def test_a_lost_worker_is_told_once_and_its_work_waits_for_another(watched: Watched) -> None:
    at = scheduler()
    channel, theirs = by_hand(at)
    watched.add(channel)
    task = WaitedFor(1)
    submit(at, task)
    theirs.close()
    watched.wait_for_losses(1)
    watched.reader.remove(channel)
    assert task.state is State.QUEUED
    with worker(echo) as rig:
        again = watched.add(rig.connect(at, owned=False))
        assert task.done.wait(WAIT_S)
    watched.wait_for_losses(2)
    assert watched.lost == [channel, again]


def test_a_channel_that_fails_does_not_stop_the_others(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    at = scheduler()
    channel, theirs = by_hand(at)
    watched.add(channel)
    theirs.send(encode(Frame(Kind.RESULT, 99, b"[]", (1,))))  # answers nothing that was asked
    watched.wait_for_losses(1)
    theirs.close()
    with worker(echo) as rig:
        watched.add(rig.connect(at, owned=False))
        task = WaitedFor(1)
        submit(at, task)
        assert task.done.wait(WAIT_S)
    assert "answer_not_understood" in caplog.text


def test_a_failure_is_read_like_a_result(watched: Watched) -> None:
    def fail(_: Inputs) -> Inputs:
        raise ValueError

    at = scheduler()
    with worker(fail) as rig:
        watched.add(rig.connect(at, owned=False))
        task = WaitedFor(1)
        submit(at, task)
        assert task.done.wait(WAIT_S)
        assert isinstance(task.error, ModelError)
