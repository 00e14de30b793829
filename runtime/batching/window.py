"""What to do when not everybody queued can be answered in time. Pure.

Under overload the tempting answer, a batch small enough for the most urgent deadline, is the wrong one: it
lowers the throughput, so that the next deadline is tighter still, until every batch has one row. Better
to give up the few that cost everybody else, and to run the largest batch that the rest has time for.

Source: the early drop of Nexus (Shen et al., SOSP 2019), with a look ahead and with the worth of a drop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from runtime.batching.task import Task

DEPTH: Final = 4
"""Batches looked ahead, in full ones."""

Cost = Callable[[int], float]


class Choice(NamedTuple):
    """The first ``drop`` tasks are given up, and the next ``take`` leave."""

    drop: int
    take: int


class Window:
    """The tasks that could be part of the next batches, the most urgent first.

    Args:
        tasks: in the order in which they would leave.
        limit: most rows of a batch.
        start_ns: when the next batch would begin.
        high: rows to the time, ns, that an execution will hardly exceed, the way back included.
        mean: rows to the time that one takes on average.
        instances: that execute at the same time.
    """

    def __init__(
        self, tasks: Sequence[Task], *, limit: int, start_ns: int, high: Cost, mean: Cost, instances: int
    ) -> None:
        self._rows = [task.rows for task in tasks]
        self._due = [task.deadline_ns or math.inf for task in tasks]
        self._limit = limit
        self._start = start_ns
        self._high = high
        self._mean = mean
        self._instances = instances

    def choose(self) -> Choice:
        """Decide between a batch that is small enough for the first task and one that leaves it out.

        1. The largest batch in time for all its tasks, if those behind it will not be late either.
        2. The largest batch without the tasks that stand in its way, if it gets more rows done in its time.
        3. Else the former all the same.
        """
        first = self._in_time(0, self._start)
        if first and self._all_in_time(first):
            return Choice(0, first)
        drop, take = self._without_the_first()
        if drop and self._worth(drop, take) > self._worth(0, first):
            return Choice(drop, take)
        return Choice(0, first)

    def _in_time(self, begin: int, start: float) -> int:
        """How many tasks from ``begin`` on can run together from ``start`` with none of them late."""
        rows = count = 0
        due = math.inf
        for at in range(begin, len(self._rows)):
            rows += self._rows[at]
            due = min(due, self._due[at])
            if (rows > self._limit and count) or start + self._high(min(rows, self._limit)) > due:
                break
            count += 1
        return count

    def _all_in_time(self, count: int) -> bool:
        """Whether those behind the first ``count`` will be in time, batch after batch."""
        at = 0
        start: float = self._start
        while True:
            start += self._high(sum(self._rows[at : at + count])) / self._instances
            at += count
            if at >= len(self._rows):
                return True
            count = self._in_time(at, start)
            if not count:
                return False

    def _without_the_first(self) -> Choice:
        """The fewest tasks to give up so that a batch of all that is left, as large as may be, is in time."""
        left = sum(self._rows)
        for drop, rows in enumerate(self._rows):
            if self._start + self._high(min(self._limit, left)) <= self._due[drop]:
                return Choice(drop, self._full_from(drop))
            left -= rows
        return Choice(0, 0)

    def _full_from(self, begin: int) -> int:
        """How many tasks from ``begin`` on fit into a batch."""
        rows = 0
        for at in range(begin, len(self._rows)):
            rows += self._rows[at]
            if rows > self._limit and at > begin:
                return at - begin
        return len(self._rows) - begin

    def _worth(self, drop: int, take: int) -> float:
        """Rows done in the time that they take."""
        rows = sum(self._rows[drop : drop + take])
        return rows / max(1.0, self._mean(rows)) if rows else 0.0
