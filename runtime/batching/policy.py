"""What a policy is: which tasks leave now, to which instance, and why. Pure: state in, decision out.

A policy is asked after every arrival, completion and change of instances, and at the instant that it named
itself; never polled. It looks at its arguments and changes nothing but what it has learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from runtime.batching.fill import fill
from runtime.batching.queue import TaskQueue
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Task
from runtime.errors import RuntimeServingError


class Seat:
    """What a policy knows of one instance.

    Attributes:
        sent: batches sent and not answered, oldest first.
        ends_ns: when the last of them is expected to have been executed; 0 if nothing is known.
    """

    __slots__ = ("ends_ns", "sent")

    def __init__(self) -> None:
        self.sent: list[Batch] = []
        self.ends_ns = 0

    @property
    def outstanding(self) -> int:
        """Batches sent and not answered."""
        return len(self.sent)


class Decision(NamedTuple):
    """What to do now.

    Attributes:
        tasks: of one lane, to leave together; empty if nothing leaves.
        seat: the instance that they go to, an index into the seats.
        reason: why they leave now: ``idle`` (an instance has nothing to do and takes what there is), ``full``
            (no more fits), ``held`` (waited for company), ``tight`` (a deadline bounds the batch),
            ``efficient`` (fewer rows cost less each), ``spread`` (several idle instances share), ``again``
            (a closed list that runs once more).
        predicted_ns: how long they are expected to execute, 0 if nothing is known.
        held_ns: how long an idle instance waited for the batch to grow.
        drop: tasks that can no longer be answered in time, to be told so.
        until_ns: when to ask again at the latest if nothing happens; 0 if there is no need.
    """

    tasks: Sequence[Task] = ()
    seat: int = -1
    reason: str = ""
    predicted_ns: float = 0.0
    held_ns: int = 0
    drop: Sequence[Task] = ()
    until_ns: int = 0


NOTHING: Final = Decision()


class Policy(Protocol):
    """The decisions of the batcher about one model version."""

    def refusal(
        self, task: Task, queue: TaskQueue, seats: Sequence[Seat], now_ns: int
    ) -> RuntimeServingError | None:
        """Why a task that the queue has room for should not be admitted; None if it should."""
        ...

    def arrived(self, task: Task, now_ns: int) -> None:
        """Take note of an admission."""
        ...

    def decide(self, queue: TaskQueue, seats: Sequence[Seat], now_ns: int) -> Decision:
        """What to do now; no task of the queue has passed its deadline, and ``queue.again`` is empty."""
        ...

    def finished(self, batch: Batch, stages: Stages) -> None:
        """Take note that a batch was answered with outputs."""
        ...

    def insight(self) -> dict[str, object]:
        """What was learned, in plain values."""
        ...


class Greedy:
    """Work-conserving: an idle instance takes at once what is queued, most urgent lane first.

    The adaptive policy without anything learned, and its stand-in should it ever fail.

    Args:
        max_batch_size: most rows of a batch.
        max_batch_bytes: most bytes of tensors.
    """

    def __init__(self, max_batch_size: int, max_batch_bytes: int) -> None:
        self._max_batch_size = max_batch_size
        self._max_batch_bytes = max_batch_bytes

    def refusal(
        self, task: Task, queue: TaskQueue, seats: Sequence[Seat], now_ns: int
    ) -> RuntimeServingError | None:
        """Never."""
        return None

    def arrived(self, task: Task, now_ns: int) -> None:
        """Learn nothing."""

    def decide(self, queue: TaskQueue, seats: Sequence[Seat], now_ns: int) -> Decision:
        """Fill the first idle instance from the lane whose head is due first."""
        for index, seat in enumerate(seats):
            if not seat.sent and queue.lanes:
                lane = min(queue.lanes.values(), key=lambda lane: (lane.level, lane.head.order_ns))
                limit = lane.key.limit or self._max_batch_size
                chosen = fill(lane, limit, self._max_batch_bytes)
                whole = sum([task.rows for task in chosen]) == lane.rows
                return Decision(chosen, index, "idle" if whole else "full")
        return NOTHING

    def finished(self, batch: Batch, stages: Stages) -> None:
        """Learn nothing."""

    def insight(self) -> dict[str, object]:
        """Nothing."""
        return {}
