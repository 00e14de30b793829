"""Owns the queue, the policy and the instances of one model version in one service process.

The only part of batching with a lock and a clock. Called by the transport's thread (``submit``,
``cancel``, ``pump``), by the thread that reads the workers' answers (``finished``, ``failed``, ``detach``),
and by whoever keeps the alarm (``pump``). Callers are answered outside of the lock.

Invariant: admitted = completed + failed + expired + cancelled + still held (queued or running).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from runtime.batching.adaptive import Adaptive
from runtime.batching.guarded import Guarded
from runtime.batching.instance import Instance
from runtime.batching.limits import Limits
from runtime.batching.policy import Decision, Greedy, Policy
from runtime.batching.queue import TaskQueue
from runtime.batching.recovery import Recovery
from runtime.batching.seats import Seats, is_begun
from runtime.batching.statistics import Stages, Statistics
from runtime.batching.task import Batch, State, Task
from runtime.clock import Clock, now_ns
from runtime.errors import (
    DeadlineExceeded,
    DeadlineUnreachable,
    NotReady,
    RuntimeServingError,
    TaskTooLarge,
    WorkerLost,
)

log = logging.getLogger(__name__)

PAST: Final = 1
Ending = tuple[Task, RuntimeServingError]


def _no_alarm(at_ns: int) -> None:
    """Nobody keeps time: deadlines pass unnoticed until something else happens."""


class Scheduler:
    """Queues tasks and keeps the instances busy with batches.

    Args:
        limits: what bounds the queue and the batches.
        policy: decides what leaves; the adaptive one by default.
        clock: monotonic nanoseconds.
        alarm: told the instant at which to call :meth:`pump`, 0 for none; the last one told counts.
        profile: rows to the milliseconds of one execution, as measured earlier.
    """

    def __init__(
        self, limits: Limits, *, policy: Policy | None = None, clock: Clock = now_ns,
        alarm: Callable[[int], None] = _no_alarm, profile: Mapping[int, float] | None = None,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.statistics = Statistics()
        self._policy = Guarded(
            policy or Adaptive(limits, profile), Greedy(limits.max_batch_size, limits.max_batch_bytes)
        )
        self._clock = clock
        self._alarm = alarm
        self._alarm_ns = 0
        self._lock = threading.Lock()
        self._queue = TaskQueue(max_rows=limits.max_queued_rows, max_bytes=limits.max_queued_bytes)
        self._seats = Seats()
        self._recovery = Recovery(limits, self._queue, self.statistics, self.cancel)
        self._closed: RuntimeServingError | None = None

    # -- tasks ----------------------------------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Admit a task; it leaves with the next :meth:`pump`. One larger than a batch is cut.

        Raises:
            QueueFull: a bound would be passed (RESOURCE_EXHAUSTED).
            DeadlineUnreachable: it would be late in any case (RESOURCE_EXHAUSTED).
            PoisonInput: it has killed two workers before (INTERNAL).
            TaskTooLarge: it is larger than the queue may be (INVALID_ARGUMENT).
            NotReady: the scheduler was closed (UNAVAILABLE, or as it was closed with).
        """
        with self._lock:
            if self._closed is not None:
                raise self._closed.with_traceback(None)  # else each refusal lengthens the traceback
            now = self._clock()
            pieces: Sequence[Task] = ()
            try:
                self._check(task, now)
                if task.rows > self.limits.max_batch_size and task.key.batchable:
                    pieces = self._cut(task, now)
            except RuntimeServingError as error:
                self.statistics.rejected += 1
                self.statistics.book_drop(error.reason)
                raise
            self._policy.arrived(task, now)
            for one in pieces or (task,):
                self._queue.add(one, now)
                self.statistics.admitted += 1

    def cancel(self, task: Task) -> None:
        """Forget a task whose caller has gone.

        One that is queued never runs. One that was sent is not executed either if its batch has not begun;
        otherwise its answer is dropped.
        """
        with self._lock:
            self._cancel(task)

    def pump(self) -> None:
        """Send all that can leave now."""
        with self._lock:
            ended = self._dispatch()
        _fail_all(ended)

    # -- instances ------------------------------------------------------------------------------

    @property
    def instances(self) -> int:
        """How many instances can be sent to."""
        return len(self._seats)

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    @property
    def busy(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self._queue) or self._seats.busy

    def snapshot(self) -> Statistics:
        """A copy of the statistics in which all figures belong together."""
        with self._lock:
            return self.statistics.copy()

    def insight(self) -> dict[str, object]:
        """What the policy has learned, in plain values."""
        with self._lock:
            return self._policy.insight()

    def attach(self, instance: Instance) -> None:
        """Use one more instance."""
        with self._lock:
            self._seats.add(instance)
        self.pump()

    def detach(self, instance: Instance) -> None:
        """Stop using an instance; the tasks of its unfinished batches run once more, elsewhere or later."""
        ended: list[Ending] = []
        with self._lock:
            self._seats.remove(instance)
            lost = instance.abandon()
            for position, batch in enumerate(lost):
                if is_begun(lost, position):
                    tasks, error = self._recovery.lost(batch, self._clock())
                    self.statistics.failed += len(tasks)
                    ended += self._fail(tasks, error)
                else:
                    self._queue.put_back(batch.tasks)
            if self._closed is not None:  # no instance may ever come that could run them
                ended += self._refuse_queued(self._closed)
            ended += self._dispatch()
        _fail_all(ended)

    def finished(
        self, instance: Instance, batch: Batch, stages: Stages, refused: Collection[int] = ()
    ) -> None:
        """Take note that a batch was answered and refill the instance. The caller then answers the tasks.

        Args:
            instance: that answered.
            batch: that it was sent.
            stages: when what happened.
            refused: indexes of the tasks that have an error of their own instead of outputs.
        """
        with self._lock:
            self._seats.release(instance, batch, stages)
            self._recovery.succeeded(batch, len(batch.tasks) - len(refused))
            self._policy.finished(batch, stages)
            self.statistics.book(batch, _mark_done(batch.tasks), stages, failed=False, refused=refused)
            ended = self._dispatch()
        _fail_all(ended)

    def failed(
        self, instance: Instance, batch: Batch, error: RuntimeServingError, stages: Stages
    ) -> Sequence[Task]:
        """Take note that a batch failed and refill the instance.

        Returns:
            The tasks that the caller tells the error. The others run again: in halves, to find the culprit.
        """
        with self._lock:
            self._seats.release(instance, batch, stages)
            told = self._recovery.failed(batch, error, self._clock())
            self.statistics.book(batch, _mark_done(told), stages, failed=True)
            ended = self._dispatch()
        _fail_all(ended)
        return told

    def close(self, error: RuntimeServingError | None = None) -> None:
        """Refuse everything from now on and fail what is queued; what runs is still answered."""
        with self._lock:
            self._closed = error or NotReady("the model is not served any more")
            ended = self._refuse_queued(self._closed)
        _fail_all(ended)

    # -- under the lock -------------------------------------------------------------------------

    def _check(self, task: Task, now: int) -> None:
        """Raise why a task cannot be admitted, if so."""
        limits = self.limits
        if task.rows > limits.max_queued_rows:
            raise TaskTooLarge(
                f"the request has {task.rows} rows, the queue holds at most {limits.max_queued_rows}: "
                "send several requests or raise max_queued_rows",
                field="inputs",
            )
        if self._recovery.is_wary:
            self._recovery.check(task, now)
        self._queue.check(task.rows, task.size_bytes)
        refusal = self._policy.refusal(task, self._queue, self._seats.seats, now)
        if refusal is not None:
            raise refusal
        if not task.priority:
            task.priority = limits.default_priority_level

    def _cut(self, task: Task, now: int) -> Sequence[Task]:
        """What to queue for a task that is larger than a batch."""
        task.enqueued_ns = now
        pieces = self._recovery.cut(task, self.limits.max_batch_size)
        try:
            for piece in pieces if self._recovery.is_wary else ():
                self._recovery.check(piece, now)
        except RuntimeServingError:
            task.pieces = ()
            raise
        return pieces

    def _cancel(self, task: Task) -> None:
        pieces, task.pieces = task.pieces, ()
        for piece in pieces:
            self._cancel(piece)
        task.deadline_ns = PAST  # should its worker die, it is not run again
        if self._queue.remove(task):
            self._end([task])
            self.statistics.cancelled += 1
        elif task.state is State.RUNNING:
            self._seats.recall(task)

    def _dispatch(self) -> list[Ending]:
        """Send while there is something to send; returns whose tasks end unsent."""
        ended: list[Ending] = []
        queue = self._queue
        until = 0
        while queue:
            now = self._clock()
            if 0 < queue.next_deadline_ns <= now:
                ended += self._expire(now)
                continue
            if queue.again:
                idle = self._seats.idle
                if idle < 0:
                    break
                ended += self._send_again(now, idle)
                continue
            decision = self._policy.decide(queue, self._seats.seats, now)
            if decision.drop:
                ended += self._give_up(decision.drop)
            elif decision.tasks:
                ended += self._send_decided(decision, now)
            else:
                until = decision.until_ns
                break
        self._set_alarm(until)
        return ended

    def _send_decided(self, decision: Decision, now: int) -> list[Ending]:
        tasks = list(decision.tasks)
        self._queue.take(tasks)
        first = tasks[0]
        limit = first.key.limit or self.limits.max_batch_size
        if first.rows > limit and first.key.batchable:  # the limit was lowered since it was admitted
            self._queue.put_back([*self._recovery.cut_admitted(first, limit), *tasks[1:]])
            return []
        batch = Batch(
            first.key, tasks, now, reason=decision.reason, predicted_ns=decision.predicted_ns,
            held_ns=decision.held_ns,
        )  # fmt: skip
        return self._send(batch, decision.seat)

    def _send_again(self, now: int, at: int) -> list[Ending]:
        """Send what has waited longest to run once more."""
        tasks, depth = self._queue.take_again()
        return self._send(Batch(tasks[0].key, tasks, now, reason="again", alone=True, depth=depth), at)

    def _send(self, batch: Batch, at: int) -> list[Ending]:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("batch_closed", extra={"seat": at, **batch.facts()})
        try:
            self._seats.send(batch, at)
        except WorkerLost:  # its reader has not noticed yet; what it still holds comes with detach()
            self._seats.remove_at(at)
            if batch.alone:
                self._queue.put_again(batch.tasks, batch.depth)
            else:
                self._queue.put_back(batch.tasks)
        except RuntimeServingError as error:
            told = self._recovery.failed(batch, error, batch.closed_ns)
            self.statistics.failed += len(told)
            return self._fail(told, error)
        except Exception as error:
            log.exception("send_failed")
            self.statistics.failed += len(batch.tasks)
            return self._fail(batch.tasks, RuntimeServingError(f"the batch could not be sent: {error!r}"))
        return []

    # -- tasks that end without an answer -----------------------------------------------------------

    def _expire(self, now: int) -> list[Ending]:
        expired = self._queue.take_expired(now)
        self.statistics.expired += len(expired)
        self.statistics.book_drop(DeadlineExceeded.reason, len(expired))
        return self._fail(expired, DeadlineExceeded("the deadline passed while the request was queued"))

    def _give_up(self, tasks: Iterable[Task]) -> list[Ending]:
        """Drop tasks that cannot be answered in time any more."""
        dropped = [task for task in tasks if self._queue.remove(task)]
        self.statistics.expired += len(dropped)
        self.statistics.book_drop(DeadlineUnreachable.reason, len(dropped))
        return self._fail(
            dropped, DeadlineUnreachable("the request cannot be executed before its deadline any more")
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
        if not self._queue:
            self._set_alarm(0)

    # -- time -----------------------------------------------------------------------------------

    def _set_alarm(self, until_ns: int) -> None:
        """Ask to be woken when the policy wants to be asked, or the next deadline passes."""
        at = until_ns
        if self._queue:
            deadline = self._queue.next_deadline_ns
            if deadline and (not at or deadline < at):
                at = deadline
        else:
            at = 0
        if at != self._alarm_ns:
            self._alarm_ns = at
            self._alarm(at)


def _mark_done(tasks: Iterable[Task]) -> list[int]:
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
