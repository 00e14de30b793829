"""A scheduler whose instances are finished by hand, in time that stands still."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.batching.policy import Dispatch, Policy, Seat
from runtime.batching.queue import TaskQueue
from runtime.batching.scheduler import Limits, Scheduler
from runtime.clock import MILLISECOND
from tests.support.clock import FakeClock
from tests.support.instances import FakeInstance
from tests.support.tasks import RecordingTask, key

LONG = 10 * MILLISECOND
A, B = key("a"), key("b")


class OneAhead:
    """A policy that gives a busy instance one batch ahead of need."""

    def decide(self, queue: TaskQueue, seats: Sequence[Seat]) -> Dispatch | None:
        key = queue.oldest()
        free = [index for index, seat in enumerate(seats) if seat.outstanding < 2]
        return Dispatch(key, free[0]) if key is not None and free else None


class Rig:
    """A scheduler with some instances."""

    def __init__(self, instances: int = 1, policy: Policy | None = None, **limits: int) -> None:
        self.clock = FakeClock()
        self.scheduler = Scheduler(Limits(**limits), policy=policy, clock=self.clock)
        self.instances = [FakeInstance() for _ in range(instances)]
        for instance in self.instances:
            self.scheduler.attach(instance)

    @property
    def only(self) -> FakeInstance:
        (instance,) = self.instances
        return instance

    def submit(self, *tasks: RecordingTask) -> None:
        for task in tasks:
            self.scheduler.submit(task)
        self.scheduler.pump()

    def occupied(self) -> RecordingTask:
        """Have one task run on each instance; returns the last."""
        for _ in self.instances:
            task = RecordingTask(A)
            self.submit(task)
        return task

    def balance(self) -> tuple[int, int]:
        """Admitted, and what became of them."""
        s = self.scheduler.statistics
        held = sum(len(batch.tasks) for instance in self.instances for batch in instance.running)
        return s.admitted, s.completed + s.failed + s.expired + s.cancelled + held
