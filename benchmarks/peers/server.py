"""Starts one server of any kind, calls it until its answers are right, and ends all its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import psutil

from benchmarks.overhead import pin
from benchmarks.peers.peer import NotAvailable, Peer, Place
from benchmarks.peers.served import compute

READY_S: Final = 120.0
STOP_S: Final = 20.0
PORTS: Final = 6


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers.

    Attributes:
        peer: what it is.
        port: of gRPC.
        pid: of the process that was started.
        ready_s: how long the start took.
    """

    peer: Peer
    port: int
    pid: int
    ready_s: float

    def processes(self) -> list[int]:
        """All its processes that live now."""
        return family(self.pid)

    def cpu_seconds(self) -> dict[int, float]:
        """CPU time of each of its processes since its start."""
        return {pid: cpu for pid in self.processes() if (cpu := cpu_seconds(pid)) is not None}


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of a process with all its threads, also ended ones; None if it is gone.

    Source: the kernel's clock of another process (clock_getcpuclockid(3)): its number is the complement of
    the pid, shifted by three, with 2 for the scheduler's own accounting in nanoseconds.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def free_ports(count: int) -> tuple[int, ...]:
    """Return ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)


def row(model: str) -> compute.Array:
    """Return the one row of every request to a model."""
    return np.random.default_rng(1).random((1, compute.WIDTHS[model][0]), "f4")


@contextlib.contextmanager
def serving(peer: Peer, python: Path, folder: Path) -> Iterator[Served]:
    """Run a server until the end of the block, on the first core; its log is ``server.log`` in the folder.

    Raises:
        NotAvailable: it ended, or did not answer right in time; the message has the end of its log.
    """
    folder.mkdir()
    place = Place(folder, python, free_ports(PORTS))
    place.add_models()
    peer.prepare(place)
    started = time.monotonic()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            peer.command(place), cwd=folder, env=peer.environment(place), stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    pin(process.pid, first=True)
    try:
        _wait_right(peer, place, process)
        yield Served(peer, place.port, process.pid, time.monotonic() - started)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and whatever of its processes outlives it."""
    known = {pid: psutil.Process(pid) for pid in family(process.pid) if psutil.pid_exists(pid)}
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for left in known.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()  # psutil compares start times: a pid that was given anew is left alone
    process.wait()


def verify(peer: Peer, port: int, model: str, timeout_s: float = 10.0) -> int:
    """Call a model once and compare the answer with the model's own.

    Returns:
        Bytes of the answer.

    Raises:
        grpc.RpcError: the call failed.
        ValueError: the answer is wrong.
    """
    x = row(model)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: bytes = channel.unary_unary(peer.method(model))(
            peer.encode(model, x), timeout=timeout_s, metadata=tuple(peer.metadata().items())
        )
    wanted = compute.MODELS[model](compute.draw())(x)
    result = peer.decode(model, answer)
    if result.shape != wanted.shape or not np.allclose(result, wanted, rtol=1e-3, atol=1e-4):
        raise ValueError(f"{model} answered wrong numbers")
    return len(answer)


def _wait_right(peer: Peer, place: Place, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + READY_S
    waiting, reason = list(compute.WIDTHS), ""
    while waiting:
        try:
            verify(peer, place.port, waiting[0])
            waiting.pop(0)
            continue
        except grpc.RpcError as error:
            reason = f"{error.code().name}: {error.details()}"
        except ValueError as error:
            reason = str(error)
        if process.poll() is not None:
            raise NotAvailable(f"it ended with {process.returncode}: {_log_end(place)}")
        if time.monotonic() > give_up:
            raise NotAvailable(f"not ready after {READY_S:.0f} s ({reason}): {_log_end(place)}")
        time.sleep(0.2)


def _log_end(place: Place) -> str:
    lines = (place.folder / "server.log").read_text(errors="replace").split("\n")
    return " / ".join(line.strip() for line in lines if line.strip())[-600:]
