"""Models that write down what they were given, and fail or die when a row tells them to.

Their code travels with the artifacts: keep this module free of imports that a model would drag along.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
RAISE, KILL = -1, -2
"""Tags of rows for which the model raises, or kills its process."""


def _misbehave(tags: Array) -> None:
    if (tags == KILL).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (tags == RAISE).any():
        raise ValueError("a row that no model can take")


class Recorder:
    """Writes down each batch when it begins, takes its time, and gives the rows back.

    Args:
        log: the file to write to, which outlives the process.
        alpha_ms: of one execution.
        beta_ms: of each row.
    """

    def __init__(self, log: Path, alpha_ms: float = 0, beta_ms: float = 0) -> None:
        self._log = str(log)
        self._times_ms = alpha_ms, beta_ms

    def __call__(self, tags: Array) -> dict[str, Array]:
        """Echo; ``tags: [rows, n] int64``, the first column tells what to do."""
        begun = time.monotonic_ns()
        words = np.array([begun, *tags.shape, *tags[:, 0]], np.int64)
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(log, words.tobytes())
        os.close(log)
        _misbehave(tags)
        alpha_ms, beta_ms = self._times_ms
        time.sleep((alpha_ms + beta_ms * len(tags)) / 1000)
        return {"tags": tags}


class Executed(NamedTuple):
    """One batch that a ``Recorder`` has begun."""

    begun_ns: int
    rows: int
    columns: int
    tags: list[int]


def executed(log: Path) -> Iterator[Executed]:
    """What was begun, by all instances, in order, but for what warms workers up, whose tags are all 0."""
    words = np.frombuffer(log.read_bytes(), np.int64).tolist() if log.exists() else []
    at = 0
    while at < len(words):
        begun, rows, columns = words[at : at + 3]
        tags = words[at + 3 : at + 3 + rows]
        if any(tags):
            yield Executed(begun, rows, columns, tags)
        at += 3 + rows


class Fragile:
    """Stands at a gate (see ``tests.support.gate``), then computes each row by itself, or fails for all.

    Args:
        gate: path of the gate's socket.
    """

    def __init__(self, gate: Path) -> None:
        self._gate = str(gate)

    def __call__(self, tags: Array, x: Array) -> dict[str, Array]:
        """Compute elementwise; ``tags: [rows] int64, x: [rows, n] float32``."""
        with socket.socket(socket.AF_UNIX) as way:
            way.connect(self._gate)
            way.sendall(tags.tobytes() + b"end")
            way.recv(1)
        _misbehave(tags)
        return {"tags": tags, "y": np.tanh(x) * np.float32(3)}


def rows_of(batches: Sequence[Executed]) -> int:
    """How many rows were begun."""
    return sum([batch.rows for batch in batches])


THIS = sys.modules[__name__]
