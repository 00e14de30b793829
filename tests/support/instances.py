"""Instances whose batches the test finishes by hand."""

from __future__ import annotations

from runtime.batching.scheduler import Scheduler
from runtime.batching.task import Batch, Result
from runtime.errors import ModelError, RuntimeServingError
from runtime.tensors.frame import Timing
from runtime.tensors.layout import Layout

EXECUTION_NS = 10_000_000
NO_OUTPUTS = Layout("", (0, 0), ())


class FakeInstance:
    """Takes batches until told otherwise.

    Attributes:
        running: what was sent and not answered, oldest first.
        refusal: raised by the next send instead of taking the batch.
    """

    def __init__(self) -> None:
        self.running: list[Batch] = []
        self.sent: list[Batch] = []
        self.refusal: RuntimeServingError | None = None

    def send(self, batch: Batch) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.running.append(batch)
        self.sent.append(batch)

    def abandon(self) -> list[Batch]:
        running, self.running = self.running, []
        return running

    def finish(
        self, scheduler: Scheduler, *, execution_ns: int = EXECUTION_NS, failed: bool = False
    ) -> Batch:
        """Answer the oldest batch as a channel does."""
        batch = self.running.pop(0)
        scheduler.finished(self, batch, execution_ns, failed=failed)
        result = Result(
            NO_OUTPUTS,
            b"",
            (),
            tasks=len(batch.tasks),
            rows=batch.rows,
            timing=Timing(),
            executed_rows=batch.rows,
        )
        for task in batch.tasks:
            if failed:
                task.fail(ModelError("the model raised"))
            else:
                task.succeed(result)
        return batch
