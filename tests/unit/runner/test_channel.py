"""A scheduler, its channel and a worker together: what goes in comes out at the right caller."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from runtime.batching.task import Result, State
from runtime.errors import (
    InvalidInput,
    MemoryExhausted,
    ModelError,
    OutputMismatch,
    WorkerLost,
)
from runtime.runner.channel import Channel
from runtime.runner.link import INLINE_BYTES, Link
from runtime.tensors import arena, strings
from runtime.tensors.frame import Frame, Kind, encode
from runtime.tensors.layout import LayoutTable
from tests.support.batches import LARGE, SMALL, WIDE, large, plus_one, small, submit
from tests.support.execution import Inputs, Method, raw
from tests.support.tasks import RecordingTask
from tests.support.workers import (
    ARENA_BYTES,
    WAIT_S,
    answered,
    key_of,
    read_until,
    scheduler,
    wait_readable,
    worker,
)


@pytest.mark.parametrize("make", [small, large])
def test_each_caller_gets_its_own_rows(make: object) -> None:
    tasks = [make(value, 1 + value % 3) for value in range(20)]  # type: ignore[operator]
    at = scheduler(max_batch_size=8)
    with worker(plus_one, max_batch_size=8) as rig:
        channel = rig.connect(at)
        submit(at, *tasks)
        read_until(answered(tasks), channel)
    for value, task in enumerate(tasks):
        assert task.outputs == [bytes([value + 1]) * task.size_bytes]


def test_the_arenas_are_reused_without_end() -> None:
    rounds = 6 * ARENA_BYTES // (8 * WIDE)
    at = scheduler(max_batch_size=8)
    with worker(plus_one) as rig:
        channel = rig.connect(at)
        for _ in range(rounds):
            tasks = [large(value) for value in range(8)]
            submit(at, *tasks)
            read_until(answered(tasks), channel)
            assert [task.outputs[0][0] for task in tasks] == list(range(1, 9))
    assert at.statistics.failed == 0


def test_the_whole_arena_is_free_again_after_the_answer() -> None:
    rows = ARENA_BYTES // WIDE
    at = scheduler(max_batch_size=rows)
    with worker(lambda inputs: {"n": inputs["x"].max(axis=1)}) as rig:
        channel = rig.connect(at)
        for _ in range(3):
            task = large(5, rows)
            submit(at, task)
            read_until(answered([task]), channel)
            assert task.outputs == [bytes([5]) * rows]


def test_texts_travel_with_their_sizes_inline_and_through_the_arena() -> None:
    for length in (1, INLINE_BYTES):
        items = [np.array([b"a" * length, b""], object), np.array([b"c"], object)]
        key = key_of({"t": items[0]})
        tasks = [RecordingTask(key, len(item), parts=[raw(item)]) for item in items]
        at = scheduler()
        with worker(lambda inputs: {"t": inputs["t"]}) as rig:
            channel = rig.connect(at)
            submit(at, *tasks)
            read_until(answered(tasks), channel)
        assert [task.outputs for task in tasks] == [[strings.encode(item)] for item in items]


def test_several_batches_are_in_flight_and_answered_in_order() -> None:
    gate = threading.Semaphore(0)

    def gated(inputs: Inputs) -> Inputs:
        assert gate.acquire(timeout=WAIT_S)
        return plus_one(inputs)

    at = scheduler(max_batch_size=1)
    with worker(gated, max_batch_size=1) as rig:
        channels = [rig.connect(at) for _ in range(3)]
        tasks = [large(value) for value in range(9)]
        submit(at, *tasks)
        assert at.queued_rows == 6
        gate.release(9)
        read_until(answered(tasks), *channels)
    assert [task.outputs[0][0] for task in tasks] == list(range(1, 10))
    assert sum(at.statistics.batch_sizes.values()) == 9


def test_a_batch_larger_than_the_arena_runs_in_pieces() -> None:
    at = scheduler(max_batch_size=1000)
    with worker(plus_one) as rig:
        channel = rig.connect(at)
        huge, fine = large(1, 1 + ARENA_BYTES // WIDE), large(2)
        submit(at, huge)
        submit(at, fine)
        read_until(answered([huge, fine]), channel)
    assert huge.outputs == [bytes([2]) * huge.size_bytes]
    assert fine.outputs == [bytes([3]) * WIDE]


def test_a_row_larger_than_the_arena_fails_alone() -> None:
    wide = key_of({"x": np.zeros((1, ARENA_BYTES + 1), np.uint8)})
    at = scheduler()
    with worker(plus_one) as rig:
        channel = rig.connect(at)
        huge, fine = RecordingTask(wide, parts=[bytes(ARENA_BYTES + 1)]), large(2)
        submit(at, huge, fine)
        read_until(answered([huge, fine]), channel)
    assert isinstance(huge.error, MemoryExhausted)
    assert fine.outputs == [bytes([3]) * WIDE]


def test_outputs_larger_than_the_arena_fail_and_the_next_batch_runs() -> None:
    answers = iter([np.zeros((1, 2 * ARENA_BYTES), np.uint8), np.ones((1, 3), np.uint8)])
    at = scheduler()
    with worker(lambda _: {"y": next(answers)}) as rig:
        channel = rig.connect(at)
        for task in (first := small(0)), (second := small(0)):
            submit(at, task)
            read_until(answered([task]), channel)
    assert isinstance(first.error, MemoryExhausted)
    assert second.outputs == [b"\1\1\1"]


def test_a_failed_batch_fails_all_its_tasks_with_the_workers_reason() -> None:
    at = scheduler()
    with worker(lambda inputs: {"y": inputs["x"][1:]}) as rig:
        channel = rig.connect(at)
        tasks = [large(1), large(2)]
        submit(at, *tasks)
        read_until(answered(tasks), channel)
        again = large(3)
        submit(at, again)
        read_until(answered([again]), channel)
    for task in (*tasks, again):
        assert isinstance(task.error, OutputMismatch)
    assert "was given 2 rows and returned 1 rows" in str(tasks[0].error)
    assert at.statistics.failed == 3


def refuse(inputs: Inputs) -> Inputs:
    raise InvalidInput(f"{inputs['x'].nbytes} bytes are too many")


@pytest.mark.parametrize(
    "model", [refuse, lambda inputs: {"y": inputs["x"][1:]}], ids=["raises", "wrong rows"]
)
def test_failures_give_the_space_back_as_well(model: Method) -> None:
    rows = ARENA_BYTES // WIDE
    at = scheduler(max_batch_size=rows)
    with worker(model) as rig:
        channel = rig.connect(at)
        for _ in range(3):
            task = large(5, rows)
            submit(at, task)
            read_until(answered([task]), channel)
            assert isinstance(task.error, InvalidInput | OutputMismatch)


def test_a_model_that_keeps_its_inputs_sees_them_unchanged() -> None:
    kept: list[np.ndarray] = []

    def keep(inputs: Inputs) -> Inputs:
        kept.append(inputs["x"])
        return {"n": inputs["x"][:, 0]}

    at = scheduler()
    with worker(keep) as rig:
        channel = rig.connect(at)
        for value in range(5):
            task = large(value)
            submit(at, task)
            read_until(answered([task]), channel)
        assert [int(array.max()) for array in kept] == [int(array.min()) for array in kept] == list(range(5))
    kept.clear()


def test_a_task_that_cannot_be_encoded_does_not_take_its_neighbours_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(RecordingTask):
        def succeed(self, result: Result) -> None:
            super().succeed(result)
            self.outcomes.clear()
            raise RuntimeError("no encoding")

    tasks = [small(1), Broken(SMALL, 1, parts=[bytes(2)]), small(3)]
    at = scheduler()
    with worker(plus_one) as rig:
        channel = rig.connect(at)
        submit(at, *tasks)
        read_until(answered(tasks), channel)
    assert [tasks[0].outputs, tasks[2].outputs] == [[b"\2\2"], [b"\4\4"]]
    assert isinstance(tasks[1].error, ModelError)
    assert "answer_failed" in caplog.text


def test_the_latest_deadline_goes_along_unless_somebody_waits_for_ever() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        at = scheduler()
        channel = Channel(
            "i", ours, arena.create(4096), arena.create(4096), scheduler=at, layouts=LayoutTable()
        )  # fmt: skip
        at.attach(channel)
        far = 1 << 62
        submit(
            at, *(RecordingTask(SMALL, parts=[b"ab"], deadline_ns=deadline) for deadline in (far, far + 5))
        )
        link = Link(theirs.dup())
        (frame,) = link.receive()
        assert (frame.kind, frame.deadline, frame.rows, frame.payload) == (
            Kind.EXECUTE,
            far + 5,
            (1, 1),
            b"abab",
        )
        link.close()
        channel.lose()
    assert at.instances == 0


def test_a_lost_worker_gives_its_batches_back_and_frees_everything() -> None:
    at = scheduler()
    ours, theirs = socket.socketpair()
    channel = Channel(
        "i", ours, arena.create(ARENA_BYTES), arena.create(64), scheduler=at, layouts=LayoutTable()
    )
    at.attach(channel)
    task = large(1)
    submit(at, task)
    assert at.queued_rows == 0
    theirs.close()
    with pytest.raises(WorkerLost):
        channel.read()
    channel.lose()
    assert at.queued_rows == 1
    with worker(plus_one) as rig:
        read_until(answered([task]), rig.connect(at))
    assert task.outputs == [bytes([2]) * WIDE]
    assert at.statistics.retried == 1


@pytest.mark.parametrize("make", [small, large])
def test_a_worker_found_dead_when_sending_leaves_the_task_queued(make: object) -> None:
    at = scheduler()
    ours, theirs = socket.socketpair()
    theirs.close()
    channel = Channel(
        "i", ours, arena.create(ARENA_BYTES), arena.create(64), scheduler=at, layouts=LayoutTable()
    )
    at.attach(channel)
    task = make(1)  # type: ignore[operator]
    submit(at, task)
    assert (task.state, task.attempts, at.instances) == (State.QUEUED, 0, 0)
    assert channel.abandon() == []
    channel.lose()


def test_an_answer_to_nothing_ends_the_channel(caplog: pytest.LogCaptureFixture) -> None:
    at = scheduler()
    ours, theirs = socket.socketpair()
    channel = Channel("i", ours, arena.create(64), arena.create(64), scheduler=at, layouts=LayoutTable())
    with theirs:
        theirs.send(encode(Frame(Kind.RESULT, 99, b"[]", (1,))))
        channel.read()
        assert "answer_not_understood" in caplog.text
        assert theirs.recv(1) == b""
        with pytest.raises(WorkerLost):
            channel.read()
    channel.lose()


class Posting(RecordingTask):
    """A task that is answered best on another thread, which runs what it is given when told to."""

    posted: ClassVar[list[Callable[[], object]]] = []

    def post(self, function: Callable[[], object]) -> bool:
        self.posted.append(function)
        return True


def test_answers_are_handed_over_in_order_and_to_one_thread_at_a_time() -> None:
    Posting.posted.clear()
    at = scheduler()
    with worker(plus_one) as rig:
        channel = rig.connect(at, owned=False)
        first = Posting(LARGE, parts=[bytes(WIDE)])
        submit(at, first)
        wait_readable(channel)
        channel.read()
        assert len(Posting.posted) == 1
        assert not first.outcomes
        channel.lose()  # what came before the end is answered before the end is seen
        assert len(Posting.posted) == 1
        assert at.instances == 1
        Posting.posted.pop()()
        assert first.outputs == [bytes([1]) * WIDE]
        assert at.instances == 0


def test_descriptors_are_closed_with_the_channel() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    at = scheduler()
    ours, theirs = socket.socketpair()
    channel = Channel("i", ours, arena.create(4096), arena.create(4096), scheduler=at, layouts=LayoutTable())
    theirs.close()
    channel.lose()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
