"""Which tasks leave now, and to which instance. Pure: state in, decision out.

A policy is asked after every arrival, completion and change of instances, never polled. What it may
look at is its arguments; what it may answer is one :class:`Dispatch` or None for "nothing now".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from runtime.batching.queue import TaskQueue
from runtime.batching.task import BatchKey


class Seat:
    """What a policy knows of one instance.

    Attributes:
        outstanding: batches sent and not yet answered.
    """

    __slots__ = ("outstanding",)

    def __init__(self) -> None:
        self.outstanding = 0


class Dispatch(NamedTuple):
    """Send the head of this lane to this instance (an index into the seats)."""

    key: BatchKey
    seat: int


class Policy(Protocol):
    """The one decision of the batcher."""

    def decide(self, queue: TaskQueue, seats: Sequence[Seat]) -> Dispatch | None:
        """What to do now; None if nothing can leave."""
        ...


class Greedy:
    """Work-conserving: an idle instance takes at once what is queued, oldest lane first.

    A busy instance gets nothing ahead of need: what has left the queue can no longer be cancelled, expire,
    or grow into a larger batch. Committing just in time for the end of the running batch needs a prediction
    of that end, which this policy does not have.
    """

    def decide(self, queue: TaskQueue, seats: Sequence[Seat]) -> Dispatch | None:
        """Choose the oldest lane and the first idle instance."""
        key = queue.oldest()
        if key is not None:
            for index, seat in enumerate(seats):
                if not seat.outstanding:
                    return Dispatch(key, index)
        return None
