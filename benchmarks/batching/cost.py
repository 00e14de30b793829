"""What the decisions about one request cost: CPU time of ``submit``, ``pump`` and ``finished`` together.

A run is simulated once and every call that it made of the scheduler is noted. The calls are then made once
more, of a fresh scheduler, with nothing in between; and once more of one that does nothing, for the price of
the loop itself. Decisions depend on the clock alone, which is virtual, so that all are the same again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from benchmarks.batching.arrivals import Arrival
from benchmarks.batching.cases import SIZES, Case
from benchmarks.batching.models import MLP, RESNET50
from benchmarks.batching.setup import Clients, Request
from benchmarks.batching.simulator import Device, Driven, Simulation, strict
from benchmarks.batching.verdict import Verdict, at_most
from runtime.batching.instance import Instance
from runtime.batching.scheduler import Scheduler
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, BatchKey, Task
from runtime.errors import RuntimeServingError

ROUNDS: Final = 5
"""The cheapest of so many replays counts: the machine's other work only ever adds to it."""

CASES: Final[Mapping[str, Case]] = {
    "MLP, 60 %": Case(model=MLP, load=0.6),
    "ResNet50, 5 %": Case(model=RESNET50, load=0.05),
    "ResNet50, 30 %": Case(model=RESNET50, load=0.3),
    "ResNet50, 60 %": Case(model=RESNET50, load=0.6),
    "ResNet50, 90 %": Case(model=RESNET50, load=0.9),
    "ResNet50, clumps, 30 %": Case(model=RESNET50, process="clumps", load=0.3),
    "ResNet50, 1 client": Case(model=RESNET50, clients=1),
    "ResNet50, 16 clients": Case(model=RESNET50, clients=16),
    "ResNet50, 64 clients": Case(model=RESNET50, clients=64),
    "ResNet50, 4 instances, 60 %": Case(model=RESNET50, load=0.6, instances=4),
    "ResNet50, deadlines, 100 %": Case(model=RESNET50, load=1, slo_ms=12),
    "ResNet50, deadlines, 150 %": Case(model=RESNET50, load=1.5, slo_ms=30),
    "ResNet50, 3 shapes, 30 %": Case(model=RESNET50, load=0.3, shapes=(0.6, 0.3, 0.1)),
    "ResNet50, allowed sizes, 70 %": Case(model=RESNET50, load=0.7, sizes=SIZES),
    "ResNet50, 2 priorities, 110 %": Case(model=RESNET50, load=1.1, levels=(0.2, 0.8)),
}


class Call(NamedTuple):
    """Of the scheduler: ``pump`` if it is about no request and no batch."""

    at_ns: int
    request: int = -1
    batch: int = -1
    instance: int = 0
    stages: Stages | None = None


class Recorder:
    """Notes the calls that a simulation makes of its scheduler, which it stands in front of.

    Attributes:
        calls: in order; requests are numbered as they are submitted.
        requests: that were submitted.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.calls: list[Call] = []
        self.requests: list[Request] = []
        self._simulation = simulation
        self._scheduler = simulation.scheduler
        simulation.scheduler = self

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._scheduler.queued_rows

    def submit(self, task: Task) -> None:
        """Note it, and do it."""
        if isinstance(task, Request):
            self.calls.append(Call(self._simulation.now_ns, request=len(self.requests)))
            self.requests.append(task)
        self._scheduler.submit(task)

    def pump(self) -> None:
        """Note it, and do it."""
        self.calls.append(Call(self._simulation.now_ns))
        self._scheduler.pump()

    def finished(self, instance: Instance, batch: Batch, stages: Stages) -> None:
        """Note it, and do it."""
        number = instance.number if isinstance(instance, Device) else 0
        self.calls.append(Call(self._simulation.now_ns, -1, batch.number, number, stages))
        self._scheduler.finished(instance, batch, stages)


class Sink:
    """An instance that takes everything, into a list that all of them share."""

    def __init__(self, sent: list[Batch]) -> None:
        self.sent = sent

    def send(self, batch: Batch) -> None:
        """Take a batch."""
        self.sent.append(batch)

    def cancel(self, batch: Batch, task: Task) -> None:
        """Nobody cancels."""

    def abandon(self) -> list[Batch]:
        """Nothing is ever lost."""
        return []


class Idle:
    """A scheduler that does nothing."""

    queued_rows = 0

    def submit(self, task: Task) -> None:
        """Nothing."""

    def pump(self) -> None:
        """Nothing."""

    def finished(self, instance: Instance, batch: Batch, stages: Stages) -> None:
        """Nothing."""


class Replay:
    """The calls of one run, to be made again and again."""

    def __init__(self, case: Case) -> None:
        self._setup = case.setup(1, told=True)
        simulation = Simulation(self._setup)
        recorder = Recorder(simulation)
        if case.clients:
            simulation.run_clients(Clients(case.clients, case.stagger_ms, case.requests))
        else:
            simulation.run(case.arrivals(1))
        self.calls = recorder.calls
        self.requests = recorder.requests
        self._now_ns = 0

    def microseconds(self) -> float:
        """CPU time for each request, of the cheapest of several replays."""
        nobody = [Sink([])] * self._setup.instances
        idle = min([self._play(Idle(), nobody, [_NO_BATCH] * len(self.calls)) for _ in range(ROUNDS)])
        busy = min([self._play_scheduler([]) for _ in range(ROUNDS)])
        return (busy - idle) / len(self.requests) / 1000

    def play_again(self) -> list[Batch]:
        """The batches that a fresh scheduler sends."""
        sent: list[Batch] = []
        self._play_scheduler(sent)
        return sent

    def _play_scheduler(self, sent: list[Batch]) -> int:
        setup = self._setup
        sinks = [Sink(sent) for _ in range(setup.instances)]
        scheduler = Scheduler(setup.limits(), clock=lambda: self._now_ns, profile=setup.profile)
        for sink in sinks:
            scheduler.attach(sink)
        return self._play(scheduler, sinks, sent)

    def _play(self, scheduler: Driven, sinks: Sequence[Sink], sent: Sequence[Batch]) -> int:
        """Nanoseconds of CPU time that all calls take."""
        requests = self._fresh()
        with strict():
            begin = time.thread_time_ns()
            for at_ns, request, batch, instance, stages in self.calls:
                self._now_ns = at_ns
                if request >= 0:
                    with contextlib.suppress(RuntimeServingError):
                        scheduler.submit(requests[request])
                elif stages is not None:
                    scheduler.finished(sinks[instance], sent[batch], stages)
                else:
                    scheduler.pump()
            return time.thread_time_ns() - begin

    def _fresh(self) -> list[Request]:
        keys: dict[int, BatchKey] = {}
        requests = []
        for old in self.requests:
            key = keys.setdefault(old.shape, BatchKey(old.key.head, batchable=True, variable=(False,)))
            arrival = Arrival(old.born_ns, old.shape, old.priority)
            requests.append(Request(key, arrival, old.due_ns, told=True))
        return requests


_NO_BATCH: Final = Batch(BatchKey(b"", batchable=True, variable=()), [], 0)


def measure(*, short: bool) -> Iterator[tuple[str, float]]:
    """Microseconds of CPU time for each request, of each case."""
    for name, case in CASES.items():
        yield name, Replay(replace(case, requests=1000) if short else case).microseconds()


def verdicts(costs: Sequence[tuple[str, float]]) -> Iterator[Verdict]:
    """8, its first half: what a decision costs."""
    mean = sum([cost for _, cost in costs]) / len(costs)
    yield at_most(8, f"CPU time of the decisions about a request, mean of {len(costs)} cases", mean, 20, "µs")
