"""Schedulers whose instances are finished by hand, and policies asked by hand, in time that stands still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.batching.adaptive import Adaptive
from runtime.batching.limits import Limits
from runtime.batching.policy import NOTHING, Decision, Greedy, Policy, Seat
from runtime.batching.queue import TaskQueue
from runtime.batching.scheduler import Scheduler
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, BatchKey
from runtime.clock import MILLISECOND
from tests.support.clock import FakeClock
from tests.support.instances import FakeInstance
from tests.support.tasks import RecordingTask, key

LONG = 10 * MILLISECOND
A, B = key("a"), key("b")
NO_LIMIT = 1 << 60


class OneAhead(Greedy):
    """A policy that gives a busy instance one batch ahead of need."""

    def __init__(self, max_batch_size: int = 64) -> None:
        super().__init__(max_batch_size, NO_LIMIT)

    def decide(self, queue: TaskQueue, seats: Sequence[Seat], now_ns: int) -> Decision:
        free = [index for index, seat in enumerate(seats) if seat.outstanding < 2]
        return super().decide(queue, [Seat()], now_ns)._replace(seat=free[0]) if free else NOTHING


class Rig:
    """A scheduler with some instances.

    Attributes:
        alarms: every instant that the scheduler has asked to be woken at, in order.
    """

    def __init__(self, instances: int = 1, policy: Policy | None = None, **limits: float) -> None:
        self.clock = FakeClock()
        self.alarms: list[int] = []
        self.scheduler = Scheduler(
            Limits(**limits),  # type: ignore[arg-type]
            policy=policy, clock=self.clock, alarm=self.alarms.append,
        )  # fmt: skip
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

    def replace(self, instance: FakeInstance) -> FakeInstance:
        """Have an instance die, and another one come."""
        self.scheduler.detach(instance)
        another = FakeInstance(instance.model)
        self.instances[self.instances.index(instance)] = another
        self.scheduler.attach(another)
        return another

    def finish_all(self) -> None:
        """Answer until nothing runs any more."""
        while any(instance.running for instance in self.instances):
            for instance in self.instances:
                if instance.running:
                    instance.finish(self.scheduler)

    def balance(self) -> tuple[int, int]:
        """Admitted, and what became of them."""
        s = self.scheduler.statistics
        held = sum(len(batch.tasks) for instance in self.instances for batch in instance.running)
        return s.admitted, s.completed + s.failed + s.expired + s.cancelled + held


class Bench:
    """An adaptive policy with a queue and seats to look at; the decisions are not carried out.

    Args:
        instances: all idle.
        cost: rows to milliseconds of one execution, which it has learned from several batches of each.
        limits: of the model.

    Attributes:
        now: virtual time.
    """

    def __init__(self, instances: int = 1, cost: Mapping[int, float] | None = None, **limits: object) -> None:
        A.curve = B.curve = None
        self.limits = Limits(**limits)  # type: ignore[arg-type]
        self.policy = Adaptive(self.limits)
        self.queue = TaskQueue(max_rows=NO_LIMIT, max_bytes=NO_LIMIT)
        self.seats = [Seat() for _ in range(instances)]
        self.now = 1_000 * MILLISECOND
        self.learn(cost or {})

    def learn(
        self, cost: Mapping[int, float], of: BatchKey = A, *, times: int = 12, tasks: int = 1,
        hand_over_ns: int = 0, return_ns: int = 0,
    ) -> None:  # fmt: skip
        """Have batches executed one after the other, each number of rows several times."""
        for _ in range(times):
            for rows, ms in cost.items():
                self.answer(
                    of, [rows] + [0] * (tasks - 1), ms, hand_over_ns=hand_over_ns, return_ns=return_ns
                )

    def answer(
        self, of: BatchKey, rows: Sequence[int], ms: float, *, hand_over_ns: int = 0, return_ns: int = 0,
        waited_ns: int = 0,
    ) -> None:  # fmt: skip
        """Have one batch executed, from now on, after it has waited for the one before it."""
        closed = self.now
        begun = closed + waited_ns + hand_over_ns
        finished = begun + int(ms * MILLISECOND)
        self.now = finished + return_ns
        total = sum(rows)
        stages = Stages(closed, closed + waited_ns, begun, begun, finished, finished, self.now, total, total)
        self.policy.finished(Batch(of, [RecordingTask(of, count) for count in rows], closed), stages)

    def add(self, *tasks: RecordingTask) -> None:
        """Queue tasks, of whose arrival the policy learns nothing."""
        for task in tasks:
            self.queue.add(task, self.now)

    def arrive(self, *tasks: RecordingTask) -> None:
        """Have tasks arrive now."""
        for task in tasks:
            self.policy.arrived(task, self.now)
        self.add(*tasks)

    def occupy(self, seat: int = 0, *, ends_ns: int = 0, batches: int = 1) -> None:
        """Have an instance execute, until an instant if that is known."""
        self.seats[seat].sent = [Batch(A, [RecordingTask(A)], self.now) for _ in range(batches)]
        self.seats[seat].ends_ns = ends_ns

    def decide(self) -> Decision:
        return self.policy.decide(self.queue, self.seats, self.now)

    def due(self, ms: float) -> int:
        """The instant in so many milliseconds."""
        return self.now + int(ms * MILLISECOND)
