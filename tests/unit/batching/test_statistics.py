"""What is counted, and how the time of a request is cut into stages."""

from __future__ import annotations

import json
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching import histograms
from runtime.batching.limits import Limits
from runtime.batching.scheduler import Scheduler
from runtime.batching.statistics import Executions, Stages, Statistics, add_up
from runtime.batching.task import Batch
from runtime.clock import MILLISECOND
from runtime.errors import ModelError, NotReady, QueueFull
from runtime.tensors.frame import Timing
from tests.support.clock import FakeClock
from tests.support.execution import Inputs
from tests.support.instances import FakeInstance
from tests.support.tasks import RecordingTask, key
from tests.support.workers import WAIT_S, answered, key_of, read_until, scheduler, worker

STAGES = Stages(
    closed_ns=100, free_ns=110, begun_ns=130, started_ns=135, executed_ns=235, finished_ns=238,
    answered_ns=300, rows=8, padded=8,
)  # fmt: skip
instants = st.integers(0, 1 << 62)


def batch_of(*rows: int, reason: str = "idle", **known: Any) -> Batch:
    return Batch(key(), [RecordingTask(rows=count) for count in rows], 100, reason=reason, **known)


# -- stages -----------------------------------------------------------------------------------------


def test_the_worker_s_stamps_are_cut_into_stages() -> None:
    stages = Stages.observe(100, 0, Timing(130, 135, 235, 238), 300, rows=8, padded=9, joined=True)
    assert stages == STAGES._replace(free_ns=100, padded=9, joined=True)


def test_a_batch_that_was_sent_ahead_waits_for_the_one_before_it() -> None:
    came_early = Stages.observe(100, 110, Timing(105, 135, 235, 238), 300, rows=8, padded=8, joined=False)
    assert (came_early.free_ns, came_early.begun_ns) == (110, 110)
    came_late = Stages.observe(100, 110, Timing(130, 135, 235, 238), 300, rows=8, padded=8, joined=False)
    assert came_late == STAGES


@given(instants, instants, st.builds(Timing, instants, instants, instants, instants), instants)
def test_stages_follow_one_another_whatever_the_stamps_say(
    closed: int, before: int, timing: Timing, answered: int
) -> None:
    found = Stages.observe(closed, before, timing, answered, rows=1, padded=1, joined=False)[:7]
    assert found[0] == closed
    assert list(found) == sorted(found)


@given(instants, instants, instants)
def test_a_bare_duration_gives_stages_too(closed: int, execution: int, answered: int) -> None:
    stages = Stages.bare(closed, execution, answered, 3)
    assert list(stages[:7]) == sorted(stages[:7])
    assert (stages.executed_ns - stages.started_ns, stages.rows, stages.padded) == (execution, 3, 3)


# -- booking ----------------------------------------------------------------------------------------


def test_a_stage_counts_for_each_task_and_an_execution_once() -> None:
    s = Statistics()
    s.book(batch_of(2, 3), [40, 90], STAGES, failed=False)
    assert (s.completed, s.rows, s.batches, s.batch_sizes) == (2, 5, 1, {5: 1})
    assert (s.request_ns, s.queue_ns, s.wait_ns) == (260 + 210, 60 + 10, 2 * 10)
    assert (s.merge_ns, s.compute_ns, s.split_ns) == (2 * 5, 2 * 100, 2 * 3)
    assert s.executions == {8: Executions(1, 5, 100, 3)}
    assert (s.execution_count, s.execution_ns, s.last_ns) == (1, 100, 300)
    assert (s.unsuccessful, s.fail_ns) == (0, 0)


def test_an_execution_that_another_answer_stands_for_is_not_counted_again() -> None:
    s = Statistics()
    s.book(batch_of(2, 3), [40, 90], STAGES, failed=False)
    s.book(batch_of(3), [50], STAGES._replace(padded=16, joined=True), failed=False)
    assert (s.batches, s.completed, s.rows, s.compute_ns) == (2, 3, 8, 300)
    assert s.executions == {8: Executions(1, 5, 100, 3)}
    assert (sum(s.execution_times), s.padding_rows) == (1, 0)


def test_a_failed_batch_counts_its_time_and_nothing_else() -> None:
    s = Statistics()
    s.book(batch_of(2, 3), [40, 90], STAGES, failed=True)
    assert (s.failed, s.completed, s.rows, s.batches) == (2, 0, 0, 1)
    assert (s.fail_ns, s.request_ns, s.queue_ns, s.compute_ns) == (260 + 210, 0, 0, 0)
    assert s.executions == {}
    assert sum(s.queue_times) + sum(s.request_times) + sum(s.execution_times) == 0


def test_tasks_of_a_failed_batch_that_run_again_have_not_ended() -> None:
    s = Statistics()
    s.book(batch_of(2, 3), [], STAGES, failed=True)
    assert (s.failed, s.fail_ns, s.batches, s.isolated) == (0, 0, 1, 0)


def test_the_culprit_of_a_halved_batch_is_isolated() -> None:
    s = Statistics()
    s.book(batch_of(1), [40], STAGES, failed=True)
    assert (s.failed, s.isolated) == (1, 0)  # it was alone from the beginning
    s.book(batch_of(1, 1, depth=1), [40, 40], STAGES, failed=True)
    s.book(batch_of(1, depth=2), [], STAGES, failed=True)  # it runs once more
    assert (s.failed, s.isolated) == (3, 0)
    s.book(batch_of(1, depth=2), [40], STAGES, failed=True)
    assert (s.failed, s.isolated) == (4, 1)


def test_tasks_with_an_error_of_their_own_fail_and_the_others_of_the_batch_do_not() -> None:
    s = Statistics()
    s.book(batch_of(2, 3, 4), [40, 90, 50], STAGES, failed=False, refused=[1])
    assert (s.completed, s.failed, s.rows, s.batch_sizes) == (2, 1, 6, {9: 1})
    assert (s.request_ns, s.fail_ns, s.compute_ns) == (260 + 250, 210, 2 * 100)
    assert (sum(s.request_times), s.execution_count) == (2, 1)
    s.book(batch_of(1), [40], STAGES, failed=False, refused=[0])
    assert (s.completed, s.failed, s.rows, s.execution_count) == (2, 2, 6, 2)


def test_padding_counts_once_for_each_execution() -> None:
    s = Statistics()
    s.book(batch_of(2, 3), [40, 90], STAGES._replace(padded=16), failed=False)
    s.book(batch_of(3), [50], STAGES._replace(padded=16, joined=True), failed=False)
    assert s.padding_rows == 8


def test_each_batch_says_why_it_left_and_how_long_it_was_held() -> None:
    s = Statistics()
    s.book(batch_of(1), [40], STAGES, failed=False)
    s.book(batch_of(1, reason="held", held_ns=5), [40], STAGES, failed=False)
    s.book(batch_of(1, reason="held", held_ns=1), [40], STAGES, failed=True)
    assert s.reasons == {"idle": 1, "held": 2}
    assert (s.hold_ns, sum(s.hold_times), s.hold_times[1], s.hold_times[3]) == (6, 2, 1, 1)


def test_predictions_are_compared_with_the_time_in_the_worker() -> None:
    s = Statistics()
    s.book(batch_of(8, predicted_ns=100.5), [40], STAGES, failed=False)  # 108 from merge to split
    s.book(batch_of(8, predicted_ns=110.0), [40], STAGES, failed=False)
    assert (s.predictions, s.predicted_ns, s.measured_ns, s.mispredicted_ns) == (2, 210, 216, 8 + 2)


@pytest.mark.parametrize(
    ("rows", "predicted_ns", "failed"),
    [(8, 0.0, False), (5, 100.0, False), (8, 100.0, True)],
    ids=["nothing was predicted", "merged with another", "failed"],
)
def test_what_cannot_be_compared_with_a_prediction_is_left_out(
    rows: int, predicted_ns: float, failed: bool
) -> None:
    s = Statistics()
    s.book(batch_of(rows, predicted_ns=predicted_ns), [40], STAGES, failed=failed)
    assert (s.predictions, s.predicted_ns, s.measured_ns, s.mispredicted_ns) == (0, 0, 0, 0)


def test_drops_are_counted_by_reason() -> None:
    s = Statistics()
    s.book_drop("queue_full")
    s.book_drop("deadline_unreachable", 3)
    s.book_drop("queue_full")
    assert s.drops == {"queue_full": 2, "deadline_unreachable": 3}


@given(st.lists(instants, max_size=70), st.integers(0, 1 << 40))
def test_each_time_lands_in_the_bucket_of_its_power_of_two(enqueued: list[int], beyond: int) -> None:
    closed = max(enqueued, default=0) + beyond
    stages = Stages.bare(closed, 7, closed + 9, 1)
    s = Statistics()
    s.book(batch_of(1), enqueued, stages, failed=False)
    for counted, until in ((s.queue_times, closed), (s.request_times, closed + 9)):
        expected = [0] * histograms.BUCKETS
        for instant in enqueued:
            expected[(until - instant).bit_length()] += 1
        assert counted == expected


class Booking(NamedTuple):
    """One answered batch of tasks of one row."""

    enqueued: list[int]
    reason: str = "idle"
    failed: bool = False
    joined: bool = False
    held_ns: int = 0
    predicted_ns: float = 0.0


bookings = st.lists(
    st.builds(
        Booking, st.lists(st.integers(0, 99), min_size=1), st.sampled_from(["idle", "full", "held"]),
        st.booleans(), st.booleans(), st.integers(0, 9), st.sampled_from([0.0, 50.0]),
    )
)  # fmt: skip


def booked(*lists: list[Booking]) -> Statistics:
    s = Statistics()
    for some in lists:
        for enqueued, reason, failed, joined, held_ns, predicted_ns in some:
            s.admitted += len(enqueued)
            batch = batch_of(*[1] * len(enqueued), reason=reason, held_ns=held_ns, predicted_ns=predicted_ns)
            stages = STAGES._replace(rows=batch.rows, padded=batch.rows + 1, joined=joined)
            s.book(batch, enqueued, stages, failed=failed)
            s.book_drop(reason, batch.rows)
    return s


@given(bookings, bookings)
def test_what_two_processes_count_adds_up_to_what_one_would_have(
    first: list[Booking], second: list[Booking]
) -> None:
    parts = [booked(first), booked(second)]
    sent = json.loads(json.dumps([part.to_record() for part in parts]))
    assert [Statistics.from_record(record) for record in sent] == parts
    models = [{"name": "m", "version": "1", "statistics": record} for record in sent]
    assert add_up(models) == {("m", "1"): booked(first, second)}  # type: ignore[arg-type]


def test_versions_are_added_up_apart() -> None:
    record = booked([Booking([1])]).to_record()
    found = add_up(
        {"name": name, "version": version, "statistics": record} for name, version in ("aa", "ab", "aa")
    )
    assert {key: total.completed for key, total in found.items()} == {("a", "a"): 2, ("a", "b"): 1}


def test_a_copy_does_not_change_any_more() -> None:
    s = booked([Booking([1, 2])])
    copy = s.copy()
    assert copy == s
    s.book(batch_of(3), [1], STAGES, failed=False)
    s.book_drop("queue_full")
    s.queue_times[5] += 1
    assert copy == booked([Booking([1, 2])])


# -- the scheduler ----------------------------------------------------------------------------------


class Rig:
    """A scheduler with one instance and a clock that stands still."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = FakeClock()
        self.scheduler = Scheduler(limits or Limits(), clock=self.clock)
        self.instance = FakeInstance()
        self.scheduler.attach(self.instance)

    def submit(self, *tasks: RecordingTask) -> None:
        for task in tasks:
            self.scheduler.submit(task)
        self.scheduler.pump()


def test_whoever_ends_without_outputs_has_his_time_counted() -> None:
    rig = Rig(Limits(max_queued_rows=2))
    late = RecordingTask(key("late"), deadline_ns=rig.clock.now_ns + 5)
    gone = RecordingTask()
    rig.submit(RecordingTask())
    rig.submit(late, gone)
    with pytest.raises(QueueFull):
        rig.submit(RecordingTask())
    rig.clock.advance(10)
    rig.scheduler.cancel(gone)
    rig.instance.finish(rig.scheduler, execution_ns=MILLISECOND, failed=True)
    s = rig.scheduler.snapshot()
    assert (s.rejected, s.cancelled, s.expired, s.failed, s.unsuccessful) == (1, 1, 1, 1, 4)
    assert s.fail_ns == 10 + 10 + MILLISECOND


def test_tasks_of_a_closed_scheduler_have_their_time_counted() -> None:
    rig = Rig()
    rig.submit(RecordingTask())
    waiting = RecordingTask()
    rig.submit(waiting)
    rig.clock.advance(10)
    rig.scheduler.close(NotReady("gone"))
    assert isinstance(waiting.error, NotReady)
    assert (rig.scheduler.snapshot().failed, rig.scheduler.snapshot().fail_ns) == (1, 10)


def test_an_instance_s_refusal_counts_as_a_failure() -> None:
    rig = Rig()
    rig.instance.refusal = ModelError("does not fit")
    rig.submit(RecordingTask(), RecordingTask())
    s = rig.scheduler.snapshot()
    assert (s.failed, s.batches, s.fail_ns) == (2, 0, 0)


def test_stages_given_by_the_instance_are_booked() -> None:
    rig = Rig()
    rig.submit(RecordingTask(rows=3))
    (batch,) = rig.instance.running
    at = batch.closed_ns
    stages = Stages(at, at + 1, at + 3, at + 6, at + 10, at + 15, at + 21, 7, 8)
    rig.instance.running.clear()
    rig.scheduler.finished(rig.instance, batch, stages)
    s = rig.scheduler.snapshot()
    assert (s.wait_ns, s.merge_ns, s.compute_ns, s.split_ns, s.request_ns) == (1, 3, 4, 5, 21)
    assert (s.rows, s.batch_sizes, list(s.executions), s.padding_rows) == (3, {3: 1}, [7], 1)
    assert sum(s.reasons.values()) == 1


def test_a_snapshot_stays_as_it_was() -> None:
    rig = Rig()
    rig.submit(RecordingTask())
    before = rig.scheduler.snapshot()
    rig.instance.finish(rig.scheduler)
    assert (before.completed, rig.scheduler.snapshot().completed) == (0, 1)


def test_two_services_count_an_execution_that_they_share_once() -> None:
    rows_of = np.zeros((1, 1), np.uint8)
    begun, go = threading.Semaphore(0), threading.Semaphore(0)

    def model(inputs: Inputs) -> Inputs:
        begun.release()
        assert go.acquire(timeout=WAIT_S)
        return inputs

    services = [scheduler(), scheduler(), scheduler()]
    tasks = [RecordingTask(key_of({"x": rows_of}), rows, parts=[bytes(rows)]) for rows in (2, 3, 1)]
    with worker(model) as rig:
        channels = [rig.connect(service) for service in services]
        for index in (2, 0, 1):  # the worker knows all of them once it works for the last
            services[index].submit(tasks[index])
            services[index].pump()
            if index == 2:
                assert begun.acquire(timeout=WAIT_S)
        go.release(2)
        read_until(answered(tasks[2:]), channels[2])
        for index in (0, 1):
            read_until(answered([tasks[index]]), channels[index])
    *others, first = [service.snapshot() for service in services]
    assert {rows: e.count for rows, e in first.executions.items()} == {1: 1}
    total = others[0].copy()
    total.add(others[1])
    assert {rows: e.count for rows, e in total.executions.items()} == {5: 1}
    assert (total.completed, total.rows, total.batch_sizes) == (2, 5, {2: 1, 3: 1})
    assert total.compute_ns == 2 * total.execution_ns
