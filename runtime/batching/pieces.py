"""A task of more rows than a batch may have is cut into pieces, which answer it together. Pure.

The scheduler queues the pieces in the task's place; each is a task like any other, which may wait, run and
merge with strangers on its own. States of the whole::

    NEW ─cut─► NEW ─► DONE     the last piece has succeeded: answered with all outputs, in order
                 └──► DONE     one piece has failed: answered with its error; the others are forgotten

The whole is never queued itself. It is answered once: with success only when every piece has succeeded,
and else by the first piece that fails. What comes in after that is dropped, and nothing that a piece still
refers to keeps the whole, its inputs or its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from runtime.batching.task import Buffer, Result, State, Task
from runtime.errors import OutputMismatch
from runtime.tensors.layout import Layout
from runtime.tensors.rows import cut_rows, join_rows

DONE: Final = State.DONE


def cut(task: Task, max_rows: int, forget: Callable[[Task], None]) -> list[Piece]:
    """Cut a task into pieces of at most so many rows, in order, and note them in ``task.pieces``.

    All but the last are full, so that most run as batches of their own and the rest finds company. They
    inherit the place in the queue, the deadline, the priority and the attempts. A piece may be cut again.

    Args:
        task: that has not been sent. One that must not be cut, or need not, is left as it is.
        max_rows: at least 1.
        forget: called for each piece that is of no use any more because another one has failed, on the
            thread that says so; not for pieces that are done.

    Returns:
        The pieces; none if the task is not batchable or has no more rows than that.

    Complexity: linear in the pieces, and in the elements of BYTES inputs. Inputs are copied only where the
        batch axis is not 0.
    """
    if task.rows <= max_rows or not task.key.batchable:
        return []
    full, rest = divmod(task.rows, max_rows)
    counts = [max_rows] * full + [rest] * (rest > 0)
    tensors = Layout.decode(task.key.head).tensors
    columns = [cut_rows(tensor, data, counts) for tensor, data in zip(tensors, task.parts, strict=True)]
    whole = _Whole(task, len(counts), forget)
    pieces = [
        Piece(whole, place, task, rows, parts)
        for place, (rows, *parts) in enumerate(zip(counts, *columns, strict=True))
    ]
    task.pieces = pieces
    return pieces


class Piece(Task):
    """Some of the rows of a task.

    Args:
        whole: what it has in common with the other pieces.
        place: its number among them.
        task: that it is a piece of.
        rows, parts: its own.

    Concurrency: as any task, answered outside of the scheduler's lock, since failing calls ``forget``.
    """

    __slots__ = ("_place", "_whole")

    def __init__(self, whole: _Whole, place: int, task: Task, rows: int, parts: Sequence[Buffer]) -> None:
        super().__init__(task.key, rows, parts, task.deadline_ns, task.priority)
        self.enqueued_ns = task.enqueued_ns
        self.order_ns = task.order_ns
        self.attempts = task.attempts
        self._whole = whole
        self._place = place

    def succeed(self, result: Result) -> None:
        """Keep a copy of this piece's outputs; with the last piece's, answer the whole.

        Raises:
            Exception: what answering the whole has raised; the caller then fails this piece, as it would
                any task, and with it the whole.
        """
        outputs = result.take(self.rows)  # wanted or not: those of the next task lie behind them
        self._whole.add(self._place, self.rows, outputs, result)
        self.parts = ()

    def fail(self, error: Exception) -> None:
        """Fail the whole with this error, unless it is answered already."""
        self.parts = ()
        self._whole.fail(error)

    def post(self, function: Callable[[], object]) -> bool:
        """As the whole would."""
        return self._whole.post(function)


class _Answer(NamedTuple):
    """What one piece was answered."""

    layout: Layout
    rows: int
    outputs: list[Buffer]


class _Whole:
    """What the pieces of one task have in common.

    Concurrency: the pieces may be answered at once by several threads. Nothing is locked: the only things
        that must be decided between them are who is the last and who is the first to fail, and each is
        decided by one ``list.pop``, which is atomic.

    Source: Python FAQ, "What kinds of global value mutation are thread-safe?".
    """

    __slots__ = ("_answers", "_forget", "_left", "_task")

    def __init__(self, task: Task, pieces: int, forget: Callable[[Task], None]) -> None:
        self._task = [task]  # empty once it is answered: whoever takes it out answers it
        self._left = list(range(pieces))
        self._answers: dict[int, _Answer] = {}
        self._forget = forget

    def add(self, place: int, rows: int, outputs: Sequence[Buffer], result: Result) -> None:
        """Keep what a piece was answered; answer the task if that was the last piece."""
        if not self._task:
            return
        self._answers[place] = _Answer(result.layout, rows, [_own(output) for output in outputs])
        if self._left.pop() == 0:
            self._finish(result)

    def fail(self, error: Exception) -> None:
        """Answer the task with an error, unless it is answered; forget the pieces that are not done."""
        try:
            task = self._task.pop()
        except IndexError:
            return
        self._answers.clear()
        for piece in _release(task):
            if piece.state is not DONE:
                self._forget(piece)
        task.fail(error)

    def post(self, function: Callable[[], object]) -> bool:
        """Have the thread on which the task is answered best run a function."""
        return any(task.post(function) for task in self._task)

    def _finish(self, last: Result) -> None:
        """Answer the task with everything."""
        answers = [self._answers[place] for place in range(len(self._answers))]
        layout = last.layout
        for answer in answers:
            if answer.layout is not layout and answer.layout.tensors != layout.tensors:
                self.fail(_mismatch(answers))
                return
        joined = _join(answers, last)
        task = self._task.pop()
        self._answers.clear()
        _release(task)
        try:
            task.succeed(joined)
        except BaseException:
            self._task.append(task)  # whoever handles this fails the piece, and so the task
            raise


def _release(task: Task) -> Sequence[Task]:
    """Move a task that is about to be answered to DONE, and part it from its pieces."""
    task.state = DONE
    pieces, task.pieces = task.pieces, ()
    return pieces


def _own(output: Buffer) -> Buffer:
    """An output that may be kept: a view lies in memory that the worker uses again."""
    return bytes(output) if isinstance(output, memoryview) else output


def _join(answers: Sequence[_Answer], last: Result) -> Result:
    """Put the outputs together, in the order of the pieces.

    When and with what company they were executed is told as of the piece that was answered last: the caller
    has waited for that one, and its stages follow one another from the admission of the whole to its answer.
    """
    counts = [answer.rows for answer in answers]
    outputs = [
        join_rows(tensor, [answer.outputs[index] for answer in answers], counts)
        for index, tensor in enumerate(last.layout.tensors)
    ]
    sizes = [
        len(output) for tensor, output in zip(last.layout.tensors, outputs, strict=True) if tensor.variable
    ]
    return Result(
        last.layout, outputs[0] if len(outputs) == 1 else memoryview(b"".join(outputs)), sizes,
        tasks=1, rows=sum(counts), stages=last.stages, batch=last.batch,
    )  # fmt: skip


def _mismatch(answers: Sequence[_Answer]) -> OutputMismatch:
    """Why the outputs cannot be put together."""
    most = max(answer.rows for answer in answers)
    return OutputMismatch(
        f"the request has more rows than a batch and was executed in {len(answers)} pieces, for which the "
        f"model returned outputs of different shapes or datatypes: send at most {most} rows in one request"
    )
