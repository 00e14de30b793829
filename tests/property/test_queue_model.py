"""The queue against a list."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.batching.fill import LOOK_AHEAD, fill
from runtime.batching.queue import SLACK_NS, TaskQueue
from runtime.batching.task import BatchKey, State, Task
from runtime.errors import QueueFull
from tests.support.tasks import RecordingTask, key

MAX_ROWS, MAX_BYTES = 20, 100
KEYS = [key("a"), key("b"), key("alone", batchable=False)]
PICK = st.integers(0, 99)
PATIENCE = [0, 1, 2, 3, SLACK_NS - 1, SLACK_NS, SLACK_NS + 1, 9 * SLACK_NS]
NEVER = 1 << 62
PAUSES = [1, 2, 3, SLACK_NS // 2, SLACK_NS]


class QueueMachine(RuleBasedStateMachine):
    """``held`` has the queued tasks; a lane is what is left of it with one key, sorted."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = TaskQueue(max_rows=MAX_ROWS, max_bytes=MAX_BYTES)
        self.held: list[Task] = []
        self.again: list[list[Task]] = []
        self.running: list[list[Task]] = []
        self.gone: list[Task] = []
        self.now = 1

    def lane(self, of: BatchKey) -> list[Task]:
        """By level, then by deadline, but at most a second after the admission."""

        def place(task: Task) -> tuple[int, int]:
            latest = task.enqueued_ns + SLACK_NS
            return task.priority, min(task.deadline_ns or latest, latest)

        return sorted((task for task in self.held if task.key is of), key=place)

    @rule(
        of=st.sampled_from(KEYS), rows=st.integers(0, 12), size=st.integers(0, 60),
        wait=st.sampled_from(PATIENCE), priority=st.integers(1, 3),
    )  # fmt: skip
    def add(self, of: BatchKey, rows: int, size: int, wait: int, priority: int) -> None:
        due = self.now + wait if wait else 0
        task = RecordingTask(of, rows, size=size, deadline_ns=due, priority=priority)
        fits = self.queue.rows + rows <= MAX_ROWS and self.queue.size_bytes + size <= MAX_BYTES
        try:
            self.queue.check(rows, size)
        except QueueFull:
            assert len(self.queue)
            assert not fits
        else:
            assert fits or not len(self.queue)
            self.queue.add(task, self.now)
            self.held.append(task)
        self.now += 1  # so that nobody comes at the same instant as another

    @precondition(lambda self: self.held)
    @rule(pick=PICK, max_rows=st.integers(1, 10), max_bytes=st.integers(1, 80))
    def take_a_batch(self, pick: int, max_rows: int, max_bytes: int) -> None:
        lanes = list(self.queue.lanes.values())
        lane = lanes[pick % len(lanes)]
        waiting = self.lane(lane.key)
        chosen = fill(lane, max_rows, max_bytes)
        assert chosen == self.fitting(waiting, max_rows, max_bytes)
        self.take(chosen)

    def fitting(self, waiting: list[Task], max_rows: int, max_bytes: int) -> list[Task]:
        """The head, and then first fit."""
        assert len(waiting) <= LOOK_AHEAD
        chosen = waiting[:1]
        for task in waiting[1:] if waiting[0].key.batchable else []:
            rows = sum(other.rows for other in chosen)
            size = sum(other.size_bytes for other in chosen)
            if rows < max_rows and rows + task.rows <= max_rows and size + task.size_bytes <= max_bytes:
                chosen.append(task)
        return chosen

    @precondition(lambda self: self.held)
    @rule(pick=PICK, which=st.integers(1, (1 << 20) - 1))
    def take_any(self, pick: int, which: int) -> None:
        lanes = list(self.queue.lanes.values())
        waiting = self.lane(lanes[pick % len(lanes)].key)
        self.take([task for place, task in enumerate(waiting) if which >> place & 1] or waiting[-1:])

    def take(self, tasks: list[Task]) -> None:
        self.queue.take(tasks)
        assert all(task.state is State.RUNNING for task in tasks)
        self.held = [task for task in self.held if task not in tasks]
        self.running.append(tasks)

    @precondition(lambda self: self.running)
    @rule(pick=PICK)
    def put_back(self, pick: int) -> None:
        tasks = self.running.pop(pick % len(self.running))
        self.queue.put_back(tasks)
        self.held += tasks

    @precondition(lambda self: self.running)
    @rule(pick=PICK)
    def put_again(self, pick: int) -> None:
        tasks = self.running.pop(pick % len(self.running))
        self.queue.put_again(list(tasks), pick)
        self.again.append(list(tasks))

    @precondition(lambda self: self.again)
    @rule()
    def take_again(self) -> None:
        tasks = self.again.pop(0)
        assert self.queue.take_again().tasks == tasks
        for task in tasks:  # so that they can also be put back as if they had never run
            task.order_ns = min(task.deadline_ns or NEVER, task.enqueued_ns + SLACK_NS)
        self.running.append(tasks)

    @precondition(lambda self: self.running)
    @rule(pick=PICK)
    def finish(self, pick: int) -> None:
        done = self.running.pop(pick % len(self.running))
        for task in done:
            task.state = State.DONE
        self.gone += done

    @precondition(lambda self: self.held or self.again)
    @rule(pick=PICK)
    def remove(self, pick: int) -> None:
        everybody = [*self.held, *(task for tasks in self.again for task in tasks)]
        task = everybody[pick % len(everybody)]
        assert self.queue.remove(task)
        assert not self.queue.remove(task)
        self.forget([task])

    @precondition(lambda self: self.gone)
    @rule(pick=PICK)
    def remove_what_has_left(self, pick: int) -> None:
        assert not self.queue.remove(self.gone[pick % len(self.gone)])

    @rule(pause=st.sampled_from(PAUSES))
    def expire(self, pause: int) -> None:
        self.now += pause
        everybody = [*self.held, *(task for tasks in self.again for task in tasks)]
        late = [task for task in everybody if 0 < task.deadline_ns <= self.now]
        expired = self.queue.take_expired(self.now)
        assert {*expired} == {*late}
        assert [task.deadline_ns for task in expired] == sorted(task.deadline_ns for task in late)
        self.forget(late)

    def forget(self, tasks: list[Task]) -> None:
        self.gone += tasks
        self.held = [task for task in self.held if task not in tasks]
        self.again = [[task for task in group if task not in tasks] for group in self.again]
        self.again = [group for group in self.again if group]

    @rule(really=st.integers(0, 5))
    def clear(self, really: int) -> None:
        if not really:
            everybody = [*self.held, *(task for tasks in self.again for task in tasks)]
            assert {*self.queue.clear()} == {*everybody}
            self.forget(everybody)

    @invariant()
    def the_lanes_are_those_of_the_tasks_held_in_their_order(self) -> None:
        assert set(self.queue.lanes) == {task.key for task in self.held}
        for of, lane in self.queue.lanes.items():
            waiting = self.lane(of)
            assert list(lane) == waiting
            assert lane.head is waiting[0]
            assert lane.level == waiting[0].priority
            assert lane.rows == sum(task.rows for task in waiting)
        assert [group.tasks for group in self.queue.again] == self.again

    @invariant()
    def sums_are_those_of_the_tasks_held(self) -> None:
        everybody = [*self.held, *(task for tasks in self.again for task in tasks)]
        deadlines = [task.deadline_ns for task in everybody if task.deadline_ns]
        assert len(self.queue) == len(everybody)
        assert bool(self.queue) == bool(everybody)
        assert self.queue.rows == sum(task.rows for task in everybody)
        assert self.queue.size_bytes == sum(task.size_bytes for task in everybody)
        assert self.queue.next_deadline_ns == min(deadlines, default=0)
        assert all(task.state is State.QUEUED for task in everybody)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
