"""What both clients agree on: channel options, deadlines, and the questions about readiness.

No I/O happens here.
"""

from __future__ import annotations

import math
from typing import Final

import grpc

from protos import open_inference_pb2 as pb
from protos.service import RPCS
from runtime.client import codec
from runtime.client.errors import RpcFailed

DEFAULT_TIMEOUT_S: Final = 60.0
DEFAULT_KEEPALIVE_S: Final = 30.0
POLL_S: Final = 0.05
"""Pause between two questions while waiting for readiness."""

KEEPALIVE_TIMEOUT_MS: Final = 10_000
INITIAL_BACKOFF_MS: Final = 100
MAX_BACKOFF_MS: Final = 5_000

UNARY_PATHS: Final = {rpc.name: rpc.path for rpc in RPCS.values() if not rpc.streaming}

_NOT_READY: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.NOT_FOUND}
)


def options(max_message_bytes: int, keepalive_s: float | None) -> list[tuple[str, int]]:
    """Return the channel options.

    Pings are sent only while a call waits, so that a dead server is noticed under it; gRPC itself sends
    no more than two of them in a row without data, which stock servers put up with. Reconnecting backs
    off far less than gRPC's default of a second up to two minutes: a restarted server is found quickly.
    """
    chosen = [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", INITIAL_BACKOFF_MS),
        ("grpc.max_reconnect_backoff_ms", MAX_BACKOFF_MS),
    ]
    if keepalive_s is not None:
        chosen.append(("grpc.keepalive_time_ms", round(keepalive_s * 1000)))
        chosen.append(("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS))
    return chosen


def rpc_timeout(timeout: float | None, default: float) -> float | None:
    """Return the timeout for gRPC, where None means no deadline; here that is ``math.inf``."""
    chosen = default if timeout is None else timeout
    return None if chosen == math.inf else chosen


def readiness_question(model: str | None, version: str) -> tuple[str, bytes]:
    """Return the RPC, and its request, that asks whether a model, or the server, is ready."""
    if model is None:
        return "ServerReady", pb.ServerReadyRequest().SerializeToString()
    return "ModelReady", pb.ModelReadyRequest(name=model, version=version).SerializeToString()


def is_ready(rpc: str, response: bytes) -> bool:
    """Read the answer to a readiness question."""
    if rpc == "ServerReady":
        return codec.parse(pb.ServerReadyResponse, response).ready
    return codec.parse(pb.ModelReadyResponse, response).ready


def means_not_ready(error: RpcFailed) -> bool:
    """Whether a failed question is an answer: nobody there, too slow, or no such model (yet)."""
    return error.code in _NOT_READY


def not_ready(target: str, model: str | None, timeout: float, last: str) -> TimeoutError:
    """Return the error for a wait that was in vain."""
    what = "the server" if model is None else f"model {model!r}"
    return TimeoutError(f"{what} at {target} is not ready after {timeout:g} s; last answer: {last}")
