"""The service's end of the way to one worker: batches out, results back.

A channel is an :class:`~runtime.batching.instance.Instance`. ``send`` and ``cancel`` run under the
scheduler's lock. The reader's thread takes in what the worker answers and hands it over to the thread on
which the callers are answered best, the transport's; in order, and never to two threads at a time. Large
payloads are written into the channel's own arena and freed when the result has come; the worker's arena is
read, and its space given back with the ``ack`` of the next batch.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Final

from runtime.batching.scheduler import Scheduler
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Buffer, Result, Task
from runtime.clock import now_ns
from runtime.errors import MemoryExhausted, ModelError, RuntimeServingError, WorkerLost
from runtime.runner import reports
from runtime.runner.link import INLINE_BYTES, Link
from runtime.tensors.arena import Allocator, Arena
from runtime.tensors.frame import ALONE, JOINED, KEPT, Frame, Kind, encode
from runtime.tensors.layout import LayoutTable

log = logging.getLogger(__name__)

_POST_ATTEMPTS: Final = 4
"""Callers of a batch that are asked for their thread: all of them having gone is rare."""


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
        self._refused: dict[int, RuntimeServingError] = {}  # of the batch whose result comes next
        self._memory = threading.Lock()  # guards the allocator
        self._layouts = layouts
        self._consumed = 0
        self._started_ns = -1  # when the execution that was answered last began
        self._finished_ns = 0
        self._before_ns = 0  # when the one before it was finished
        self._handing_over = threading.Lock()  # guards the next two
        self._unhandled: list[Frame | None] = []
        self._is_handling = False
        self._is_broken = False
        self.on_unsent: Callable[[Channel], None] = _ignore
        self.on_lost: Callable[[Channel], None] = _ignore

    # -- under the scheduler's lock -------------------------------------------------------------

    def send(self, batch: Batch) -> None:
        """Hand a batch to the worker without waiting.

        Raises:
            WorkerLost: the worker is gone; the batch was not taken.
            MemoryExhausted: the arena has no room for a batch of this size.
        """
        number = batch.number = next(self._numbers)
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
            self._consumed, _latest_deadline(tasks), ALONE if batch.alone else 0,
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

    def cancel(self, batch: Batch, task: Task) -> None:
        """Tell the worker that nobody waits for a task of a batch that was sent and not answered.

        It is left out if its batch has not begun; otherwise its answer comes and is dropped. Never raises.
        """
        running = self._running.get(batch.number)
        if running is None or running[0] is not batch:
            return
        with contextlib.suppress(WorkerLost, ValueError):  # the reader notices as well; not in this batch
            frame = Frame(Kind.CANCEL, batch.number, b"", (batch.tasks.index(task),), ack=self._consumed)
            self.link.send(encode(frame))
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
        """Take what the worker has answered.

        Raises:
            WorkerLost: the worker is gone; call :meth:`lose`.
        """
        frames = self.link.receive()
        if frames:
            self._hand_over(frames)

    def lose(self) -> None:
        """The worker is gone: have its batches run again elsewhere, once, and let go of everything."""
        self._hand_over([None])

    def _hand_over(self, frames: Sequence[Frame | None]) -> None:
        """Have frames handled in order, by one thread at a time: the one that answers best, or this one."""
        with self._handing_over:
            self._unhandled += frames
            if self._is_handling:
                return
            self._is_handling = True
        if not self._post(frames[0]):
            self._handle()

    def _post(self, frame: Frame | None) -> bool:
        if frame is None or frame.batch not in self._running:
            return False
        batch, _ = self._running[frame.batch]
        return any(task.post(self._handle) for task in batch.tasks[:_POST_ATTEMPTS])

    # -- one thread at a time -------------------------------------------------------------------

    def _handle(self) -> None:
        """Handle what was handed over, until nothing is left."""
        while True:
            with self._handing_over:
                frames, self._unhandled = self._unhandled, []
                if not frames:
                    self._is_handling = False
                    return
            for frame in frames:
                if frame is None:
                    self._finish()
                elif not self._is_broken:
                    self._understand(frame)

    def _understand(self, frame: Frame) -> None:
        try:
            self._answer(frame)
        except Exception:  # a fence: what a worker sends must not harm the other workers' callers
            log.exception("answer_not_understood", extra={"instance": self.name})
            self._is_broken = True
            self.link.hang_up()  # the reader notices, and loses this channel

    def _finish(self) -> None:
        self._scheduler.detach(self)
        self.link.close()
        self._ours.close()
        self._theirs.close()
        self.on_lost(self)

    def _answer(self, frame: Frame) -> None:
        """Book an answer, refill the worker, answer the tasks; until it is understood the batch runs."""
        batch, offset = self._running[frame.batch]
        if frame.kind == Kind.REFUSED:
            self._refused = dict(zip(frame.rows, reports.decode_all(frame.head), strict=True))
            return
        refused, self._refused = self._refused, {}
        stages = self._stages(batch, frame)
        failed = frame.kind == Kind.FAILURE
        answer = reports.decode(frame.head) if failed else self._result(batch, frame, stages, refused)
        del self._running[frame.batch]
        if offset >= 0 and not frame.flags & KEPT:
            with self._memory:
                self._allocator.free(offset)
        tasks: Sequence[Task] = batch.tasks
        if isinstance(answer, Result):
            self._scheduler.finished(self, batch, stages, refused)
            if refused:
                for place, error in refused.items():
                    self._tell(tasks[place], error)
                tasks = [task for place, task in enumerate(tasks) if place not in refused]
        else:
            tasks = self._scheduler.failed(self, batch, answer, stages)
        for task in tasks:
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
        rows, padded = frame.rows or (batch.rows, batch.rows)
        joined = bool(frame.flags & JOINED)
        return Stages.observe(
            batch.closed_ns, self._before_ns, timing, now_ns(), rows=rows, padded=padded, joined=joined
        )

    def _result(self, batch: Batch, frame: Frame, stages: Stages, refused: Collection[int]) -> Result:
        """The outputs of all tasks but the refused, in the frame or in the worker's arena."""
        tasks, rows = len(batch.tasks), batch.rows
        if refused:
            tasks -= len(refused)
            rows -= sum([batch.tasks[place].rows for place in refused])
        payload: Buffer = frame.payload
        if frame.offset >= 0:
            payload = self._theirs.view[frame.offset : frame.offset + frame.length]
        return Result(
            self._layouts[frame.head], payload, frame.sizes, tasks=tasks, rows=rows, stages=stages,
            batch=batch,
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


def _ignore(channel: Channel) -> None:
    """Nobody wants to know."""
