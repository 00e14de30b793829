"""CPU time and memory of a server's processes on this machine, and of the machine as a whole.

A server of ours says on its HTTP port which processes are its workers; the front-ends are their siblings.
Of a server elsewhere nothing is known, and nothing is reported.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from runtime.clock import SECOND, now_ns

FRONT_END_MODULE: Final = "runtime.service.process"
WORKER: Final = "worker"
FRONT_END: Final = "front-end"

_HTTP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in use between two samples.

    Attributes:
        cores: role to cores in use per process of that role.
        machine: share of all cores in use, 0 to 1.
    """

    cores: Mapping[str, float] = field(default_factory=dict)
    machine: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"cores": dict(self.cores), "machine": self.machine}


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU seconds used until an instant, by role and by the machine."""

    at_ns: int
    cpu_s: Mapping[str, float]
    machine_s: tuple[float, float]

    def until(self, later: Sample, counts: Mapping[str, int]) -> Usage:
        """Return what was used from this sample to a later one."""
        elapsed_s = (later.at_ns - self.at_ns) / SECOND
        if elapsed_s <= 0:
            return Usage()
        cores = {
            role: max(0.0, later.cpu_s.get(role, 0.0) - used) / elapsed_s / counts[role]
            for role, used in self.cpu_s.items()
            if counts.get(role)
        }
        busy, whole = (now - then for now, then in zip(later.machine_s, self.machine_s, strict=True))
        return Usage(cores, min(1.0, busy / whole) if whole > 0 else None)


class Processes:
    """The processes of one server.

    Args:
        roles: role to process ids; none when they are not known.
    """

    def __init__(self, roles: Mapping[str, list[int]] | None = None) -> None:
        self._roles = dict(roles or {})

    @classmethod
    def of(cls, http: str) -> Processes:
        """Find the processes of a server of ours by its HTTP port; none when it is not one, or not here."""
        try:
            workers = _worker_pids(http)
            if not workers:
                return cls()
            supervisor = psutil.Process(workers[0]).parent()
            children = supervisor.children() if supervisor is not None else []
            front_ends = [child.pid for child in children if FRONT_END_MODULE in child.cmdline()]
        except (OSError, ValueError, psutil.Error):
            return cls()
        return cls({WORKER: workers, FRONT_END: front_ends})

    @property
    def counts(self) -> dict[str, int]:
        """Processes by role."""
        return {role: len(pids) for role, pids in self._roles.items()}

    def sample(self) -> Sample:
        """Read the counters now; a process that has ended counts no more."""
        used = {role: sum(_cpu_s(pid) for pid in pids) for role, pids in self._roles.items()}
        return Sample(now_ns(), used, _machine_s())

    def resident_bytes(self) -> dict[str, int]:
        """Return the resident memory of the largest process of each role."""
        return {role: max(map(_resident, pids)) for role, pids in self._roles.items() if pids}


def _worker_pids(http: str) -> list[int]:
    with urllib.request.urlopen(f"http://{http}/models", timeout=_HTTP_S) as response:
        models = json.load(response)
    return [one["pid"] for model in models for one in model["instances"] if one["pid"]]


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _machine_s() -> tuple[float, float]:
    """Return the seconds in which cores were in use, and all seconds of all cores."""
    times = psutil.cpu_times()
    whole = sum(times[:8])  # guest times are in user time already
    return whole - times.idle - times.iowait, whole
