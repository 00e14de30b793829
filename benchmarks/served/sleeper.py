"""A model that takes as long as it is told, and writes down what it was given and when.

Its code travels with the artifact: keep this module free of imports that a model would drag along.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MILLISECOND: Final = 1_000_000
_PR_SET_TIMERSLACK: Final = 29


class Sleeper:
    """Sleeps ``alpha + beta * rows`` milliseconds, times a speed that a file tells, and returns its input.

    Args:
        alpha_ms: of one execution.
        beta_ms: of each row.
        folder: where it finds ``speed`` (a number; longer executions if larger) and writes ``log``.
        tags: write the first column of each row down too.
    """

    def __init__(self, alpha_ms: float, beta_ms: float, folder: Path, *, tags: bool = False) -> None:
        self._alpha_ms = alpha_ms
        self._beta_ms = beta_ms
        self._folder = str(folder)
        self._tags = tags
        self._files: tuple[int, int] | None = None

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Echo, later; ``x: [rows, n] int64``, n at least 1."""
        begun = time.monotonic_ns()
        speed, log = self._files or self._open()
        factor = float(os.pread(speed, 32, 0))
        rows = len(x)
        end = begun + round((self._alpha_ms + self._beta_ms * rows) * factor * MILLISECOND)
        while (left := end - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)
        tags = x[:, 0].tolist() if self._tags else []
        os.write(log, np.array([begun, end, rows, len(tags), *tags], np.int64).tobytes())
        return x

    def _open(self) -> tuple[int, int]:
        """Open the files, and have sleeps of this thread end in time."""
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        speed = os.open(f"{self._folder}/speed", os.O_RDONLY)
        log = os.open(f"{self._folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._files = speed, log
        return self._files


class Execution(NamedTuple):
    """One batch, as the model saw it."""

    begun_ns: int
    ended_ns: int
    rows: int
    tags: tuple[int, ...]


def read_log(folder: Path) -> Iterator[Execution]:
    """What the model of a folder has executed, in order."""
    path = folder / "log"
    words = np.frombuffer(path.read_bytes(), np.int64).tolist() if path.exists() else []
    at = 0
    while at < len(words):
        begun, ended, rows, count = words[at : at + 4]
        yield Execution(begun, ended, rows, tuple(words[at + 4 : at + 4 + count]))
        at += 4 + count


def set_speed(folder: Path, factor: float) -> None:
    """Make the model of a folder slower by a factor, from its next execution on."""
    path = folder / "speed"
    with path.open("r+b" if path.exists() else "w+b") as file:  # the model keeps the file open
        file.write(f"{factor:<32.6f}".encode())
