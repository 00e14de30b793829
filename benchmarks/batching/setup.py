"""What a simulation is made of: requests, how they are served, and the trace that is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.batching.arrivals import Arrival
from benchmarks.batching.models import Model
from runtime.batching.limits import Limits
from runtime.batching.task import BatchKey, Result, Task

UNBOUNDED: Final = 1 << 40

_NO_PARTS: Final = (b"",)


class Request(Task):
    """One row of somebody who notes when it was answered.

    Attributes:
        born_ns: when it was sent.
        due_ns: when its caller gives up, 0 for never, whether or not the scheduler is told.
        answered_ns: when it was answered with outputs, 0 for never.
    """

    __slots__ = ("answered_ns", "born_ns", "due_ns", "shape")

    def __init__(self, key: BatchKey, arrival: Arrival, due_ns: int, *, told: bool) -> None:
        super().__init__(key, 1, _NO_PARTS, due_ns if told else 0, arrival.priority)
        self.born_ns = arrival.at_ns
        self.due_ns = due_ns
        self.answered_ns = 0
        self.shape = arrival.shape

    def succeed(self, result: Result) -> None:
        """Never called: whoever runs the simulation knows the instant."""

    def fail(self, error: Exception) -> None:
        """Stay unanswered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is simulated round the scheduler.

    Attributes:
        model: that is executed.
        instances: of it.
        sizes: allowed batch sizes: rows are padded to the next one.
        slo_ms: time that callers allow for an answer; 0 for any.
        told: the scheduler is told of the deadline.
        noisy: whether executions vary.
        hand_off_ms: on the way to the worker.
        slower: instant, ns, and factor of the executions that begin after it, and the instant at which that
            ends, 0 for never.
        profile: rows to ms, given to the scheduler.
        levels: of priority.
        seed: of the noise.
    """

    model: Model
    instances: int = 1
    sizes: tuple[int, ...] = ()
    slo_ms: float = 0
    told: bool = True
    noisy: bool = True
    hand_off_ms: float = 0
    slower: tuple[int, float, int] = (0, 1.0, 0)
    profile: Mapping[int, float] = field(default_factory=dict)
    levels: int = 1
    seed: int = 1

    def limits(self) -> Limits:
        """What the scheduler is to keep to."""
        return Limits(
            max_batch_size=self.model.limit, allowed_batch_sizes=self.sizes, max_queued_rows=UNBOUNDED,
            priority_levels=self.levels, default_priority_level=1,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clients:
    """A closed loop: so many clients that send again when they were answered.

    Attributes:
        count: of them.
        stagger_ms: by which each position in a batch is answered later than the one before.
        requests: after which the run ends.
    """

    count: int
    stagger_ms: float
    requests: int


@dataclass(slots=True)
class Trace:
    """What happened.

    Attributes:
        requests: all of them, in the order in which they were sent.
        batches: rows of each executed batch, in order.
        idle_alarms: times that an alarm was set while nothing was queued.
        overdue_alarms: times that the policy asked to be woken at an instant that had passed.
    """

    requests: list[Request] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    idle_alarms: int = 0
    overdue_alarms: int = 0
