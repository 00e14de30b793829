"""The service's end of the way to one worker: batches out, results back.

A channel is an :class:`~runtime.batching.scheduler.Instance`. ``send`` runs under the scheduler's lock;
everything else on the reader's thread. Large payloads are written into the channel's own arena and
freed when the result has come; the worker's arena is read, and its space given back with the ``ack`` of
the next batch.
"""

from __future__ import annotations

import itertools
import json
import logging
import socket
import threading
from collections.abc import Callable
from typing import Final

from runtime.batching.scheduler import Scheduler
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Buffer, Result, Task
from runtime.clock import now_ns
from runtime.errors import (
    DeadlineExceeded,
    InvalidInput,
    MemoryExhausted,
    MethodNotFound,
    ModelError,
    OutputMismatch,
    RuntimeServingError,
)
from runtime.runner.link import INLINE_BYTES, Link
from runtime.tensors.arena import Allocator, Arena
from runtime.tensors.frame import JOINED, KEPT, Frame, Kind, encode
from runtime.tensors.layout import LayoutTable

log = logging.getLogger(__name__)

_FAILURES: Final[dict[str, type[RuntimeServingError]]] = {
    kind.reason: kind
    for kind in (DeadlineExceeded, InvalidInput, MemoryExhausted, MethodNotFound, ModelError, OutputMismatch)
}


class Channel:
    """The connection to one worker of one model version.

    Args:
        name: of the instance, for logs.
        sock: stream socket to the worker.
        outgoing: descriptor of the arena that this side writes.
        incoming: descriptor of the arena that the worker writes.
        scheduler: told about results and about the end.
        layouts: of outputs, shared by all channels of the process.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        outgoing: int,
        incoming: int,
        *,
        scheduler: Scheduler,
        layouts: LayoutTable,
    ) -> None:
        self.name = name
        self.link = Link(sock)
        self._scheduler = scheduler
        self._ours = Arena(outgoing)
        self._theirs = Arena(incoming)
        self._allocator = Allocator(self._ours.size)
        self._numbers = itertools.count(1)
        self._running: dict[int, tuple[Batch, int]] = {}
        self._memory = threading.Lock()  # guards the allocator
        self._layouts = layouts
        self._consumed = 0
        self._started_ns = -1  # when the execution that was answered last began
        self._finished_ns = 0
        self._before_ns = 0  # when the one before it was finished
        self.on_unsent: Callable[[Channel], None] = _ignore

    # -- under the scheduler's lock -------------------------------------------------------------

    def send(self, batch: Batch) -> None:
        """Hand a batch to the worker without waiting.

        Raises:
            WorkerLost: the worker is gone; the batch was not taken.
            MemoryExhausted: the arena has no room for a batch of this size.
        """
        number = next(self._numbers)
        tasks = batch.tasks
        offset = -1
        parts: list[Buffer] = []
        sizes: list[int] = []
        _gather(batch, parts, sizes)
        if batch.size_bytes > INLINE_BYTES:
            offset = self._store(parts, batch.size_bytes)
            parts = []
        rows = tuple([task.rows for task in tasks])
        frame = Frame(
            Kind.EXECUTE, number, batch.key.head, rows, tuple(sizes), b"", offset, batch.size_bytes,
            self._consumed, _latest_deadline(tasks),
        )  # fmt: skip
        self._running[number] = (batch, offset)
        try:
            self.link.send(encode(frame, parts))
        except BaseException:
            self._running.pop(number, None)
            if offset >= 0:
                with self._memory:
                    self._allocator.free(offset)
            raise
        if self.link.wants_write:
            self.on_unsent(self)

    def abandon(self) -> list[Batch]:
        """Give up what was sent and not answered, oldest first."""
        unfinished = [batch for batch, _ in self._running.values()]
        self._running.clear()
        return unfinished

    def _store(self, parts: list[Buffer], size: int) -> int:
        """Copy a payload into the arena and return its offset."""
        with self._memory:
            offset = self._allocator.allocate(size)
        if offset is None:
            raise MemoryExhausted(
                f"a batch of {size} bytes does not fit into the arena of {self._ours.size} bytes"
            )
        view = self._ours.view
        at = offset
        for part in parts:
            end = at + len(part)
            view[at:end] = part
            at = end
        return offset

    # -- reader's thread ------------------------------------------------------------------------

    def read(self) -> None:
        """Handle what the worker has answered.

        Raises:
            WorkerLost: the worker is gone.
        """
        for frame in self.link.receive():
            self._answer(frame)

    def closed(self) -> None:
        """The worker is gone: have its batches run again elsewhere, once."""
        self.link.close()
        self._scheduler.detach(self)
        self._ours.close()
        self._theirs.close()

    def _answer(self, frame: Frame) -> None:
        """Book an answer, refill the worker, answer the tasks; until it is understood the batch runs."""
        batch, offset = self._running[frame.batch]
        stages = self._stages(batch, frame)
        answer = _failure(frame.head) if frame.kind == Kind.FAILURE else self._result(batch, frame, stages)
        del self._running[frame.batch]
        if offset >= 0 and not frame.flags & KEPT:
            with self._memory:
                self._allocator.free(offset)
        timing = frame.timing
        failed = not isinstance(answer, Result)
        self._scheduler.finished(self, batch, timing.executed - timing.started, failed=failed, stages=stages)
        for task in batch.tasks:
            self._tell(task, answer)
        self._consumed += 1

    def _tell(self, task: Task, answer: Result | RuntimeServingError) -> None:
        try:
            if isinstance(answer, Result):
                task.succeed(answer)
            else:
                task.fail(answer)
        except Exception:  # a fence: one caller's trouble is not its neighbours'
            log.exception("answer_failed", extra={"instance": self.name})
            task.fail(ModelError("the answer could not be encoded"))

    def _stages(self, batch: Batch, frame: Frame) -> Stages:
        """Where the batch's time went. Answers that share an execution come one after the other."""
        timing = frame.timing
        if timing.started != self._started_ns:
            self._started_ns = timing.started
            self._before_ns = self._finished_ns
        self._finished_ns = timing.finished
        rows = frame.rows[0] if frame.rows else batch.rows
        joined = bool(frame.flags & JOINED)
        return Stages.observe(batch.closed_ns, self._before_ns, timing, now_ns(), rows, joined=joined)

    def _result(self, batch: Batch, frame: Frame, stages: Stages) -> Result:
        """The outputs, in the frame or in the worker's arena."""
        payload: Buffer = frame.payload
        if frame.offset >= 0:
            payload = self._theirs.view[frame.offset : frame.offset + frame.length]
        return Result(
            self._layouts[frame.head], payload, frame.sizes, tasks=len(batch.tasks), rows=batch.rows,
            timing=frame.timing, executed_rows=frame.rows[0], stages=stages,
        )  # fmt: skip


def _gather(batch: Batch, parts: list[Buffer], sizes: list[int]) -> None:
    """Collect a batch's payload in wire order: input by input, task by task."""
    tasks = batch.tasks
    for index, variable in enumerate(batch.key.variable):
        column = [task.parts[index] for task in tasks]
        parts += column
        if variable:
            sizes += map(len, column)


def _latest_deadline(tasks: list[Task]) -> int:
    """The instant from which on nobody waits for the batch any more; 0 if somebody waits for ever."""
    deadlines = [task.deadline_ns for task in tasks]
    return 0 if 0 in deadlines else max(deadlines)


def _failure(head: bytes) -> RuntimeServingError:
    """The error that a worker reported."""
    report = json.loads(head)
    return _FAILURES.get(report["reason"], ModelError)(report["message"], field=report.get("field"))


def _ignore(channel: Channel) -> None:
    """Nobody wants to know about unsent bytes."""
