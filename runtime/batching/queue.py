"""The queue of one model version: a FIFO per batch key, bounded in rows and bytes over all of them.

Pure and not thread-safe: the scheduler calls it under its lock.

Invariants (property-tested): tasks of one key leave in the order they came; ``rows`` and ``size_bytes``
are the sums over the tasks held; a task that was cancelled or has expired never leaves through ``take``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from runtime.batching.task import BatchKey, State, Task
from runtime.errors import QueueFull

QUEUED: Final = State.QUEUED  # the members of an enum are slow to reach
RUNNING: Final = State.RUNNING


class TaskQueue:
    """Tasks that wait for an instance.

    Args:
        max_rows: admission limit in rows; a task that finds an empty queue is always admitted.
        max_bytes: admission limit in bytes of tensors, likewise.
    """

    def __init__(self, *, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._lanes: dict[BatchKey, OrderedDict[Task, None]] = {}
        self.rows = 0
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def add(self, task: Task, now_ns: int) -> None:
        """Admit a task at the end of its lane.

        Raises:
            QueueFull: the limit in rows or bytes would be passed; the task stays the caller's.
        """
        lanes = self._lanes
        if lanes and (
            self.rows + task.rows > self._max_rows or self.size_bytes + task.size_bytes > self._max_bytes
        ):
            raise self._full(task)
        lane = lanes.get(task.key)
        if lane is None:
            lane = lanes[task.key] = OrderedDict()
        lane[task] = None
        task.enqueued_ns = now_ns
        task.state = QUEUED
        self.rows += task.rows
        self.size_bytes += task.size_bytes

    def put_back(self, tasks: Sequence[Task]) -> None:
        """Queue tasks again, ahead of all others of their lanes and in their order; no limit applies."""
        for task in reversed(tasks):
            lane = self._lanes.setdefault(task.key, OrderedDict())
            lane[task] = None
            lane.move_to_end(task, last=False)
            self._count_in(task)

    def remove(self, task: Task) -> bool:
        """Take a cancelled task out; False if it is not queued (any more)."""
        if task.state is not State.QUEUED:
            return False
        lane = self._lanes[task.key]
        del lane[task]
        self._count_out(task)
        if not lane:
            del self._lanes[task.key]
        return True

    def take(
        self, key: BatchKey, max_rows: int, max_bytes: int, now_ns: int
    ) -> tuple[list[Task], list[Task]]:
        """Take the head of a lane and what fits behind it, in order, whatever the size of the first.

        Stops at the first task that does not fit, and after one task where the key is not batchable. A task
        that has lost a worker before comes alone: should it be what kills workers, it takes no other along.

        Returns:
            The tasks to run, and those met on the way whose deadline has passed. Either may be empty.
        """
        lane = self._lanes[key]
        taken: list[Task] = []
        expired: list[Task] = []
        rows = size_bytes = late_rows = late_bytes = 0
        while lane:
            task, _ = lane.popitem(last=False)
            if 0 < task.deadline_ns <= now_ns:
                task.state = State.NEW
                expired.append(task)
                late_rows += task.rows
                late_bytes += task.size_bytes
                continue
            more_rows = rows + task.rows
            more_bytes = size_bytes + task.size_bytes
            if taken and (more_rows > max_rows or more_bytes > max_bytes or task.attempts):
                lane[task] = None
                lane.move_to_end(task, last=False)
                break
            rows, size_bytes = more_rows, more_bytes
            task.state = RUNNING
            taken.append(task)
            if not key.batchable or task.attempts:
                break
        if not lane:
            del self._lanes[key]
        self.rows -= rows + late_rows
        self.size_bytes -= size_bytes + late_bytes
        return taken, expired

    def oldest(self) -> BatchKey | None:
        """The lane whose head has waited longest, None if nothing is queued."""
        if len(self._lanes) == 1:
            return next(iter(self._lanes))
        return min(self._lanes, key=self._head_age, default=None)

    def clear(self) -> list[Task]:
        """Take everything out, oldest lane first."""
        tasks = [task for lane in self._lanes.values() for task in lane]
        for task in tasks:
            task.state = State.NEW
        self._lanes.clear()
        self.rows = self.size_bytes = 0
        return tasks

    def _full(self, task: Task) -> QueueFull:
        """Why a task is not admitted."""
        if self.rows + task.rows > self._max_rows:
            return QueueFull(f"the queue holds {self.rows} rows of at most {self._max_rows}: retry later")
        return QueueFull(f"the queue holds {self.size_bytes} bytes of at most {self._max_bytes}: retry later")

    def _head_age(self, key: BatchKey) -> int:
        return next(iter(self._lanes[key])).enqueued_ns

    def _count_in(self, task: Task) -> None:
        task.state = State.QUEUED
        self.rows += task.rows
        self.size_bytes += task.size_bytes

    def _count_out(self, task: Task) -> None:
        task.state = State.NEW
        self.rows -= task.rows
        self.size_bytes -= task.size_bytes
