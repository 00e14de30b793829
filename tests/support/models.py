"""Models that tell, wait, misbehave and die on request, and a store full of them.

Their code travels with the artifacts, so that workers need nothing from this repository's tests: keep this
module free of imports that a model would drag along.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BATCHABLE = {"batchable": True, "batch_dim": 0}

MARK = -1
"""In the tag of a row: misbehave now."""


def spec(name: str, datatype: str, *shape: int) -> dict[str, object]:
    """A tensor spec in the form of a manifest."""
    return {"name": name, "datatype": datatype, "shape": list(shape)}


class Tags:
    """Gives each row its own tag back, with the rows executed together and the process that did it."""

    def __call__(self, tags: Array) -> dict[str, Array]:
        """Echo; ``tags: [rows, 2] int64``."""
        return {
            "tags": tags.copy(),
            "batch": np.full(len(tags), len(tags), np.int64),
            "pid": np.full(len(tags), os.getpid(), np.int64),
        }


class Scaled:
    """Two methods over floats, to be compared with direct calls: ``y = 3 x + 1`` and the rows' sums."""

    def predict(self, x: Array) -> Array:
        """Compute elementwise; ``x: [rows, 4] float32``."""
        return np.asarray(x * np.float32(3) + np.float32(1))

    def total(self, x: Array) -> dict[str, Array]:
        """Sum along the features, and name the largest."""
        return {"sum": x.sum(axis=1), "label": np.array([f"feature {i}" for i in x.argmax(axis=1)], object)}


def echo(**inputs: Array) -> dict[str, Array]:
    """Return every input under its own name."""
    return {name: array.copy() for name, array in inputs.items()}


class WrongRows:
    """Returns one row too few when a row is marked, one too many when it is marked twice."""

    def __call__(self, tags: Array) -> dict[str, Array]:
        """Echo, or cut; ``tags: [rows] int64``."""
        marks = int((tags == MARK).sum())
        if marks == 1:
            return {"tags": tags[:-1]}
        return {"tags": np.concatenate([tags, tags[:1]]) if marks else tags}


class Mortal:
    """Kills its own process when a row is marked, and raises for a row of twice the mark."""

    def __call__(self, tags: Array) -> dict[str, Array]:
        """Echo, or die; ``tags: [rows] int64``."""
        if (tags == MARK).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (tags == 2 * MARK).any():
            raise ValueError("a secret of the model")
        return {"tags": tags, "pid": np.full(len(tags), os.getpid(), np.int64)}


class Gated:
    """Reports each batch at a gate (see ``tests.support.gate``) and goes on when it is let through.

    Args:
        gate: path of the gate's socket.
    """

    def __init__(self, gate: Path) -> None:
        self._gate = str(gate)

    def __call__(self, tags: Array) -> dict[str, Array]:
        """Echo, in the end; ``tags: [rows] int64``."""
        with socket.socket(socket.AF_UNIX) as way:
            way.connect(self._gate)
            way.sendall(tags.astype(np.int64).tobytes() + b"end")
            way.recv(1)
        return {"tags": tags}


class Keeper:
    """Keeps every input it was ever given, and counts how many of them have changed since."""

    def __init__(self) -> None:
        self._kept: list[tuple[Array, bytes]] = []

    def __call__(self, x: Array) -> dict[str, Array]:
        """Tell how many of the kept arrays differ from what they were; ``x: [rows, n] float64``."""
        self._kept.append((x, x.tobytes()))
        changed = sum(array.tobytes() != then for array, then in self._kept)
        return {
            "changed": np.full(len(x), changed, np.int64),
            "kept": np.full(len(x), len(self._kept), np.int64),
        }


def in_place(x: Array) -> Array:
    """Work in the memory of the input."""
    x *= 2
    x += 1
    return x


class SlowToLoad:
    """Says on a gate that it is being loaded, and waits there."""

    def __init__(self, gate: Path) -> None:
        self._gate = str(gate)

    def __setstate__(self, state: Mapping[str, str]) -> None:
        with socket.socket(socket.AF_UNIX) as way:
            way.connect(state["_gate"])
            way.sendall(b"end")
            way.recv(1)

    def __call__(self, x: Array) -> Array:
        return x


class Broken:
    """Cannot be loaded."""

    def __setstate__(self, state: object) -> None:
        raise RuntimeError("the weights are gone")

    def __getstate__(self) -> dict[str, int]:
        return {"is": 1}

    def __call__(self, x: Array) -> Array:
        return x


class BrokenAtWarmUp:
    """Loads, works on its sample when it is saved, and fails when a worker warms it up."""

    def __call__(self, x: Array) -> Array:
        """Fail for more rows than a sample has; ``x: [rows, 1]``."""
        if len(x) > 60:
            raise RuntimeError("no room for so many rows")
        return x


THIS = sys.modules[__name__]
