"""The queue of one model version: ordered lanes, one per batch key, bounded in rows and bytes over all.

Pure and not thread-safe: the scheduler calls it under its lock. A policy looks and does not touch.

A lane is ordered by priority level and within it by ``order_ns``: a task's deadline, but at most ``SLACK_NS``
after its admission. Tasks with equal patience thus leave in the order they came, more urgent ones overtake,
and nobody is overtaken for ever.

What has to run again stands apart, in ``again``: closed lists of tasks, each to be executed by itself.

Invariants (property-tested): ``rows`` and ``size_bytes`` are the sums over the tasks held; a task is held at
most once; what was taken, dropped or removed is not held.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Final, NamedTuple

from runtime.batching.task import BatchKey, State, Task
from runtime.errors import QueueFull

QUEUED: Final = State.QUEUED  # the members of an enum are slow to reach
SLACK_NS: Final = 1_000_000_000
"""A task whose caller is more patient than this, or says nothing, is ordered as if he were not: it ages."""

_IN_GROUP: Final = -1
_COMPACT_FROM: Final = 64
_order = attrgetter("order_ns")


class Group(NamedTuple):
    """Tasks that run again: together, with nobody else. ``depth`` counts the halvings that led to them."""

    tasks: list[Task]
    depth: int


class Lane:
    """The queued tasks of one key; never empty while it is in a queue.

    Attributes:
        levels: tasks in order, by priority level, the most urgent level first; no level is empty.
        rows: of all tasks.
    """

    __slots__ = ("key", "levels", "rows")

    def __init__(self, key: BatchKey) -> None:
        self.key = key
        self.levels: dict[int, list[Task]] = {}
        self.rows = 0

    def __iter__(self) -> Iterator[Task]:
        for line in self.levels.values():
            yield from line

    @property
    def level(self) -> int:
        """The most urgent level."""
        return next(iter(self.levels))

    @property
    def head(self) -> Task:
        """The task to leave first."""
        return next(iter(self.levels.values()))[0]

    def insert(self, task: Task) -> None:
        """Put a task where it belongs."""
        line = self.levels.get(task.priority)
        if line is None:
            self.levels[task.priority] = [task]
            if len(self.levels) > 1:
                self.levels = dict(sorted(self.levels.items()))
        elif line[-1].order_ns <= task.order_ns:
            line.append(task)
        else:
            insort(line, task, key=_order)
        self.rows += task.rows

    def remove(self, task: Task) -> None:
        """Take one task out."""
        line = self.levels[task.priority]
        at = bisect_left(line, task.order_ns, key=_order)
        while line[at] is not task:  # others of the same instant
            at += 1
        del line[at]
        if not line:
            del self.levels[task.priority]
        self.rows -= task.rows

    def sweep(self, count: int, rows: int) -> None:
        """Let go of ``count`` tasks of ``rows`` rows that are not queued any more, wherever they stand."""
        self.rows -= rows
        levels = iter(list(self.levels))
        while count:
            level = next(levels)
            line = self.levels[level]
            before = len(line)
            at = 0
            while at < before and line[at].state is not QUEUED:
                at += 1
            if at == before:
                del self.levels[level]
            else:
                del line[:at]
                if at < count:  # some stand behind one that stays
                    line[:] = [task for task in line if task.state is QUEUED]
                at = before - len(line)
            count -= at


class TaskQueue:
    """Tasks that wait for an instance.

    Args:
        max_rows: admission limit in rows; a task that finds an empty queue is always admitted.
        max_bytes: admission limit in bytes of tensors, likewise.

    Attributes:
        lanes: by key, in the order in which they came into being.
        again: what runs again, oldest first; ahead of everything in the lanes.
        rows, size_bytes: of all tasks held.
    """

    def __init__(self, *, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._lanes: dict[BatchKey, Lane] = {}
        self.again: deque[Group] = deque()
        self._deadlines: list[tuple[int, int, Task]] = []
        self._pushed = 0
        self._held = 0
        self.rows = 0
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return self._held > 0

    def __len__(self) -> int:
        return self._held

    @property
    def lanes(self) -> Mapping[BatchKey, Lane]:
        """For a policy to look at."""
        return self._lanes

    # -- in -------------------------------------------------------------------------------------

    def check(self, rows: int, size_bytes: int) -> None:
        """Ask whether a task would be admitted.

        Raises:
            QueueFull: the limit in rows or bytes would be passed.
        """
        if self._held and (
            self.rows + rows > self._max_rows or self.size_bytes + size_bytes > self._max_bytes
        ):
            raise self._full(rows)

    def add(self, task: Task, now_ns: int) -> None:
        """Queue a task that was admitted."""
        deadline = task.deadline_ns
        latest = now_ns + SLACK_NS
        task.enqueued_ns = now_ns
        task.order_ns = deadline if 0 < deadline < latest else latest
        self._hold(task)

    def put_back(self, tasks: Sequence[Task]) -> None:
        """Queue tasks again where they stood; no limit applies."""
        for task in tasks:
            self._hold(task)

    def put_again(self, tasks: list[Task], depth: int = 0) -> None:
        """Queue tasks to be executed by themselves, after those that wait for the same."""
        self.again.append(Group(tasks, depth))
        for task in tasks:
            task.order_ns = _IN_GROUP
            self._count_in(task)

    def _hold(self, task: Task) -> None:
        lane = self._lanes.get(task.key)
        if lane is None:
            lane = self._lanes[task.key] = Lane(task.key)
        lane.insert(task)
        self._count_in(task)

    # -- out ------------------------------------------------------------------------------------

    def remove(self, task: Task) -> bool:
        """Take one task out; False if it is not queued (any more)."""
        if task.state is not QUEUED:
            return False
        if task.order_ns == _IN_GROUP:
            group = next(group for group in self.again if task in group.tasks)
            group.tasks.remove(task)
            if not group.tasks:
                self.again.remove(group)
        else:
            lane = self._lanes[task.key]
            lane.remove(task)
            if not lane.levels:
                del self._lanes[task.key]
        self._count_out((task,), State.NEW)
        return True

    def take(self, tasks: Sequence[Task]) -> None:
        """Take tasks of one lane out, to run."""
        key = tasks[0].key
        lane = self._lanes[key]
        lane.sweep(len(tasks), self._count_out(tasks, State.RUNNING))
        if not lane.levels:
            del self._lanes[key]

    def take_again(self) -> Group:
        """Take out what has waited longest to run again."""
        group = self.again.popleft()
        self._count_out(group.tasks, State.RUNNING)
        return group

    def take_expired(self, now_ns: int) -> list[Task]:
        """Take out every task whose deadline has passed, the earliest deadline first."""
        expired: list[Task] = []
        while 0 < self.next_deadline_ns <= now_ns:
            task = heappop(self._deadlines)[2]
            self.remove(task)
            expired.append(task)
        return expired

    def clear(self) -> list[Task]:
        """Take everything out."""
        tasks = [task for group in self.again for task in group.tasks]
        tasks += [task for lane in self._lanes.values() for task in lane]
        self._count_out(tasks, State.NEW)
        self._lanes.clear()
        self.again.clear()
        self._deadlines.clear()
        return tasks

    # -- deadlines ------------------------------------------------------------------------------

    @property
    def next_deadline_ns(self) -> int:
        """The earliest deadline of a queued task, 0 if none has one."""
        deadlines = self._deadlines
        while deadlines:
            if deadlines[0][2].state is QUEUED:
                return deadlines[0][0]
            heappop(deadlines)
        return 0

    def _push_deadline(self, task: Task) -> None:
        """Remember a deadline; those of tasks that have left are forgotten when they are most of all."""
        deadlines = self._deadlines
        if len(deadlines) > 2 * self._held + _COMPACT_FROM:
            deadlines[:] = [entry for entry in deadlines if entry[2].state is QUEUED]
            heapify(deadlines)
        self._pushed += 1  # tasks cannot be compared
        heappush(deadlines, (task.deadline_ns, self._pushed, task))

    # -- counting -------------------------------------------------------------------------------

    def _count_in(self, task: Task) -> None:
        task.state = QUEUED
        self._held += 1
        self.rows += task.rows
        self.size_bytes += task.size_bytes
        if task.deadline_ns > 0:
            self._push_deadline(task)

    def _count_out(self, tasks: Iterable[Task], state: State) -> int:
        """Take note that tasks are held no longer; returns their rows."""
        rows = size_bytes = count = 0
        for task in tasks:
            task.state = state
            rows += task.rows
            size_bytes += task.size_bytes
            count += 1
        self._held -= count
        if not self._held:
            self._deadlines.clear()
        self.rows -= rows
        self.size_bytes -= size_bytes
        return rows

    def _full(self, rows: int) -> QueueFull:
        """Why a task is not admitted."""
        if self.rows + rows > self._max_rows:
            return QueueFull(f"the queue holds {self.rows} rows of at most {self._max_rows}: retry later")
        return QueueFull(f"the queue holds {self.size_bytes} bytes of at most {self._max_bytes}: retry later")
