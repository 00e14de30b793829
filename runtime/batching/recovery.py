"""What becomes of the tasks of a batch that failed, or whose worker died. Pure.

1. The worker died: each task runs once more, by itself. One that kills a second worker is not run again,
   however often it is repeated (``quarantine``).
2. Memory did not suffice: batches of this key have half the rows from now on; the tasks run again in halves,
   and a single task is cut.
3. The model raised: halves, and their halves, until the culprit is alone (``isolation``).
4. Anything else fails them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from runtime.batching.isolation import Isolation
from runtime.batching.limits import Limits
from runtime.batching.pieces import cut
from runtime.batching.quarantine import Quarantine
from runtime.batching.queue import TaskQueue
from runtime.batching.statistics import Statistics
from runtime.batching.task import Batch, Task
from runtime.errors import MemoryExhausted, PoisonInput, RuntimeServingError

MAX_ATTEMPTS: Final = 2
RELIEF: Final = 256
"""So many full batches after memory did not suffice, twice the rows are tried: others may have let go."""


class Recovery:
    """Puts back into the queue what deserves another try. Called under the scheduler's lock.

    Args:
        limits: of the model.
        queue: of the model.
        statistics: that count it.
        forget: makes the queue let go of a task that nobody waits for any more; called later, without the
            lock.

    Attributes:
        is_wary: some task must not run: ask :meth:`check`.
    """

    def __init__(
        self, limits: Limits, queue: TaskQueue, statistics: Statistics, forget: Callable[[Task], None]
    ) -> None:
        self._limits = limits
        self._queue = queue
        self._statistics = statistics
        self._forget = forget
        self._isolation = Isolation(limits.max_batch_size, limits.isolation_depth)
        self._quarantine = Quarantine()
        self.is_wary = False

    def check(self, task: Task, now_ns: int) -> None:
        """Ask whether a task may run at all.

        Raises:
            PoisonInput: it has killed two workers.
        """
        held = self._quarantine.holds(task, now_ns)
        self.is_wary = bool(self._quarantine)
        if held:
            raise PoisonInput("this request has killed two workers: it is not run again for some minutes")

    def succeeded(self, batch: Batch, tasks: int) -> None:
        """So many tasks of a batch were answered with outputs; after enough batches a lowered limit rises."""
        self._isolation.succeeded(tasks)
        key = batch.key
        if key.limit and batch.rows >= key.limit:
            key.relief += 1
            if key.relief >= RELIEF:
                key.relief = 0
                key.limit = 2 * key.limit if 2 * key.limit < self._limits.max_batch_size else 0

    def cut(self, task: Task, rows: int) -> Sequence[Task]:
        """The pieces to queue in the place of a task; it is answered when they are."""
        return cut(task, rows, self._forget)

    def cut_admitted(self, task: Task, rows: int) -> Sequence[Task]:
        """Like :meth:`cut`, for a task that counts as admitted: now its pieces do."""
        pieces = self.cut(task, rows)
        self._statistics.admitted += len(pieces) - 1
        return pieces

    def failed(self, batch: Batch, error: RuntimeServingError, now_ns: int) -> Sequence[Task]:
        """Queue again what may succeed in a smaller batch; returns the tasks that failed for good."""
        alive = [task for task in batch.tasks if not 0 < task.deadline_ns <= now_ns]
        parts = self._parts(batch, alive, error)
        if not parts:
            return batch.tasks
        for part in parts:
            self._queue.put_again(part, batch.depth + 1)
        self._statistics.reruns += len(parts)
        return [task for task in batch.tasks if task not in alive]

    def lost(self, batch: Batch, now_ns: int) -> tuple[Sequence[Task], RuntimeServingError]:
        """Queue again what was lost once; returns the tasks that were lost twice, and why they fail."""
        again: list[Task] = []
        poison: list[Task] = []
        for task in batch.tasks:
            task.attempts += 1
            (poison if task.attempts >= MAX_ATTEMPTS else again).append(task)
        for task in again:
            self._queue.put_again([task], batch.depth)
        for task in poison:
            self._quarantine.add(task, now_ns)
            self.is_wary = True
        self._statistics.retried += len(again)
        return poison, PoisonInput(
            "the worker died while it ran this request, and again when it ran it alone"
        )

    def _parts(self, batch: Batch, tasks: list[Task], error: RuntimeServingError) -> Sequence[list[Task]]:
        if isinstance(error, MemoryExhausted) and batch.key.batchable and batch.rows > 1:
            batch.key.relief = 0
            limit = batch.key.limit = max(1, min(batch.rows // 2, batch.key.limit or batch.rows))
            if len(tasks) == 1 and tasks[0].rows > limit and batch.depth < self._limits.isolation_depth:
                return [[piece] for piece in self.cut_admitted(tasks[0], limit)]
        return self._isolation.halves(batch, tasks, error)
