"""Closed loops of identical calls by h2load, with the CPU time that the server spent on them.

h2load knows no gRPC status: a run counts only if the answers have as many bytes as right ones.
"""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.overhead import SHAPES, pin
from benchmarks.peers import wire
from benchmarks.peers.server import Served, row, verify

LONGEST_S: Final = 60.0
MOST: Final = 30_000
"""Requests of one measurement, at most."""

TURNS: Final = 8
"""Requests of one measurement for each one in flight, at least: its ends must not weigh much."""

FEWEST: Final = 50

STRANGERS: Final = 0.25
"""Cores that other processes may use during a measurement; with more it is repeated."""

REPEATS: Final = 4
"""Of these the least disturbed measurement counts."""

SETTLE_S: Final = 12.0
"""The longest warm-up."""


class LoadFailed(Exception):
    """Calls were lost or refused; the message says what h2load saw."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement, or theirs divided by ours.

    Attributes:
        rate: answers/s.
        p50: latency in ms.
        p99: latency in ms.
        cpu: us of all the server's processes for each request.
    """

    rate: float
    p50: float
    p99: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Said:
    """What h2load printed.

    Attributes:
        rate: requests/s.
        succeeded: requests answered with HTTP status 200.
        data_bytes: of all answers' bodies.
    """

    rate: float
    succeeded: int
    data_bytes: int


def parse(text: str) -> Said:
    """Read h2load's summary.

    Raises:
        LoadFailed: there is none.
    """
    rate = re.search(r"finished in .*?([\d.]+) req/s", text)
    succeeded = re.search(r"(\d+) succeeded", text)
    data = re.search(r"\((\d+)\) data", text)
    if rate is None or succeeded is None or data is None:
        raise LoadFailed(f"h2load said: {text[-200:]}")
    return Said(float(rate[1]), int(succeeded[1]), int(data[1]))


def check(said: Said, count: int, answer_bytes: int) -> None:
    """See whether all calls were answered by a message of the right size.

    Raises:
        LoadFailed: some were not.
    """
    if said.succeeded != count:
        raise LoadFailed(f"{count - said.succeeded} of {count} calls had no answer")
    if said.data_bytes < 0.99 * count * answer_bytes:
        missing = 1 - said.data_bytes / (count * answer_bytes)
        raise LoadFailed(f"about {missing:.1%} of {count} calls failed: their answers are empty")


def percentile(ordered: list[int], percent: int) -> int:
    """Return the smallest value that ``percent`` of all do not exceed."""
    return ordered[max(-(-len(ordered) * percent // 100) - 1, 0)]


def median(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(*map(statistics.median, zip(*map(astuple, runs), strict=True)))


def ratio(theirs: Figures, ours: Figures) -> Figures:
    """Divide each figure."""
    return Figures(*(a / b for a, b in zip(astuple(theirs), astuple(ours), strict=True)))


class Loader:
    """Calls one model of one server with so many requests in flight.

    Attributes:
        disturbed: measurements that count although other processes used more than ``STRANGERS`` cores.

    Short runs precede the first measurement: they warm the server up and tell how many requests it takes.
    """

    def __init__(self, served: Served, model: str, in_flight: int, folder: Path) -> None:
        self.disturbed = 0
        self._served = served
        self._model = model
        self._shape = SHAPES[in_flight]
        self._in_flight = in_flight
        self._body = folder / f"{served.peer.name}-{model}.body"
        self._body.write_bytes(wire.framed(served.peer.encode(model, row(model))))
        self._log = self._body.with_suffix(".log")
        self._rate = 0.0
        self._answer_bytes = 0

    def measure(self, seconds: float) -> Figures:
        """Measure for about so long.

        Raises:
            LoadFailed: calls failed.
        """
        if not self._rate:
            self._answer_bytes = 5 + verify(self._served.peer, self._served.port, self._model)
            self._settle(seconds / 4)
        count = max(self._count(seconds), TURNS * self._in_flight)
        tries: list[tuple[float, Figures]] = []
        while len(tries) < REPEATS and min((strangers for strangers, _ in tries), default=1) > STRANGERS:
            tries.append(self._once(count))
        strangers, figures = min(tries, key=lambda one: one[0])
        self.disturbed += strangers > STRANGERS
        return figures

    def _once(self, count: int) -> tuple[float, Figures]:
        """Measure, and return also how many cores others used meanwhile."""
        before, start, busy, known = self._served.cpu_seconds(), time.monotonic(), _busy_s(), _known_s()
        rate = self._send(count)
        spent = sum(cpu - before.get(pid, 0.0) for pid, cpu in self._served.cpu_seconds().items())
        strangers = (_busy_s() - busy - (_known_s() - known) - spent) / (time.monotonic() - start)
        latencies = sorted(int(line.split("\t")[2]) for line in self._log.read_text().splitlines())
        p50, p99 = percentile(latencies, 50) / 1000, percentile(latencies, 99) / 1000
        return strangers, Figures(rate, p50, p99, spent / count * 1e6)

    def _settle(self, seconds: float) -> None:
        """Warm up until the rate grows no more: compilers and allocators need their time."""
        start = time.monotonic()
        patience = 2
        while (patience or time.monotonic() < start + self._served.peer.warm_up_s) and (
            time.monotonic() < start + SETTLE_S
        ):
            rate = self._send(self._count(seconds))
            patience = max(patience - 1, 0) if rate < 1.05 * self._rate else 2
            self._rate = max(rate, self._rate)

    def _count(self, seconds: float) -> int:
        return min(max(round(self._rate * seconds), FEWEST, 2 * self._in_flight), MOST)

    def _send(self, count: int) -> float:
        connections, streams = self._shape
        self._log.unlink(missing_ok=True)
        peer = self._served.peer
        command = ["h2load", "-n", str(count), "-c", str(connections), "-m", str(streams)]
        command += ["-w", "24", "-W", "28", "-d", str(self._body), f"--log-file={self._log}"]
        headers = {"content-type": "application/grpc", "te": "trailers", **peer.metadata()}
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        command.append(f"http://127.0.0.1:{self._served.port}{peer.method(self._model)}")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        pin(process.pid, first=False)
        try:
            text, _ = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"{count} calls were not answered within {LONGEST_S:.0f} s") from None
        finally:
            process.kill()
        said = parse(text)
        check(said, count, self._answer_bytes)
        return said.rate


def _busy_s() -> float:
    """Seconds of CPU that the whole machine has used; interrupts, which nobody is charged for, left out."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.steal)


def _known_s() -> float:
    """Seconds of CPU of this process and its ended children, so also of h2load."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
