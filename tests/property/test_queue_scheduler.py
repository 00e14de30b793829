"""Nothing that was admitted is lost, answered twice, or run when it must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.batching.limits import Limits
from runtime.batching.policy import Greedy
from runtime.batching.scheduler import Scheduler
from runtime.batching.task import Batch, State, Task
from runtime.clock import MILLISECOND
from runtime.errors import (
    DeadlineUnreachable,
    MemoryExhausted,
    ModelError,
    NotReady,
    PoisonInput,
    QueueFull,
    TaskTooLarge,
    WorkerLost,
)
from tests.support.clock import FakeClock
from tests.support.instances import FakeInstance, no_outputs
from tests.support.tasks import RecordingTask, real_key

MOST = 4
LIMITS = Limits(max_batch_size=MOST, max_queued_rows=24, max_queued_bytes=1000, max_batch_bytes=9)
PICK = st.integers(0, 99)
ENDINGS = {"good": None, "raised": ModelError("raised"), "memory": MemoryExhausted("out of memory")}


class Checked(FakeInstance):
    """Looks at each batch when it is sent, and counts what was begun."""

    def __init__(self, machine: SchedulerMachine) -> None:
        super().__init__()
        self.machine = machine

    def send(self, batch: Batch) -> None:
        self.machine.look()  # later, somebody's error may have parted the pieces from what was cut
        super().send(batch)
        self.machine.sent(batch)

    def answer(self, ending: str, execution_ns: int, refused: Iterable[int]) -> None:
        self.machine.runs.update(self.running[0].tasks)
        error = ENDINGS[ending]
        self.model = no_outputs if error is None else lambda batch: error
        tasks = range(len(self.running[0].tasks))
        errors = {place: ModelError("this one") for place in refused if place in tasks}
        self.finish(self.machine.scheduler, execution_ns=execution_ns, refused=errors)

    def abandon(self) -> list[Batch]:
        batches = super().abandon()
        self.machine.runs.update(batches[0].tasks if batches else ())
        return batches


class SchedulerMachine(RuleBasedStateMachine):
    """``units`` are what the queue handles: the tasks admitted, or the pieces seen in their place."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.alarm_ns = 0
        self.keys = [real_key("a"), real_key("b"), real_key("alone", batchable=False)]
        self.instances: list[Checked] = []
        self.admitted: list[RecordingTask] = []
        self.cancelled: set[Task] = set()
        self.units: dict[Task, None] = {}
        self.cut: set[Task] = set()
        self.runs: Counter[Task] = Counter()
        self.closed = False
        self.settled = True

    @initialize(greedy=st.booleans())
    def choose_policy(self, greedy: bool) -> None:
        self.greedy = greedy
        policy = Greedy(MOST, LIMITS.max_batch_bytes) if greedy else None
        self.scheduler = Scheduler(LIMITS, policy=policy, clock=self.clock, alarm=self.wake_at)

    def wake_at(self, at_ns: int) -> None:
        assert at_ns != self.alarm_ns
        self.alarm_ns = at_ns

    def sent(self, batch: Batch) -> None:
        tasks = batch.tasks
        assert tasks
        assert {task.key for task in tasks} == {batch.key}
        assert batch.rows == sum(task.rows for task in tasks)
        assert batch.key.batchable or len(tasks) == 1
        assert len(tasks) == 1 or batch.size_bytes <= LIMITS.max_batch_bytes
        if not batch.alone:  # what runs again was closed before a limit may have been lowered
            assert batch.rows <= (batch.key.limit or MOST)
            assert not any(task.attempts for task in tasks)
        for task in tasks:
            assert task.state is State.RUNNING
            assert task not in self.cancelled
            assert not task.deadline_ns or task.deadline_ns > self.clock.now_ns
            self.units.setdefault(task)

    def look(self) -> None:
        """Replace what was cut by its pieces."""
        units = list(self.units)
        for task in units:
            if task.pieces:
                self.cut.add(task)
                units += task.pieces
            for piece in task.pieces:
                self.units.setdefault(piece)
                if task in self.cancelled:
                    self.cancelled.add(piece)

    # -- what happens ---------------------------------------------------------------------------

    @rule(
        which=st.integers(0, 2), rows=st.integers(0, 9), wait=st.sampled_from([0, 0, 1, 5, 20, 90]),
        priority=st.integers(0, 3), pump=st.booleans(),
    )  # fmt: skip
    def submit(self, which: int, rows: int, wait: int, priority: int, pump: bool) -> None:
        of = self.keys[which]
        due = self.clock.now_ns + wait * MILLISECOND if wait else 0
        if not of.batchable:
            rows = 1
        task = RecordingTask(of, rows, parts=[bytes(rows)], deadline_ns=due, priority=priority)
        try:
            self.scheduler.submit(task)
        except (QueueFull, TaskTooLarge, PoisonInput, DeadlineUnreachable):
            assert not self.closed
        except NotReady:
            assert self.closed  # the state, not the exception
        else:
            self.admitted.append(task)
            self.units.setdefault(task)
            self.settled = False
        assert task.outcomes == []
        self.clock.advance(1)
        if pump:
            self.pump()

    @rule()
    def pump(self) -> None:
        self.scheduler.pump()
        self.settled = True

    @precondition(lambda self: self.admitted)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        task = self.admitted[pick % len(self.admitted)]
        if task.state is not State.DONE:
            self.cancelled.add(task)
            self.look()
        self.scheduler.cancel(task)

    @precondition(lambda self: len(self.instances) < 3)
    @rule()
    def attach(self) -> None:
        self.instances.append(Checked(self))
        self.scheduler.attach(self.instances[-1])
        self.settled = True

    @precondition(lambda self: any(instance.running for instance in self.instances))
    @rule(
        pick=PICK, ms=st.sampled_from([0.5, 1, 5, 20]), ending=st.sampled_from(["good", "good", *ENDINGS]),
        refused=st.sets(st.integers(0, 5), max_size=2),
    )  # fmt: skip
    def finish(self, pick: int, ms: float, ending: str, refused: set[int]) -> None:
        busy = [instance for instance in self.instances if instance.running]
        execution_ns = int(ms * MILLISECOND)
        self.clock.advance(execution_ns)
        busy[pick % len(busy)].answer(ending, execution_ns, refused)
        self.settled = True

    @precondition(lambda self: self.instances)
    @rule(pick=PICK, kind=st.sampled_from([MemoryExhausted, WorkerLost, None]))
    def break_down(self, pick: int, kind: type[MemoryExhausted | WorkerLost] | None) -> None:
        instance = self.instances[pick % len(self.instances)]
        if not isinstance(instance.refusal, WorkerLost):  # the dead stay dead
            instance.refusal = kind("no") if kind else None

    @precondition(lambda self: self.instances)
    @rule(pick=PICK)
    def detach(self, pick: int) -> None:
        self.scheduler.detach(self.instances.pop(pick % len(self.instances)))
        self.settled = True

    @rule(by=st.integers(1, 90))
    def wait(self, by: int) -> None:
        """Time passes, and the alarm rings when it was set to."""
        until = self.clock.now_ns + by * MILLISECOND
        while 0 < self.alarm_ns <= until:
            self.clock.now_ns = max(self.clock.now_ns, self.alarm_ns)
            rung = self.alarm_ns
            self.pump()
            assert self.alarm_ns != rung
        self.clock.now_ns = until

    @rule(really=st.integers(0, 19))
    def close(self, really: int) -> None:
        if really == 0:
            self.scheduler.close()
            self.closed = True

    # -- what holds -----------------------------------------------------------------------------

    @invariant()
    def everything_admitted_is_accounted_for(self) -> None:
        self.look()
        s = self.scheduler.statistics
        units = [unit for unit in self.units if unit not in self.cut]
        held = [unit for unit in units if unit.state in (State.QUEUED, State.RUNNING)]
        assert s.admitted == s.completed + s.failed + s.expired + s.cancelled + len(held)
        running = {task for i in self.instances for batch in i.running for task in batch.tasks}
        assert running == {unit for unit in held if unit.state is State.RUNNING}
        queued = [unit for unit in held if unit.state is State.QUEUED]
        assert self.scheduler.queued_rows == sum(unit.rows for unit in queued)
        assert bool(queued) or not self.alarm_ns  # nothing wakes a scheduler that has nothing to do

    @invariant()
    def everybody_is_answered_once_when_done_and_never_before(self) -> None:
        for task in self.admitted:
            if task.state is State.DONE:
                assert len(task.outcomes) == 1 or (task in self.cancelled and not task.outcomes)
            else:
                assert task.outcomes == []

    @invariant()
    def nothing_is_run_more_often_than_it_takes_to_find_out_who_is_at_fault(self) -> None:
        assert all(count <= 1 + 2 + 1 for count in self.runs.values())  # log2 of MOST, and a lost worker

    @invariant()
    def who_waits_while_an_instance_is_idle_has_an_alarm_set_or_is_sent(self) -> None:
        idle = [instance for instance in self.instances if not instance.running]
        if self.settled and self.scheduler.queued_rows and any(i.refusal is None for i in idle):
            assert self.alarm_ns > self.clock.now_ns
            assert not self.greedy  # which conserves work

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for instance in self.instances:
            if not isinstance(instance.refusal, WorkerLost):
                instance.refusal = None
        self.pump()
        while any(instance.running for instance in self.instances) or self.alarm_ns:
            self.wait(1)
            for instance in self.instances:
                if instance.running:
                    instance.answer("good", MILLISECOND, ())
        left = self.scheduler.queued_rows
        assert not left or not self.scheduler.instances
        self.scheduler.close()
        for instance in self.instances:
            self.scheduler.detach(instance)
        for task in self.admitted:
            assert len(task.outcomes) == 1 or (task in self.cancelled and not task.outcomes)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(deadline=None, max_examples=100, stateful_step_count=50)
