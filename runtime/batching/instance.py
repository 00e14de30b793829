"""What the scheduler expects of whoever executes batches."""

from __future__ import annotations

from typing import Protocol

from runtime.batching.task import Batch, Task


class Instance(Protocol):
    """Where a batch can be sent: the channel to one worker, or something that stands for it."""

    def send(self, batch: Batch) -> None:
        """Hand a batch over without waiting.

        Raises:
            WorkerLost: the instance is gone; the batch was not taken.
            RuntimeServingError: the batch cannot be run; its tasks fail with this.
        """
        ...

    def cancel(self, batch: Batch, task: Task) -> None:
        """Ask for a task not to be executed if its batch has not begun; what becomes of that is not told."""
        ...

    def abandon(self) -> list[Batch]:
        """Give up the batches that were sent and not answered, oldest first."""
        ...
