"""Which tasks of a lane make up a batch of at most so many rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from runtime.batching.queue import Lane
from runtime.batching.task import Task

LOOK_AHEAD: Final = 32
"""Tasks looked at behind the first that does not fit, for smaller ones that do.

First fit gets as many rows through as cutting requests would, to 3 %, and taking only the head of the queue
12 % fewer (rows 1..8 in batches of 8, simulated)."""

AGED_SHARE: Final = 8
"""Aged tasks of less urgent levels get one row in so many: it ends starvation and is not felt."""


def fill(lane: Lane, max_rows: int, max_bytes: int, aged_ns: int = 0, *, lead: bool = False) -> list[Task]:
    """Choose the tasks of the next batch: the head, whatever its size, and what fits behind it, in order.

    Args:
        lane: not empty; of a key that is not batchable, its head alone is chosen.
        max_rows: of the batch.
        max_bytes: of tensors in the batch.
        aged_ns: tasks of less urgent levels that were admitted before this instant have starved: up to an
            eighth of the rows goes to them first, but nothing that the head needs.
        lead: the one that has starved longest goes first, whatever the head needs.

    Complexity: in the tasks chosen, and those looked at in vain.
    """
    if not lane.key.batchable:
        return [lane.head]
    levels = lane.levels
    if len(levels) == 1 or not aged_ns:
        return first_fit(lane, max_rows, max_bytes)
    if lead:
        oldest = min([line[0] for line in levels.values()], key=attrgetter("enqueued_ns"))
        if oldest.enqueued_ns < aged_ns:
            return first_fit(lane, max_rows, max_bytes, [oldest])
    head = lane.head
    share = min(max_rows // AGED_SHARE, max_rows - head.rows)
    size = max_bytes - head.size_bytes
    starved: list[Task] = []
    for line in list(levels.values())[1:]:
        for task in line:
            if task.enqueued_ns >= aged_ns or task.rows > share or task.size_bytes > size:
                break
            share -= task.rows
            size -= task.size_bytes
            starved.append(task)
    return first_fit(lane, max_rows, max_bytes, starved)


def first_fit(
    candidates: Iterable[Task], max_rows: int, max_bytes: int, before: Iterable[Task] = ()
) -> list[Task]:
    """Choose what fits, in order, behind those chosen before; the first of all whatever its size."""
    chosen = list(before)
    first = set(chosen)
    rows = sum([task.rows for task in chosen])
    size = sum([task.size_bytes for task in chosen])
    missed = 0
    for task in candidates:
        if first and task in first:
            continue
        more_rows = rows + task.rows
        more_size = size + task.size_bytes
        if (more_rows <= max_rows and more_size <= max_bytes) or not chosen:
            chosen.append(task)
            rows, size = more_rows, more_size
            if rows >= max_rows:
                break
        else:
            missed += 1
            if missed > LOOK_AHEAD:
                break
    return chosen
