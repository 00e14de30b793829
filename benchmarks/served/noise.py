"""How much of the machine others used during a measurement."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import psutil

from benchmarks import processes


def watch(server: int) -> Callable[[], float]:
    """Begin to watch; the answer tells how many cores were used by others than us and the server since.

    Args:
        server: process id of the server, whose children count as its own.
    """
    start, busy, known = time.monotonic(), _busy_s(), _known_s(server)

    def strangers() -> float:
        return (_busy_s() - busy - (_known_s(server) - known)) / (time.monotonic() - start)

    return strangers


def _busy_s() -> float:
    """Seconds of CPU that the whole machine has used; interrupts, which nobody is charged for, left out."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.steal)


def _known_s(server: int) -> float:
    """Seconds of CPU of the server, of this process and of its ended children, so also of generators."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + children.ru_utime + children.ru_stime
    return own + sum([processes.cpu_seconds(pid) for pid in processes.family(server)])
