"""ModelStreamInfer: many requests and answers on one call, answered in the order they came.

As in Triton, an error of one request is an ``error_message`` on the stream, which goes on; with the
metadata ``triton_grpc_error: true`` the stream ends with the status instead.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from protos import open_inference_pb2 as pb
from runtime.batching.task import Buffer, Result
from runtime.rpc import status
from runtime.rpc.infer import Infer, InferTask
from runtime.rpc.plan import Plan
from runtime.tensors.wire import field
from runtime.transport.interface import StreamCall

MAX_PENDING: Final = 256
"""Requests and unread answers of one stream; the client is not read from beyond that."""
_INFER_RESPONSE: Final = 2


class StreamTask(InferTask):
    """The task of one request of a stream."""

    __slots__ = ("answer", "stream")

    def __init__(self, stream: InferStream, plan: Plan, identity: bytes, parts: Sequence[Buffer]) -> None:
        super().__init__(stream.call, plan, identity, parts)
        self.stream = stream
        self.answer: bytes | Exception | None = None

    def succeed(self, result: Result) -> None:
        """Keep the answer until those before it are sent."""
        buffers = result.take(self.rows)
        try:
            self.answer = field(_INFER_RESPONSE, self.message(result, buffers))
        except Exception as error:  # noqa: BLE001  # a fence: becomes this request's answer
            self.answer = error
        self.stream.advance()

    def fail(self, error: Exception) -> None:
        """Keep the error until the answers before it are sent."""
        self.answer = error
        self.stream.advance()


class InferStream:
    """One ModelStreamInfer call.

    Concurrency: messages come on the transport's thread, answers on the reader's.
    """

    def __init__(self, call: StreamCall, infer: Infer) -> None:
        self.call = call
        self._infer = infer
        self._waiting: deque[StreamTask | Exception] = deque()
        self._lock = threading.Lock()
        self._ended = False
        self._paused = False
        self._strict = ("triton_grpc_error", "true") in [tuple(pair) for pair in call.metadata]
        call.on_message = self._message
        call.on_drained = self.advance
        call.on_done(self._done)
        call.read()

    def advance(self) -> None:
        """Send the answers that are due."""
        with self._lock:
            while self._waiting:
                first = self._waiting[0]
                answer = first.answer if isinstance(first, StreamTask) else first
                if answer is None:
                    break
                self._waiting.popleft()
                if not self._send(answer):
                    return
            if self._ended and not self._waiting:
                self.call.finish()
            elif self._paused and self._pending < MAX_PENDING:
                self._paused = False
                self.call.read()

    @property
    def _pending(self) -> int:
        """Requests that wait and answers that the client has not taken yet."""
        return len(self._waiting) + self.call.pending

    def _send(self, answer: bytes | Exception) -> bool:
        """Send one answer; False if it ended the stream."""
        if isinstance(answer, bytes):
            return self.call.send(answer)
        if self._strict:
            status.fail(self.call, answer)
            return False
        message = pb.ModelStreamInferResponse(error_message=status.message_of(answer, self.call.method))
        return self.call.send(message.SerializeToString())

    def _message(self, data: bytes | None) -> None:
        if data is None:
            with self._lock:
                self._ended = True
            self.advance()
            return
        try:
            plan, identity, parts = self._infer.parse(data)
            task = StreamTask(self, plan, identity, parts)
            with self._lock:
                self._waiting.append(task)
            self._infer.submit(task)
        except Exception as error:  # noqa: BLE001  # a fence: becomes this request's answer
            self._refuse(error)
        with self._lock:
            self._paused = self._pending >= MAX_PENDING
            if not self._paused:
                self.call.read()

    def _refuse(self, error: Exception) -> None:
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, StreamTask) and last.answer is None and not last.enqueued_ns:
                last.answer = error  # it was refused by the queue
            else:
                self._waiting.append(error)
        self.advance()

    def _done(self, _cancelled: bool) -> None:  # the transport's callback
        with self._lock:
            waiting = [task for task in self._waiting if isinstance(task, StreamTask)]
            self._waiting.clear()
        for task in waiting:  # none is left after an orderly end
            task.abandoned()
