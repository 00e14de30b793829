"""The unit that the batcher handles, and the list of them that is executed together.

States of a task::

    NEW ─► QUEUED ─► RUNNING ─► DONE        answered, with outputs or an error
             │  ▲        │
             │  └────────┘                  its worker died: queued again, once
             └──────────────► DONE          cancelled or expired before it ran

A task is completed exactly once: whoever moves it to DONE (under the scheduler's lock) calls
:meth:`Task.succeed` or :meth:`Task.fail`, once, outside of it.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from runtime.batching.statistics import Stages
from runtime.clock import MILLISECOND
from runtime.tensors.layout import Layout

if TYPE_CHECKING:
    from runtime.batching.latency import LatencyCurve

Buffer = bytes | bytearray | memoryview


class State(enum.IntEnum):
    """Where a task is in its life."""

    NEW = 0
    QUEUED = 1
    RUNNING = 2
    DONE = 3


class BatchKey:
    """What two tasks must have in common to run in one batch. Compared by identity: intern it by head.

    Args:
        head: the frame head: method, names, datatypes and non-batch dims of all inputs.
        batchable: whether rows of several tasks may be merged; if not, each task is a batch of its own.
        variable: for each input, whether its size is not determined by the number of rows (BYTES).

    Attributes:
        curve: how long batches of this key take, learned by the policy; None until the first one.
        limit: most rows of a batch, lowered after memory did not suffice; 0 for the model's limit.
        relief: full batches of that limit that succeeded since.
    """

    __slots__ = ("batchable", "curve", "head", "limit", "relief", "variable")

    def __init__(self, head: bytes, *, batchable: bool, variable: tuple[bool, ...]) -> None:
        self.head = head
        self.batchable = batchable
        self.variable = variable
        self.curve: LatencyCurve | None = None
        self.limit = 0
        self.relief = 0

    def __repr__(self) -> str:
        return f"BatchKey({self.head!r}, batchable={self.batchable})"


class Result:
    """What a worker answered for one batch, to be taken apart task by task, in order.

    The buffers are valid only until the answer has been handled: who wants to keep them copies.

    Args:
        layout: the outputs, with the batch axis left open.
        payload: the outputs, output by output and within each task by task, in wire form.
        sizes: bytes of each BYTES output of each task, output by output.
        tasks: how many tasks the batch has.
        rows: the sum of their rows.
        stages: where the time went, if the instance knows.
        batch: that was answered, if the instance tells; why it left when it did stands there.
    """

    __slots__ = (
        "_at",
        "_index",
        "_row_bytes",
        "_starts",
        "batch",
        "layout",
        "payload",
        "sizes",
        "stages",
        "tasks",
    )

    def __init__(
        self, layout: Layout, payload: Buffer, sizes: Sequence[int], *, tasks: int, rows: int,
        stages: Stages | None = None, batch: Batch | None = None,
    ) -> None:  # fmt: skip
        self.layout = layout
        self.payload = payload
        self.sizes = sizes
        self.tasks = tasks
        self.stages = stages
        self.batch = batch
        tensors = layout.tensors
        self._row_bytes = tensors[0].row_bytes if len(tensors) == 1 else 0  # the usual case, kept short
        self._at = 0
        self._index = 0
        self._starts = [] if self._row_bytes else self._locate(rows)

    def take(self, rows: int) -> Sequence[Buffer]:
        """The next task's outputs, in the layout's order."""
        if self._row_bytes:
            start = self._at
            self._at = end = start + self._row_bytes * rows
            return (self.payload[start:end],)
        return self._take_each(rows)

    def _take_each(self, rows: int) -> list[Buffer]:
        index = self._index
        self._index = index + 1
        starts = self._starts
        payload = self.payload
        taken: list[Buffer] = []
        table = index
        for position, tensor in enumerate(self.layout.tensors):
            start = starts[position]
            if tensor.variable:
                end = start + self.sizes[table]
                table += self.tasks
            else:
                end = start + tensor.row_bytes * rows
            starts[position] = end
            taken.append(payload[start:end])
        return taken

    def _locate(self, rows: int) -> list[int]:
        """Where each output begins."""
        starts: list[int] = []
        at = table = 0
        for tensor in self.layout.tensors:
            starts.append(at)
            if tensor.variable:
                at += sum(self.sizes[table : table + self.tasks])
                table += self.tasks
            else:
                at += tensor.row_bytes * rows
        return starts


class Task(ABC):
    """One request's rows. Subclasses know how to answer their caller.

    Args:
        key: what it may be merged with.
        rows: extent along the batch axis, 1 if the method is not batchable.
        parts: the inputs in wire form, one buffer each, in the key's order.
        deadline_ns: monotonic instant at which the caller gives up, 0 for never.
        priority: level, of which 1 is the most urgent; 0 for the model's default level.

    Attributes:
        attempts: how often a worker died while it ran.
        order_ns: its place in the queue; the least leaves first.
        pieces: what was queued in its place, if it is larger than a batch may be.
    """

    __slots__ = (
        "attempts", "deadline_ns", "enqueued_ns", "key", "order_ns", "parts",
        "pieces", "priority", "rows", "size_bytes", "state",
    )  # fmt: skip

    def __init__(
        self, key: BatchKey, rows: int, parts: Sequence[Buffer], deadline_ns: int = 0, priority: int = 0
    ) -> None:
        self.key = key
        self.rows = rows
        self.parts = parts
        self.size_bytes = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        self.deadline_ns = deadline_ns
        self.priority = priority
        self.enqueued_ns = 0
        self.order_ns = 0
        self.attempts = 0
        self.pieces: Sequence[Task] = ()
        self.state = State.NEW

    @abstractmethod
    def succeed(self, result: Result) -> None:
        """Answer with this task's share of the outputs, which :meth:`Result.take` gives; take it once."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Answer with an error."""

    def post(self, function: Callable[[], object]) -> bool:
        """Have the thread on which this task is answered best run a function; False if any will do."""
        return False


class Batch:
    """A closed list of tasks of one key that is executed together.

    Invariant: ``rows`` is the sum of the tasks' rows and at most the limit, unless there is one task.

    Args:
        key: of all tasks.
        tasks: at least one.
        closed_ns: when it left the queue.
        reason: why it left then, one of the policy's words.
        predicted_ns: how long it is expected to execute, 0 if nothing is known.
        held_ns: how long an idle instance waited for it to grow.
        alone: to be executed by itself: the worker must not merge it with another service's batch.
        depth: how many times the batch that it is a part of was halved.

    Attributes:
        number: what the instance calls it.
    """

    __slots__ = (
        "alone", "closed_ns", "depth", "held_ns", "key", "number", "predicted_ns", "reason", "rows",
        "size_bytes", "tasks",
    )  # fmt: skip

    def __init__(
        self, key: BatchKey, tasks: list[Task], closed_ns: int, *, reason: str = "",
        predicted_ns: float = 0.0, held_ns: int = 0, alone: bool = False, depth: int = 0,
    ) -> None:  # fmt: skip
        self.key = key
        self.tasks = tasks
        self.rows = sum([task.rows for task in tasks])
        self.size_bytes = sum([task.size_bytes for task in tasks])
        self.closed_ns = closed_ns
        self.reason = reason
        self.predicted_ns = predicted_ns
        self.held_ns = held_ns
        self.alone = alone
        self.depth = depth
        self.number = 0

    def facts(self) -> dict[str, object]:
        """Why it left, for the log: nothing of what is in the tensors."""
        return {
            "reason": self.reason,
            "rows": self.rows,
            "tasks": len(self.tasks),
            "predicted_ms": self.predicted_ns / MILLISECOND,
            "held_ms": self.held_ns / MILLISECOND,
        }
