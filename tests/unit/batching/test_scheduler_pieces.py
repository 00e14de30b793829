"""Tasks larger than a batch, and batches larger than the memory."""

from __future__ import annotations

import pytest

from runtime.batching.task import Batch, BatchKey, State, Task
from runtime.errors import (
    DeadlineExceeded,
    MemoryExhausted,
    ModelError,
    NotReady,
    PoisonInput,
    QueueFull,
    RuntimeServingError,
)
from tests.support.instances import Outcome
from tests.support.pieces import result_of
from tests.support.scheduling import OneAhead, Rig
from tests.support.tasks import RecordingTask, real_key


def echo(batch: Batch) -> Outcome:
    """Every row as it came."""
    payload = b"".join(bytes(task.parts[0]) for task in batch.tasks)
    return result_of(batch.tasks, payload=payload)


def at_most(rows: int, error: RuntimeServingError | None = None):  # type: ignore[no-untyped-def]
    """A model that fails on more rows than that."""

    def model(batch: Batch) -> Outcome:
        return (error or MemoryExhausted("out of memory")) if batch.rows > rows else echo(batch)

    return model


def rows_of(*counts: int, of: BatchKey) -> list[RecordingTask]:
    """Tasks with as many rows, all of different content."""
    content = iter(range(sum(counts)))
    return [RecordingTask(of, count, parts=[bytes(next(content) for _ in range(count))]) for count in counts]


def echoed(*tasks: RecordingTask) -> bool:
    return all(task.outputs == task.parts for task in tasks)


class Large(Rig):
    """With an instance that returns what it is given."""

    def __init__(self, **known: object) -> None:
        super().__init__(**known)  # type: ignore[arg-type]
        self.only.model = echo


@pytest.fixture
def of() -> BatchKey:
    return real_key()


# -- larger than a batch ----------------------------------------------------------------------------


def test_a_task_larger_than_a_batch_is_executed_in_pieces_and_answered_once_whole_and_in_order(
    of: BatchKey,
) -> None:
    rig = Large(max_batch_size=4)
    (large,) = rows_of(11, of=of)
    rig.submit(large)
    assert rig.scheduler.queued_rows == 7
    rig.finish_all()
    assert [batch.rows for batch in rig.only.sent] == [4, 4, 3]
    assert echoed(large)
    assert rig.balance() == (3, 3)


def test_the_last_piece_runs_with_others(of: BatchKey) -> None:
    rig = Large(max_batch_size=4)
    large, small = rows_of(6, 2, of=of)
    rig.submit(large, small)
    rig.finish_all()
    assert [batch.rows for batch in rig.only.sent] == [4, 4]
    assert echoed(large, small)


def test_pieces_count_as_one_arrival_of_all_their_rows(of: BatchKey) -> None:
    rig = Large(max_batch_size=4, max_queued_rows=20)
    large, other, more = rows_of(20, 1, 4, of=of)
    rig.scheduler.submit(large)
    with pytest.raises(QueueFull):
        rig.scheduler.submit(other)
    rig.scheduler.pump()
    rig.submit(more)
    rig.finish_all()
    assert echoed(large, more)


def test_a_large_task_of_which_a_piece_fails_is_answered_once_and_the_rest_of_it_is_not_begun(
    of: BatchKey,
) -> None:
    rig = Large(max_batch_size=4)
    large, other = rows_of(12, 1, of=of)
    rig.submit(large)
    rig.submit(other)
    rig.only.finish(rig.scheduler, failed=True)
    assert isinstance(large.error, ModelError)
    rig.finish_all()
    assert [batch.rows for batch in rig.only.sent] == [4, 4, 1]  # the second had left before it was told
    assert echoed(other)
    s = rig.scheduler.statistics
    assert (s.admitted, s.completed, s.failed, s.cancelled) == (4, 2, 1, 1)


def test_cancelling_a_large_task_cancels_what_is_queued_and_recalls_what_runs(of: BatchKey) -> None:
    rig = Large(max_batch_size=4)
    (large,) = rows_of(12, of=of)
    rig.submit(large)
    (piece,) = rig.only.running[0].tasks
    rig.scheduler.cancel(large)
    assert rig.only.recalled == [(rig.only.running[0], piece)]
    rig.finish_all()
    assert len(rig.only.sent) == 1
    assert large.outcomes == []
    assert rig.balance() == (3, 3)


def test_a_large_task_expires_whole(of: BatchKey) -> None:
    rig = Large(max_batch_size=4)
    (large,) = rows_of(12, of=of)
    large.deadline_ns = rig.clock.now_ns + 10
    rig.submit(large)
    rig.clock.advance(10)
    rig.scheduler.pump()
    assert isinstance(large.error, DeadlineExceeded)
    rig.finish_all()
    assert len(rig.only.sent) == 1
    assert rig.balance() == (3, 3)


def test_closing_fails_a_large_task_once(of: BatchKey) -> None:
    rig = Large(max_batch_size=4)
    (large,) = rows_of(12, of=of)
    rig.submit(large)
    rig.scheduler.close()
    rig.finish_all()
    assert isinstance(large.error, NotReady)
    assert rig.balance() == (3, 3)


def test_a_large_task_survives_the_death_of_a_worker(of: BatchKey) -> None:
    rig = Large(max_batch_size=4, policy=OneAhead(4))
    (large,) = rows_of(10, of=of)
    rig.submit(large)
    rig.replace(rig.only)
    rig.finish_all()
    assert echoed(large)


def test_a_large_task_with_a_deadly_piece_is_refused_when_it_is_repeated(of: BatchKey) -> None:
    rig = Large(max_batch_size=4)
    (large,) = rows_of(6, of=of)
    rig.submit(large)
    rig.replace(rig.only)
    rig.replace(rig.only)
    assert isinstance(large.error, PoisonInput)
    (repeated,) = rows_of(6, of=of)
    with pytest.raises(PoisonInput):
        rig.scheduler.submit(repeated)
    assert (repeated.outcomes, repeated.state, list(repeated.pieces)) == ([], State.NEW, [])
    rig.finish_all()
    assert rig.balance() == (2, 2)


# -- larger than the memory -------------------------------------------------------------------------


def test_out_of_memory_is_nobody_s_error_and_later_batches_are_smaller(of: BatchKey) -> None:
    rig = Large()
    rig.only.model = at_most(8)
    tasks = rows_of(*[1] * 32, of=of)
    rig.submit(*tasks)
    rig.finish_all()
    assert echoed(*tasks)
    assert of.limit == 8
    later = rows_of(*[1] * 16, of=of)
    rig.submit(*later)
    rig.finish_all()
    assert echoed(*later)
    assert [batch.rows for batch in rig.only.sent] == [32, 16, 16, 8, 8, 8, 8, 8, 8]


def test_out_of_memory_with_one_key_leaves_the_others_alone(of: BatchKey) -> None:
    rig = Large()
    other = real_key("other")
    rig.only.model = at_most(8)
    rig.submit(*rows_of(*[1] * 16, of=of))
    rig.only.model = echo
    rig.submit(*rows_of(*[1] * 16, of=other))
    rig.finish_all()
    assert (of.limit, other.limit) == (0, 0)
    rig.only.model = at_most(8)
    rig.submit(*rows_of(*[1] * 16, of=of))
    rig.finish_all()
    assert (of.limit, other.limit) == (8, 0)


def test_a_single_task_that_does_not_fit_into_the_memory_is_cut_until_it_does(of: BatchKey) -> None:
    rig = Large()
    rig.only.model = at_most(3)
    (large,) = rows_of(10, of=of)
    rig.submit(large)
    rig.finish_all()
    assert [batch.rows for batch in rig.only.sent] == [10, 5, 5, 2, 2, 1, 2, 2, 1]
    assert echoed(large)
    assert of.limit == 2
    assert rig.balance() == (6, 6)


def test_what_was_queued_before_the_limit_was_lowered_is_cut_when_it_leaves(of: BatchKey) -> None:
    rig = Large()
    rig.only.model = at_most(4)
    first, waiting, small = rows_of(8, 7, 1, of=of)
    rig.submit(first)
    rig.submit(waiting, small)
    rig.finish_all()
    assert [batch.rows for batch in rig.only.sent] == [8, 4, 4, 4, 4]
    assert echoed(first, waiting, small)
    assert rig.balance() == (5, 5)


def test_a_task_that_was_cut_while_it_ran_can_be_cancelled(of: BatchKey) -> None:
    rig = Large()
    rig.only.model = at_most(8)
    (large,) = rows_of(16, of=of)
    rig.submit(large)
    rig.only.finish(rig.scheduler)
    rig.scheduler.cancel(large)
    rig.finish_all()
    assert [batch.rows for batch in rig.only.sent] == [16, 8]
    assert large.outcomes == []
    assert rig.balance() == (2, 2)


def test_a_row_that_never_fits_fails_its_task_and_nobody_else(of: BatchKey) -> None:
    rig = Large()

    def model(batch: Batch) -> Outcome:
        heavy = any(b"\0" in bytes(task.parts[0]) for task in batch.tasks)
        return MemoryExhausted("out of memory") if heavy else echo(batch)

    rig.only.model = model
    heavy, *others = rows_of(1, 2, 3, 2, of=of)
    rig.submit(heavy, *others)
    rig.finish_all()
    assert isinstance(heavy.error, MemoryExhausted)
    assert echoed(*others)
    assert rig.balance()[0] == rig.balance()[1]


def test_a_batch_for_which_the_instance_has_no_room_is_sent_in_halves(of: BatchKey) -> None:
    rig = Large()
    tasks = rows_of(*[1] * 4, of=of)

    def send(batch: Batch, take=rig.only.send) -> None:  # type: ignore[no-untyped-def]
        if batch.rows > 2:
            raise MemoryExhausted("no room")
        take(batch)

    rig.only.send = send  # type: ignore[method-assign]
    rig.submit(*tasks)
    rig.finish_all()
    assert [batch.rows for batch in rig.only.sent] == [2, 2]
    assert echoed(*tasks)
    assert rig.balance() == (4, 4)


def test_no_piece_is_ever_seen_by_a_caller(of: BatchKey) -> None:
    rig = Large(max_batch_size=2)
    tasks = rows_of(5, 1, of=of)
    rig.submit(*tasks)
    ran: list[Task] = [task for batch in rig.only.sent for task in batch.tasks]
    assert not any(task in ran for task in tasks[:1])
    rig.finish_all()
    assert [len(task.outcomes) for task in tasks] == [1, 1]
