"""Nothing that was admitted is lost, answered twice, or run when it must not be."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.batching.scheduler import Limits, Scheduler
from runtime.batching.task import State
from runtime.clock import MILLISECOND
from runtime.errors import MemoryExhausted, NotReady, QueueFull, WorkerLost
from tests.support.clock import FakeClock
from tests.support.instances import FakeInstance
from tests.support.tasks import RecordingTask, key

KEYS = [key("a"), key("b"), key("alone", batchable=False)]
LIMITS = Limits(max_batch_size=4, max_queued_rows=12, max_queued_bytes=1000, max_batch_bytes=1000)
PICK = st.integers(0, 99)


class Checked(FakeInstance):
    """Looks at each batch when it is sent."""

    def __init__(self, machine: SchedulerMachine) -> None:
        super().__init__()
        self.machine = machine

    def send(self, batch: object) -> None:
        super().send(batch)  # type: ignore[arg-type]
        self.machine.begun(self.sent[-1].tasks)  # type: ignore[arg-type]


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.scheduler = Scheduler(LIMITS, clock=self.clock)
        self.instances: list[Checked] = []
        self.admitted: list[RecordingTask] = []
        self.cancelled: set[RecordingTask] = set()
        self.runs: Counter[RecordingTask] = Counter()
        self.closed = False

    def begun(self, tasks: list[RecordingTask]) -> None:
        assert len({task.key for task in tasks}) == 1
        assert len(tasks) == 1 or (tasks[0].key.batchable and sum(task.rows for task in tasks) <= 4)
        assert len(tasks) == 1 or not any(task.attempts for task in tasks)
        arrival = [self.admitted.index(task) for task in tasks]
        assert arrival == sorted(arrival)
        for task in tasks:
            assert not task.outcomes
            assert task not in self.cancelled
            assert not task.deadline_ns or task.deadline_ns > self.clock.now_ns
            self.runs[task] += 1

    @rule(at=st.sampled_from(KEYS), rows=st.integers(0, 5), wait=st.integers(0, 6), pump=st.booleans())
    def submit(self, at: object, rows: int, wait: int, pump: bool) -> None:
        task = RecordingTask(at, rows, deadline_ns=self.clock.now_ns + wait if wait else 0)  # type: ignore[arg-type]
        try:
            self.admitted.append(task)
            self.scheduler.submit(task)
        except QueueFull:
            self.admitted.pop()
        except NotReady:
            self.admitted.pop()
            assert self.closed  # the state, not the exception
        assert task.outcomes == [] or task in self.admitted
        if pump:
            self.pump()

    @rule()
    def pump(self) -> None:
        self.scheduler.pump()
        usable = [instance for instance in self.instances if instance.refusal is None]
        if any(not instance.running for instance in usable):
            assert self.scheduler.queued_rows == 0  # work-conserving

    @precondition(lambda self: self.admitted)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        task = self.admitted[pick % len(self.admitted)]
        if task.state is not State.DONE:
            self.cancelled.add(task)
        self.scheduler.cancel(task)

    @precondition(lambda self: len(self.instances) < 3)
    @rule()
    def attach(self) -> None:
        self.instances.append(Checked(self))
        self.scheduler.attach(self.instances[-1])

    @precondition(lambda self: any(instance.running for instance in self.instances))
    @rule(pick=PICK, short=st.booleans(), failed=st.booleans())
    def finish(self, pick: int, short: bool, failed: bool) -> None:
        busy = [instance for instance in self.instances if instance.running]
        execution_ns = MILLISECOND // 2 if short else 5 * MILLISECOND
        busy[pick % len(busy)].finish(self.scheduler, execution_ns=execution_ns, failed=failed)

    @precondition(lambda self: self.instances)
    @rule(pick=PICK, memory=st.booleans())
    def break_down(self, pick: int, memory: bool) -> None:
        instance = self.instances[pick % len(self.instances)]
        instance.refusal = MemoryExhausted("no room") if memory else WorkerLost("gone")

    @precondition(lambda self: self.instances)
    @rule(pick=PICK)
    def detach(self, pick: int) -> None:
        self.scheduler.detach(self.instances.pop(pick % len(self.instances)))

    @rule(by=st.integers(1, 5))
    def wait(self, by: int) -> None:
        self.clock.advance(by)

    @rule(really=st.integers(0, 9))
    def close(self, really: int) -> None:
        if really == 0:
            self.scheduler.close()
            self.closed = True

    @invariant()
    def everything_admitted_is_accounted_for(self) -> None:
        s = self.scheduler.statistics
        states = Counter(task.state for task in self.admitted)
        held = states[State.QUEUED] + states[State.RUNNING]
        assert s.admitted == len(self.admitted)
        assert s.admitted == s.completed + s.failed + s.expired + s.cancelled + held
        assert states[State.RUNNING] == sum(len(b.tasks) for i in self.instances for b in i.running)
        assert self.scheduler.queued_rows == sum(t.rows for t in self.admitted if t.state is State.QUEUED)

    @invariant()
    def everybody_is_answered_once_when_done_and_never_before(self) -> None:
        for task in self.admitted:
            if task.state is State.DONE:
                assert len(task.outcomes) == 1 or (task in self.cancelled and not task.outcomes)
            else:
                assert task.outcomes == []

    @invariant()
    def nothing_is_run_more_than_twice(self) -> None:
        assert all(count <= 2 for count in self.runs.values())

    def teardown(self) -> None:
        for instance in self.instances:
            while instance.running:
                instance.finish(self.scheduler)
        self.scheduler.close()
        for instance in self.instances:
            self.scheduler.detach(instance)
        assert all(task.state is State.DONE for task in self.admitted)
        self.everybody_is_answered_once_when_done_and_never_before()


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
