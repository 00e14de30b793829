"""Tasks to be cut into pieces, and what a model answers to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, BatchKey, Result, State, Task
from runtime.tensors.layout import Layout, TensorLayout
from tests.support.tasks import RecordingTask

INPUT = Layout("f", (0, 0), (TensorLayout.of("x", "UINT8", (-1, 2)),))
OUTPUT = Layout("", (0, 0), (TensorLayout.of("y", "UINT8", (-1,)),))
KEY = BatchKey(INPUT.encode(), batchable=True, variable=(False,))


class Whole(RecordingTask):
    """A task that can be referred to weakly, and that remembers the results and who posted."""

    def __init__(self, rows: int, *, of: BatchKey = KEY, deadline_ns: int = 0) -> None:
        super().__init__(of, rows, deadline_ns=deadline_ns, parts=[bytes(range(2 * rows))])
        self.results: list[Result] = []
        self.posted: list[Callable[[], object]] = []

    def succeed(self, result: Result) -> None:
        self.results.append(result)
        super().succeed(result)

    def post(self, function: Callable[[], object]) -> bool:
        self.posted.append(function)
        return True


class Forgotten(list[Task]):
    """Collects what is forgotten, as the scheduler's ``cancel`` would take it out of the queue."""

    def __call__(self, task: Task) -> None:
        self.append(task)


def result_of(
    pieces: Sequence[Task],
    layout: Layout = OUTPUT,
    *,
    payload: bytes | None = None,
    sizes: Sequence[int] = (),
    stages: Stages | None = None,
    batch: Batch | None = None,
) -> Result:
    """What a model answers; unless told otherwise it returns the first of each row's two numbers."""
    rows = sum(piece.rows for piece in pieces)
    if payload is None:
        payload = b"".join(bytes(piece.parts[0])[::2] for piece in pieces)
    return Result(
        layout, memoryview(payload), sizes, tasks=len(pieces), rows=rows, stages=stages, batch=batch,
    )  # fmt: skip


def answer(piece: Task) -> None:
    """Do as the scheduler and the channel do."""
    piece.state = State.DONE
    piece.succeed(result_of([piece]))


def refuse(piece: Task, error: Exception) -> None:
    piece.state = State.DONE
    piece.fail(error)


def ignore(task: Task) -> None:
    raise AssertionError(f"{task} was forgotten")
