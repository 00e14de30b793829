"""The queue against a list."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.batching.queue import TaskQueue
from runtime.batching.task import State, Task
from runtime.errors import QueueFull
from tests.support.tasks import RecordingTask, key

MAX_ROWS, MAX_BYTES = 20, 100
KEYS = [key("a"), key("b"), key("alone", batchable=False)]


class QueueMachine(RuleBasedStateMachine):
    """``held`` has the queued tasks; a lane is what is left of it with one key, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = TaskQueue(max_rows=MAX_ROWS, max_bytes=MAX_BYTES)
        self.held: list[RecordingTask] = []
        self.running: list[list[RecordingTask]] = []
        self.gone: list[RecordingTask] = []
        self.now = 1

    @rule(at=st.sampled_from(KEYS), rows=st.integers(0, 12), size=st.integers(0, 60), wait=st.integers(0, 5))
    def add(self, at: object, rows: int, size: int, wait: int) -> None:
        task = RecordingTask(at, rows, size=size, deadline_ns=self.now + wait if wait else 0)  # type: ignore[arg-type]
        fits = self.queue.rows + rows <= MAX_ROWS and self.queue.size_bytes + size <= MAX_BYTES
        self.now += 1
        try:
            self.queue.add(task, self.now)
        except QueueFull:
            assert self.held
            assert not fits
            assert task.state is State.NEW
        else:
            assert fits or not self.held
            self.held.append(task)

    @precondition(lambda self: self.held)
    @rule(max_rows=st.integers(1, 10), max_bytes=st.integers(1, 80))
    def take(self, max_rows: int, max_bytes: int) -> None:
        at = self.queue.oldest()
        assert at is not None
        lane = [task for task in self.held if task.key is at]
        assert lane[0].enqueued_ns == min(self.lane_heads())
        order: dict[Task, int] = {task: index for index, task in enumerate(lane)}
        place = order.__getitem__
        taken, expired = self.queue.take(at, max_rows, max_bytes, self.now)
        assert taken + expired
        left = [task for task in lane if task not in taken and task not in expired]
        assert sorted(taken + expired, key=place) == lane[: len(taken) + len(expired)]
        assert taken == sorted(taken, key=place)
        assert all(task.deadline_ns and task.deadline_ns <= self.now for task in expired)
        assert not any(task.deadline_ns and task.deadline_ns <= self.now for task in taken)
        if len(taken) > 1:
            assert at.batchable
            assert sum(task.rows for task in taken) <= max_rows
            assert sum(task.size_bytes for task in taken) <= max_bytes
        if left and taken and at.batchable:  # the batch is as large as order allows
            more = next((task for task in left if not task.deadline_ns or task.deadline_ns > self.now), None)
            rows = sum(task.rows for task in taken) + (more.rows if more else 0)
            size = sum(task.size_bytes for task in taken) + (more.size_bytes if more else 0)
            assert more is None or rows > max_rows or size > max_bytes
        self.held = [task for task in self.held if task not in taken and task not in expired]
        self.gone += expired  # type: ignore[arg-type]
        if taken:
            self.running.append(taken)  # type: ignore[arg-type]

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 99))
    def put_back(self, index: int) -> None:
        tasks = self.running.pop(index % len(self.running))
        self.queue.put_back(tasks)
        self.held = tasks + self.held

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 99))
    def finish(self, index: int) -> None:
        self.gone += self.running.pop(index % len(self.running))

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 99))
    def remove(self, index: int) -> None:
        task = self.held.pop(index % len(self.held))
        assert self.queue.remove(task)
        self.gone.append(task)

    @precondition(lambda self: self.gone)
    @rule(index=st.integers(0, 99))
    def remove_what_has_left(self, index: int) -> None:
        task = self.gone[index % len(self.gone)]
        if task.state is not State.RUNNING:
            assert not self.queue.remove(task)

    @rule()
    def clear(self) -> None:
        assert sorted(map(id, self.queue.clear())) == sorted(map(id, self.held))
        self.gone += self.held
        self.held = []

    @rule(by=st.integers(1, 4))
    def wait(self, by: int) -> None:
        self.now += by

    @invariant()
    def sums_are_those_of_the_tasks_held(self) -> None:
        assert len(self.queue) == len(self.held)
        assert bool(self.queue) == bool(self.held)
        assert self.queue.rows == sum(task.rows for task in self.held)
        assert self.queue.size_bytes == sum(task.size_bytes for task in self.held)
        assert all(task.state is State.QUEUED for task in self.held)

    def lane_heads(self) -> list[int]:
        heads: dict[object, int] = {}
        for task in self.held:
            heads.setdefault(task.key, task.enqueued_ns)
        return list(heads.values())


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
