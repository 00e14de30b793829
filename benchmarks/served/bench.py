"""A server with models that sleep on the first core, and loads for it from the others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.overhead import started
from benchmarks.served import noise, sleeper
from benchmarks.served.sleeper import Execution
from frameworks import python
from runtime.profiling.engine import run
from runtime.profiling.inputs import ModelRequests, RequestSource
from runtime.profiling.recording import Deck
from runtime.profiling.records import Load, Run, Window
from runtime.profiling.target import Target
from store import ModelStore
from store.profiles import ProfileStore

SERVE: Final = ("runtime.cli.main", "serve", "--port", "0", "--http-port", "0", "--drain-delay-ms", "0")
GREEDY: Final[dict[str, Any]] = {"max_queue_delay_ms": 0.0}
"""Options of the reference: an idle instance takes at once what is queued."""
COLUMNS: Final = 8
LEAD_S: Final = 0.05
"""Between the order for a load and its beginning there is about so much time."""
WARM_UP_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a model takes: ``alpha_ms + beta_ms * rows``, of at most ``limit`` rows."""

    alpha_ms: float
    beta_ms: float
    limit: int

    def ms(self, rows: int) -> float:
        """Of one execution."""
        return self.alpha_ms + self.beta_ms * rows

    @property
    def capacity(self) -> float:
        """Rows per second, all batches full."""
        return self.limit / self.ms(self.limit) * 1000

    def __str__(self) -> str:
        return f"{self.alpha_ms:g}+{self.beta_ms:g}b"


RESNET: Final = Timing(6, 0.3, 32)
BERT: Final = Timing(6, 0.4, 32)
CPU: Final = Timing(2, 8, 8)


class Measured(NamedTuple):
    """One load and what became of it.

    Attributes:
        run: as the load generator saw it.
        executions: what the model executed during the measured time.
        seconds: of the measured time.
        strangers: cores that others used.
    """

    run: Run
    executions: list[Execution]
    seconds: float
    strangers: float

    @property
    def total(self) -> Window:
        """Of the whole measured time."""
        return self.run.total

    @property
    def mean_ms(self) -> float:
        """Of the response times of right answers."""
        return self.total.response.mean_ns / 1e6

    def percentile_ms(self, percent: float) -> float:
        """Of the response times of right answers."""
        return self.total.response.percentile(percent) / 1e6

    @property
    def in_time(self) -> float:
        """Share of the offered requests that were answered within their deadlines."""
        return self.total.ok / max(1, self.total.requests)

    @property
    def rows_per_s(self) -> float:
        """Executed."""
        return sum([execution.rows for execution in self.executions]) / self.seconds

    @property
    def mean_batch(self) -> float:
        """Rows of an execution."""
        return sum([execution.rows for execution in self.executions]) / max(1, len(self.executions))


class Bench:
    """Saves models below a folder and serves them.

    Args:
        folder: an empty one.

    Attributes:
        port: of the server that runs.
        pid: of its supervisor.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = ModelStore(folder / "models")
        self._cores = sorted(os.sched_getaffinity(0))
        self._decks: dict[tuple[object, ...], Deck] = {}
        self.port = self.pid = 0

    def add(self, name: str, timing: Timing, *, tags: bool = False, **options: Any) -> None:
        """Save a model; ``options`` as in the section of a model in the configuration."""
        folder = self.folder(name)
        folder.mkdir(parents=True)
        sleeper.set_speed(folder, 1.0)
        spec = [{"name": "x", "datatype": "INT64", "shape": [-1, -1]}]
        python.save_model(
            name, sleeper.Sleeper(timing.alpha_ms, timing.beta_ms, folder, tags=tags),
            signatures={"__call__": {"batchable": True, "inputs": spec}}, store=self._store,
            options={"max_batch_size": timing.limit, **options}, external_modules=[sleeper],
        )  # fmt: skip

    def add_profile(self, name: str, timing: Timing, factor: float) -> None:
        """Keep a profile of a model that says so many times its true execution times."""
        sizes = [1 << power for power in range(timing.limit.bit_length())]
        curve = {str(rows): timing.ms(rows) * factor for rows in sizes if rows <= timing.limit}
        tag = self._store.get(name).tag
        ProfileStore.beside(self._folder / "models").save(tag, {"curve": curve})

    def folder(self, name: str) -> Path:
        """Where a model keeps its speed and its log."""
        return self._folder / "sleepers" / name

    @contextlib.contextmanager
    def serving(self, *names: str) -> Iterator[None]:
        """Serve some models until the end of the block."""
        os.sched_setaffinity(0, self._cores)  # servers keep to the first of the cores they are given
        environment = {"RUNTIME_HOME": str(self._folder), "RUNTIME_LOG_LEVEL": "WARNING"}
        with started([*SERVE, *names], r"grpc=127\.0\.0\.1:(\d+)", environment) as server:
            os.sched_setaffinity(0, self._cores[1:] or self._cores)
            self.port, self.pid = server.port, server.pid
            yield

    @property
    def target(self) -> Target:
        """The server that runs."""
        return Target(url=f"127.0.0.1:{self.port}")

    def deck(self, name: str, columns: int = COLUMNS, **parameters: int) -> Deck:
        """Encoded requests of one row for a model."""
        key = (name, columns, *parameters.items())
        if key not in self._decks:
            requests = ModelRequests(model=name, shapes={"x": (columns,)}, parameters=parameters)
            self._decks[key] = RequestSource(models=(requests,), distinct=16).prepare(self.target)
        return self._decks[key]

    def load(self, name: str, load: Load) -> Measured:
        """Put a model under a load."""
        return self.loads(name, [(load, self.deck(name))])[0]

    def loads(self, name: str, parts: Sequence[tuple[Load, Deck]]) -> list[Measured]:
        """Put a model under several loads of the same duration at once; all tell of all executions."""
        strangers = noise.watch(self.pid)
        with ThreadPoolExecutor(len(parts)) as threads:
            runs = list(threads.map(lambda part: run(self.target, *part), parts))
        disturbed = strangers()
        windows = runs[0].windows
        begun, ended = windows[0].start_ns, windows[-1].end_ns
        executions = [one for one in self.executions(name) if begun <= one.begun_ns < ended]
        return [Measured(one, executions, (ended - begun) / 1e9, disturbed) for one in runs]

    def executions(self, name: str) -> list[Execution]:
        """All that a model has executed."""
        return list(sleeper.read_log(self.folder(name)))


def poisson(rate: float, seconds: float, seed: int, timeout_ms: float = 0) -> Load:
    """Independent arrivals."""
    return Load(
        mode="open", rate=rate, seed=seed, timeout_ms=timeout_ms, warm_up_s=WARM_UP_S, duration_s=seconds
    )


def trace(instants: tuple[int, ...], seconds: float, timeout_ms: float = 0) -> Load:
    """Arrivals at set instants; the first ``WARM_UP_S`` do not count."""
    return Load(
        mode="open", arrivals="trace", trace=instants, timeout_ms=timeout_ms, warm_up_s=WARM_UP_S,
        duration_s=seconds,
    )  # fmt: skip


def closed(clients: int, seconds: float) -> Load:
    """Clients that each send the next request when they have the answer to the last."""
    return Load(mode="closed", concurrency=clients, warm_up_s=WARM_UP_S, duration_s=seconds)
