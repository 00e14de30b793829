"""Calls the demo's server from many callers at once and counts what comes back.

Each caller waits for its answer before it asks again (closed loop), so that these figures show what batching
gains, not what latency an open stream of requests would see.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from runtime.clock import MILLISECOND, SECOND, now_ns
from runtime.errors import LoadFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.client import AsyncClient

MAX_ROWS: Final = 4
PERCENTILES: Final = (50, 90, 95, 99)
METRIC: Final = "runtime_batch_rows"

_HTTP_S: Final = 10.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the callers have seen; ``failures`` are the messages of calls that were not answered."""

    rows: int = 0
    correct: int = 0
    latencies_ns: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def requests(self) -> int:
        """Calls that were answered."""
        return len(self.latencies_ns)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def accuracy(self) -> float:
        """Share of the rows that were answered correctly."""
        return self.correct / self.rows if self.rows else 0.0

    def percentiles_ms(self) -> dict[str, float]:
        """Return p50 to p99 and max of the response times, in milliseconds; empty without answers."""
        ordered = sorted(self.latencies_ns)
        if not ordered:
            return {}
        ranks = {f"p{percent}": -(-percent * len(ordered) // 100) - 1 for percent in PERCENTILES}
        found = {name: ordered[rank] / MILLISECOND for name, rank in ranks.items()}
        return {**found, "max": ordered[-1] / MILLISECOND}


@dataclass(frozen=True, slots=True)
class Batches:
    """Executed batches by size: ``counts[i]`` had at most ``bounds[i]`` rows, more than the bound before."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    rows: int

    @property
    def total(self) -> int:
        """Batches in all."""
        return sum(self.counts)

    @property
    def mean_rows(self) -> float:
        """Rows per batch."""
        return self.rows / self.total if self.total else 0.0

    def since(self, earlier: Batches) -> Batches:
        """Return what was executed after ``earlier`` was read."""
        pairs = zip(self.counts, earlier.counts, strict=True)
        return Batches(self.bounds, tuple(now - then for now, then in pairs), self.rows - earlier.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What is asked: rows in turn, 1 to ``MAX_ROWS`` at a time, and the right answers.

    Shapes: images: [rows, features], labels: [rows].
    """

    model: str
    input: str
    images: NDArray[Any]
    labels: NDArray[Any]
    seed: int


async def ask(url: str, questions: Questions, *, callers: int, seconds: float) -> Tally:
    """Let callers ask for some seconds; a caller whose call fails stops.

    Raises:
        TimeoutError: the model did not get ready.
    """
    from runtime.client import AsyncClient

    tally = Tally()
    cursor = itertools.count()
    async with AsyncClient(url) as client:
        await client.wait_ready(questions.model, timeout=_HTTP_S)
        started = now_ns()
        end = started + int(seconds * SECOND)
        sources = [random.Random(questions.seed + index) for index in range(callers)]
        await asyncio.gather(*(_caller(client, questions, tally, source, cursor, end) for source in sources))
        tally.elapsed_s = (now_ns() - started) / SECOND
    return tally


async def _caller(
    client: AsyncClient,
    questions: Questions,
    tally: Tally,
    source: random.Random,
    cursor: itertools.count[int],
    end_ns: int,
) -> None:
    from runtime.client import RpcFailed

    total = len(questions.labels)
    while (asked := now_ns()) < end_ns:
        rows = [next(cursor) % total for _ in range(source.randint(1, MAX_ROWS))]
        try:
            result = await client.infer(questions.model, {questions.input: questions.images[rows]})
        except RpcFailed as error:
            tally.failures.append(str(error))
            return
        tally.latencies_ns.append(now_ns() - asked)
        tally.rows += len(rows)
        tally.correct += int((next(iter(result.values())) == questions.labels[rows]).sum())


def read_batches(http: str) -> Batches:
    """Read the histogram of batch sizes from a server's metrics.

    Raises:
        LoadFailed: the server does not have it.
        OSError: the server does not answer.
    """
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=_HTTP_S) as response:
        return parse_batches(response.read().decode())


def parse_batches(text: str) -> Batches:
    """Find the histogram of batch sizes in Prometheus' text form; adds up over models.

    Raises:
        LoadFailed: it is not there.
    """
    from prometheus_client.parser import text_string_to_metric_families

    families = {family.name: family for family in text_string_to_metric_families(text)}
    if METRIC not in families:
        raise LoadFailed(f"the server has no metric {METRIC}")
    samples: Sequence[Any] = families[METRIC].samples
    cumulative: dict[float, int] = {}
    for sample in samples:
        if sample.name == f"{METRIC}_bucket":
            bound = float(sample.labels["le"])
            cumulative[bound] = cumulative.get(bound, 0) + int(sample.value)
    bounds = tuple(sorted(cumulative))
    steps = [cumulative[bound] for bound in bounds]
    counts = tuple(step - before for before, step in zip([0, *steps], steps, strict=False))
    return Batches(
        bounds, counts, sum(int(sample.value) for sample in samples if sample.name == f"{METRIC}_sum")
    )
