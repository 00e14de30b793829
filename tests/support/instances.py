"""Instances whose batches the test finishes by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runtime.batching.scheduler import Scheduler
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Result, Task
from runtime.errors import ModelError, RuntimeServingError
from runtime.tensors.layout import Layout

EXECUTION_NS = 10_000_000
NO_OUTPUTS = Layout("", (0, 0), ())

Outcome = Result | RuntimeServingError


def no_outputs(batch: Batch) -> Outcome:
    """What a model answers that has no outputs."""
    return Result(
        NO_OUTPUTS, b"", (), tasks=len(batch.tasks), rows=batch.rows,
    )  # fmt: skip


class FakeInstance:
    """Takes batches until told otherwise.

    Args:
        model: what a batch is answered with: outputs or an error.

    Attributes:
        running: what was sent and not answered, oldest first.
        sent: what was ever sent.
        recalled: the tasks that need not be executed, each with its batch.
        refusal: raised by the next send instead of taking the batch.
    """

    def __init__(self, model: Callable[[Batch], Outcome] = no_outputs) -> None:
        self.model = model
        self.running: list[Batch] = []
        self.sent: list[Batch] = []
        self.recalled: list[tuple[Batch, Task]] = []
        self.refusal: RuntimeServingError | None = None

    def send(self, batch: Batch) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.running.append(batch)
        self.sent.append(batch)

    def cancel(self, batch: Batch, task: Task) -> None:
        assert batch in self.running
        self.recalled.append((batch, task))

    def abandon(self) -> list[Batch]:
        running, self.running = self.running, []
        return running

    def finish(
        self, scheduler: Scheduler, *, execution_ns: int = EXECUTION_NS, failed: bool = False,
        refused: Mapping[int, RuntimeServingError] | None = None,
    ) -> Batch:  # fmt: skip
        """Answer the oldest batch as a channel does."""
        batch = self.running.pop(0)
        stages = Stages.bare(batch.closed_ns, execution_ns, 0, batch.rows)
        outcome = ModelError("the model raised") if failed else self.model(batch)
        if isinstance(outcome, RuntimeServingError):
            for task in scheduler.failed(self, batch, outcome, stages):
                task.fail(outcome)
            return batch
        refused = refused or {}
        scheduler.finished(self, batch, stages, refused)
        for place, task in enumerate(batch.tasks):
            if place in refused:
                task.fail(refused[place])
            else:
                task.succeed(outcome)
        return batch
