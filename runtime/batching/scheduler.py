"""Owns the queue, the policy and the instances of one model version in one service process.

The only part of batching with a lock and a clock. Called by the transport's thread (``submit``,
``cancel``, ``pump``) and by the thread that reads the workers' answers (``finished``, ``detach``).
Callers are answered outside of the lock.

Invariant: admitted = completed + failed + expired + cancelled + still held (queued or running).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from runtime.batching.policy import Dispatch, Greedy, Policy, Seat
from runtime.batching.queue import TaskQueue
from runtime.batching.statistics import Stages, Statistics
from runtime.batching.task import Batch, State, Task
from runtime.clock import Clock, now_ns
from runtime.errors import DeadlineExceeded, NotReady, RuntimeServingError, WorkerLost

log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 2
PAST: Final = 1
Ending = tuple[Task, RuntimeServingError]


class Instance(Protocol):
    """Where a batch can be sent: the channel to one worker, or something that stands for it."""

    def send(self, batch: Batch) -> None:
        """Hand a batch over without waiting.

        Raises:
            WorkerLost: the instance is gone; the batch was not taken.
            RuntimeServingError: the batch cannot be run; its tasks fail with this.
        """
        ...

    def abandon(self) -> list[Batch]:
        """Give up the batches that were sent and not answered, oldest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds a queue and its batches.

    Attributes:
        max_batch_size: rows of one batch; default 64. More where more rows per call still pay.
        max_queued_rows: rows that may wait; default 10,000. Above it calls are refused at once.
        max_queued_bytes: bytes of tensors that may wait; default 1 GiB.
        max_batch_bytes: bytes of tensors of one batch; default 256 MiB, a quarter of the arena.
    """

    max_batch_size: int = 64
    max_queued_rows: int = 10_000
    max_queued_bytes: int = 1 << 30
    max_batch_bytes: int = 256 << 20


class Scheduler:
    """Queues tasks and keeps the instances busy with batches.

    Args:
        limits: what bounds the queue and the batches.
        policy: decides what leaves; the greedy one by default.
        clock: monotonic nanoseconds.
    """

    def __init__(self, limits: Limits, *, policy: Policy | None = None, clock: Clock = now_ns) -> None:
        self.limits = limits
        self.statistics = Statistics()
        self._policy = policy or Greedy()
        self._clock = clock
        self._lock = threading.Lock()
        self._queue = TaskQueue(max_rows=limits.max_queued_rows, max_bytes=limits.max_queued_bytes)
        self._instances: list[Instance] = []
        self._seats: list[Seat] = []
        self._closed: RuntimeServingError | None = None

    # -- tasks ----------------------------------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Admit a task; it leaves with the next :meth:`pump`.

        Raises:
            QueueFull: a bound would be passed (RESOURCE_EXHAUSTED).
            NotReady: the scheduler was closed (UNAVAILABLE, or as it was closed with).
        """
        with self._lock:
            if self._closed is not None:
                raise self._closed.with_traceback(None)  # else each refusal lengthens the traceback
            try:
                self._queue.add(task, self._clock())
            except RuntimeServingError:
                self.statistics.rejected += 1
                raise
            self.statistics.admitted += 1

    def cancel(self, task: Task) -> None:
        """Forget a task whose caller has gone. One that is running is finished and its answer dropped."""
        with self._lock:
            task.deadline_ns = PAST  # should its worker die, it is not run again
            if self._queue.remove(task):
                self._end([task])
                self.statistics.cancelled += 1

    def pump(self) -> None:
        """Send all that can leave now."""
        with self._lock:
            ended = self._dispatch()
        _fail_all(ended)

    # -- instances ------------------------------------------------------------------------------

    @property
    def instances(self) -> int:
        """How many instances can be sent to."""
        return len(self._instances)

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    @property
    def busy(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self._queue) or any(seat.outstanding for seat in self._seats)

    def snapshot(self) -> Statistics:
        """A copy of the statistics in which all figures belong together."""
        with self._lock:
            return self.statistics.copy()

    def attach(self, instance: Instance) -> None:
        """Use one more instance."""
        with self._lock:
            self._instances.append(instance)
            self._seats.append(Seat())
        self.pump()

    def detach(self, instance: Instance) -> None:
        """Stop using an instance; the tasks of its unfinished batches run once more, elsewhere or later."""
        ended: list[Ending] = []
        with self._lock:
            if instance in self._instances:
                self._drop(self._instances.index(instance))
            for batch in reversed(instance.abandon()):
                ended += self._again(batch)
            if self._closed is not None:  # no instance may ever come that could run them
                ended += self._refuse_queued(self._closed)
            ended += self._dispatch()
        _fail_all(ended)

    def finished(
        self,
        instance: Instance,
        batch: Batch,
        execution_ns: int,
        *,
        failed: bool = False,
        stages: Stages | None = None,
    ) -> None:
        """Take note that a batch was answered and refill the instance. The caller then answers the tasks.

        Args:
            instance: that answered.
            batch: that it was sent.
            execution_ns: time in the model's method.
            failed: the tasks get an error.
            stages: when what happened, as far as the instance knows.
        """
        if stages is None:
            stages = Stages.bare(batch.closed_ns, execution_ns, self._clock(), batch.rows)
        with self._lock:
            if instance in self._instances:
                seat = self._seats[self._instances.index(instance)]
                seat.outstanding -= 1
            enqueued = _mark_done(batch.tasks)
            self.statistics.book(batch.rows, enqueued, stages, failed=failed)
            ended = self._dispatch()
        _fail_all(ended)

    def close(self, error: RuntimeServingError | None = None) -> None:
        """Refuse everything from now on and fail what is queued; what runs is still answered."""
        error = error or NotReady("the model is not served any more")
        with self._lock:
            self._closed = error
            ended = self._refuse_queued(error)
        _fail_all(ended)

    # -- under the lock -------------------------------------------------------------------------

    def _dispatch(self) -> list[Ending]:
        """Send batches for as long as the policy says so; return the tasks that ended instead of leaving."""
        ended: list[Ending] = []
        while decision := self._policy.decide(self._queue, self._seats):
            ended += self._send(decision)
        return ended

    def _send(self, decision: Dispatch) -> list[Ending]:
        now = self._clock()
        limits = self.limits
        tasks, expired = self._queue.take(decision.key, limits.max_batch_size, limits.max_batch_bytes, now)
        self.statistics.expired += len(expired)
        ended = (
            self._fail(expired, DeadlineExceeded("the deadline passed while the request was queued"))
            if expired
            else []
        )
        if tasks:
            batch = Batch(decision.key, tasks, now)
            seat = self._seats[decision.seat]
            seat.outstanding += 1
            try:
                self._instances[decision.seat].send(batch)
            except WorkerLost:  # its reader has not noticed yet; what it still holds comes with detach()
                self._drop(decision.seat)
                self._queue.put_back(tasks)
            except RuntimeServingError as error:
                seat.outstanding -= 1
                self.statistics.failed += len(tasks)
                ended += self._fail(tasks, error)
        return ended

    def _drop(self, at: int) -> None:
        del self._instances[at], self._seats[at]

    def _again(self, batch: Batch) -> list[Ending]:
        """Queue a lost batch's tasks again; return those that have been lost before."""
        again: list[Task] = []
        lost: list[Task] = []
        for task in batch.tasks:
            task.attempts += 1
            (lost if task.attempts >= MAX_ATTEMPTS else again).append(task)
        self._queue.put_back(again)
        self.statistics.retried += len(again)
        self.statistics.failed += len(lost)
        return self._fail(
            lost, WorkerLost("the worker died while it ran this request, and again when it was re-run")
        )

    def _refuse_queued(self, error: RuntimeServingError) -> list[Ending]:
        tasks = self._queue.clear()
        self.statistics.failed += len(tasks)
        return self._fail(tasks, error)

    def _fail(self, tasks: Sequence[Task], error: RuntimeServingError) -> list[Ending]:
        """Mark tasks as done; the caller fails them outside of the lock."""
        self._end(tasks)
        return [(task, error) for task in tasks]

    def _end(self, tasks: Sequence[Task]) -> None:
        """Mark tasks as done without an answer of a worker."""
        if tasks:
            self.statistics.book_unanswered(_mark_done(tasks), self._clock())


def _mark_done(tasks: Sequence[Task]) -> list[int]:
    """Return when the tasks were admitted."""
    enqueued = []
    for task in tasks:
        task.state = State.DONE
        enqueued.append(task.enqueued_ns)
    return enqueued


def _fail_all(ended: Sequence[Ending]) -> None:
    for task, error in ended:
        try:
            task.fail(error)
        except Exception:  # a fence: one caller's trouble is not his neighbours'
            log.exception("answer_failed")
