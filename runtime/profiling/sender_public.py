"""The sender for a grpcio whose completion queue is out of reach: public API only, at twice the cost."""

from __future__ import annotations

import functools
from queue import SimpleQueue

import grpc

from runtime.profiling.sender import Answer, Tag
from runtime.profiling.target import INFER, LIVE, Target


class PublicSender:
    """See ``sender.Sender``."""

    def __init__(self, target: Target) -> None:
        self._channel = target.open_channel()
        self._metadata = target.metadata or None
        self._infer = self._channel.unary_unary(INFER)
        self._ended: SimpleQueue[Answer] = SimpleQueue()

    def connect(self, timeout_s: float) -> None:
        """Ask whether the server lives, until it answers anything."""
        live = self._channel.unary_unary(LIVE)
        try:
            live(b"", timeout=timeout_s, wait_for_ready=True, metadata=self._metadata)
        except grpc.RpcError as error:
            if error.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}:
                raise ConnectionError(f"no answer within {timeout_s:g} s: {error.details()}") from error

    def send(self, message: bytes, tag: Tag, timeout_s: float | None) -> None:
        """Start a call."""
        future = self._infer.future(message, timeout=timeout_s, metadata=self._metadata)
        future.add_done_callback(functools.partial(self._end, tag))

    def take(self) -> Answer:
        """Wait for the next call that ends."""
        return self._ended.get()

    def close(self) -> None:
        """Cancel what is in flight."""
        self._channel.close()

    def _end(self, tag: Tag, future: grpc.Future) -> None:
        self._ended.put((tag, int(future.code().value[0])))
