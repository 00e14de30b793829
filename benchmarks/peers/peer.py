"""What a server must tell to be compared: how to install, set up, start and call it.

A peer only describes; ``server.py`` starts and ends it, ``load.py`` calls it. Every peer serves all models of
``served/compute.py`` from one server, with batches of up to ``MAX_BATCH`` rows and its own best queue delay.
"""

from __future__ import annotations

import abc
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from benchmarks.peers.served.compute import Array, draw

MAX_BATCH: Final = 64
SOURCES: Final = Path(__file__).parent / "served"

THREADS: Final = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
"""Each model computes on one thread, everywhere."""


class NotAvailable(Exception):
    """A peer cannot run on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server runs.

    Attributes:
        folder: its own, with ``compute.py`` and ``weights.npz``.
        python: interpreter of its environment.
        ports: free ones; the first is for gRPC.
    """

    folder: Path
    python: Path
    ports: tuple[int, ...]

    @property
    def port(self) -> int:
        """Of gRPC."""
        return self.ports[0]

    def add_models(self, folder: Path | None = None) -> None:
        """Put the models' code and weights into a folder, else into the place's own."""
        folder = folder or self.folder
        shutil.copy(SOURCES / "compute.py", folder)
        np.savez(folder / "weights.npz", allow_pickle=False, **draw())

    def copy(self, source: str, target: str = "") -> Path:
        """Put a file of ``served/`` there, under its own or another name."""
        path = self.folder / (target or source)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCES / source, path)
        return path


class Peer(abc.ABC):
    """A server to compare with.

    Attributes:
        name: for ``--only``, and of its environment.
        title: for people.
        requirements: what pip installs, pinned; nothing for our own environment.
        packages: whose versions are reported.
        configuration: how it is set up, in one line.
        warm_up_s: calls for at least so long before each measurement's case.
        speaks_open_inference: whether a client of the Open Inference Protocol can call it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    requirements: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]]
    configuration: ClassVar[str]
    speaks_open_inference: ClassVar[bool] = False
    warm_up_s: ClassVar[float] = 0.0

    @property
    def installed_as(self) -> str:
        """Name of its environment; peers with the same packages share one."""
        return self.name

    def missing(self) -> str:
        """Say what this machine lacks that pip cannot install; nothing, as a rule."""
        return ""

    @abc.abstractmethod
    def prepare(self, place: Place) -> None:
        """Write what the server reads at its start."""

    @abc.abstractmethod
    def command(self, place: Place) -> list[str]:
        """Return the command that serves until SIGTERM."""

    def environment(self, place: Place) -> dict[str, str]:
        """Return the variables of the server's process."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RUNTIME_", "PYTHON"))
        }
        path = f"{place.python.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
        return {**kept, **THREADS, "PATH": path, "PYTHONPATH": str(place.folder)}

    @abc.abstractmethod
    def method(self, model: str) -> str:
        """Return the gRPC path that calls a model."""

    @abc.abstractmethod
    def encode(self, model: str, x: Array) -> bytes:
        """Return the request for rows, as the server's fastest form."""

    @abc.abstractmethod
    def decode(self, model: str, answer: bytes) -> Array:
        """Return the rows of an answer.

        Raises:
            ValueError: it is none.
        """

    def version(self, port: int) -> str:
        """Ask the running server for its version, where that is not a package's."""
        return ""

    def metadata(self) -> Mapping[str, str]:
        """Return what every call carries besides gRPC's own headers."""
        return {}
