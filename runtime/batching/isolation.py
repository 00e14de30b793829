"""Finding the task at fault in a failed batch: run its halves, and theirs, until the culprit is alone. Pure.

Every task of a batch of n is executed at most 1 + log2 n times (rounded up), and its neighbours get the
answers they would have had without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.batching.task import Batch, Task
from runtime.errors import InvalidInput, MemoryExhausted, ModelError, OutputMismatch, RuntimeServingError

CREDIT: Final = 8
"""Halvings before any success, for each row of a full batch: so many full batches can be taken apart."""


class Isolation:
    """Decides whether a failed batch is taken apart, within a budget.

    A model that always fails must not be executed twice as often for it: taking a batch apart costs one of a
    budget that every task with outputs fills up by one.

    Args:
        max_batch_size: most tasks of a batch.
        depth: how many times a batch may be halved; 0 for never.
    """

    def __init__(self, max_batch_size: int, depth: int) -> None:
        self._depth = depth
        self._full = CREDIT * max_batch_size
        self._left = self._full

    def succeeded(self, tasks: int) -> None:
        """So many tasks were answered with outputs."""
        if self._left < self._full:
            self._left = min(self._full, self._left + tasks)

    def halves(self, batch: Batch, tasks: list[Task], error: RuntimeServingError) -> Sequence[list[Task]]:
        """The parts to run instead of a batch that failed; none if its tasks fail with it.

        Args:
            batch: that failed.
            tasks: of it, for which somebody still waits.
            error: which it failed with. Wrong outputs are the model's fault and not that of one request.
        """
        can_help = isinstance(error, ModelError | InvalidInput | MemoryExhausted)
        if not can_help or isinstance(error, OutputMismatch) or batch.depth >= self._depth:
            return ()
        if not tasks or len(batch.tasks) < 2 or not self._left:
            return ()
        self._left -= 1
        if len(tasks) == 1:  # the culprit may be among those who have gone
            return (tasks,)
        half = (len(tasks) + 1) // 2  # not of the rows: many small tasks behind a large one would take longer
        return tasks[:half], tasks[half:]
