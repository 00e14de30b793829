"""Virtual time, virtual instances and virtual clients round the product's own scheduler.

Nothing here decides: requests go into ``Scheduler.submit``, batches come out of ``Instance.send``, and the
alarm is one more event. Single-threaded and deterministic for a seed.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import random
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, Protocol

from benchmarks.batching.arrivals import Arrival
from benchmarks.batching.models import noise
from benchmarks.batching.setup import Clients, Request, Setup, Trace
from runtime.batching.instance import Instance
from runtime.batching.policy import Policy
from runtime.batching.scheduler import Scheduler
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, BatchKey, Task
from runtime.clock import MILLISECOND
from runtime.errors import RuntimeServingError
from runtime.tensors.frame import Timing

THINK_MS: Final = 0.2
THINK_MORE_MS: Final = 0.1
"""A client of a closed loop thinks for the first, and for an exponential time of the mean of the second."""
TOGETHER_NS: Final = 10_000
"""Within which all clients begin."""


class Device:
    """An instance: executes one batch after the other, and answers in order."""

    def __init__(self, simulation: Simulation, setup: Setup, number: int) -> None:
        self.number = number
        self._simulation = simulation
        self._setup = setup
        self._chance = random.Random(f"{setup.seed} {number}")
        self._free_ns = 0

    def send(self, batch: Batch) -> None:
        """Take a batch: it ends when those before it and its own execution are over."""
        now = self._simulation.now_ns
        batch.number = self._simulation.count_batch()
        received = now + int(self._setup.hand_off_ms * MILLISECOND)
        before = self._free_ns
        start = max(before, received)
        padded = self._padded(batch.rows)
        self._free_ns = end = start + self._duration(padded, start)
        timing = Timing(received=received, begun=start, started=start, executed=end, finished=end)
        stages = Stages.observe(
            batch.closed_ns, before, timing, end, rows=batch.rows, padded=padded, joined=False
        )
        self._simulation.at(end, Answer(self, batch, stages))

    def cancel(self, batch: Batch, task: Task) -> None:
        """Nobody cancels here."""

    def abandon(self) -> list[Batch]:
        """Nothing is ever lost here."""
        return []

    def _padded(self, rows: int) -> int:
        return next((size for size in self._setup.sizes if size >= rows), rows)

    def _duration(self, rows: int, start: int) -> int:
        duration = self._setup.model.ns(rows)
        since, factor, until = self._setup.slower
        if 0 < since <= start and not 0 < until <= start:
            duration *= factor
        if self._setup.noisy:
            duration *= noise(self._chance.gauss(0, 1), self._chance.random())
        return math.ceil(duration)


class Driven(Protocol):
    """What a simulation calls of a scheduler."""

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        ...

    def submit(self, task: Task) -> None:
        """Admit a task, or raise why not."""
        ...

    def pump(self) -> None:
        """Send what can leave."""
        ...

    def finished(self, instance: Instance, batch: Batch, stages: Stages) -> None:
        """A batch was answered."""
        ...


class Answer(NamedTuple):
    """An instance has executed a batch."""

    device: Device
    batch: Batch
    stages: Stages


class Simulation:
    """One run.

    Args:
        setup: what is simulated.
        policy: that decides; the product's own if there is none.

    Attributes:
        now_ns: the virtual instant.
        scheduler: that is called.
    """

    def __init__(self, setup: Setup, policy: Policy | None = None) -> None:
        self.now_ns = 0
        self._setup = setup
        self._events: list[tuple[int, int, Arrival | Answer]] = []
        self._count = 0
        self._batches = 0
        self._alarm_ns = 0
        self._trace = Trace()
        self._keys: dict[int, BatchKey] = {}
        self._clients: Clients | None = None
        self._chance = random.Random(f"{setup.seed} clients")
        scheduler = Scheduler(
            setup.limits(), policy=policy, clock=lambda: self.now_ns, alarm=self._set_alarm,
            profile=setup.profile,
        )  # fmt: skip
        for number in range(setup.instances):
            scheduler.attach(Device(self, setup, number))
        self.scheduler: Driven = scheduler

    def at(self, at_ns: int, event: Arrival | Answer) -> None:
        """Have something happen at an instant; of one instant, in the order in which it was said."""
        self._count += 1
        heappush(self._events, (at_ns, self._count, event))

    def count_batch(self) -> int:
        """The number of one more batch, from 0 on."""
        self._batches += 1
        return self._batches - 1

    def run(self, arrivals: Sequence[Arrival]) -> Trace:
        """Simulate until everything is answered."""
        self._events += [(arrival.at_ns, number, arrival) for number, arrival in enumerate(arrivals)]
        self._count = len(arrivals)
        heapify(self._events)
        return self._run()

    def run_clients(self, clients: Clients) -> Trace:
        """Simulate a closed loop.

        The clients begin together. Nothing but a fixed delay keeps them together that early, so that the best
        delay is compared with at its best: clients that begin apart never meet under it.
        """
        self._clients = clients
        for _ in range(clients.count):
            at = int(self._chance.uniform(0, TOGETHER_NS))
            self.at(at, Arrival(at))
        return self._run()

    def _run(self) -> Trace:
        with strict():
            while self._step():
                pass
        return self._trace

    def _step(self) -> bool:
        """Let the next thing happen; False if nothing will."""
        events = self._events
        alarm = self._alarm_ns
        if alarm and (not events or alarm < events[0][0]):
            self._ring(alarm)
            return True
        if not events:
            return False
        self.now_ns, _, event = heappop(events)
        if isinstance(event, Arrival):
            self._arrive(event)
        else:
            self._answer(event)
        if self._alarm_ns and not self.scheduler.queued_rows:
            self._trace.idle_alarms += 1
        return True

    def _ring(self, alarm_ns: int) -> None:
        self._alarm_ns = 0
        if alarm_ns < self.now_ns:
            self._trace.overdue_alarms += 1
        self.now_ns = max(self.now_ns, alarm_ns)
        self.scheduler.pump()

    def _arrive(self, arrival: Arrival) -> None:
        setup = self._setup
        due = arrival.at_ns + int(setup.slo_ms * MILLISECOND) if setup.slo_ms else 0
        key = self._keys.get(arrival.shape)
        if key is None:
            key = BatchKey(b"shape %d" % arrival.shape, batchable=True, variable=(False,))
            self._keys[arrival.shape] = key
        request = Request(key, arrival, due, told=setup.told)
        self._trace.requests.append(request)
        try:
            self.scheduler.submit(request)
        except RuntimeServingError:
            return
        self.scheduler.pump()

    def _answer(self, answer: Answer) -> None:
        device, batch, stages = answer
        self._trace.batches.append(batch.rows)
        self.scheduler.finished(device, batch, stages)
        for position, task in enumerate(batch.tasks):
            if isinstance(task, Request):
                task.answered_ns = self.now_ns
            if self._clients is not None:
                self._send_again(position, self._clients)

    def _send_again(self, position: int, clients: Clients) -> None:
        """A client of the closed loop thinks, and sends its next request."""
        if len(self._trace.requests) + len(self._events) >= clients.requests:
            return
        think = THINK_MS + THINK_MORE_MS * self._chance.expovariate(1) + clients.stagger_ms * position
        at = self.now_ns + int(think * MILLISECOND)
        self.at(at, Arrival(at))

    def _set_alarm(self, at_ns: int) -> None:
        self._alarm_ns = at_ns


class Broken(Exception):
    """The scheduler has logged that something failed which it could live with; a measurement cannot."""


class _Strict(logging.Handler):
    """Raises whatever is worth a log line."""

    def emit(self, record: logging.LogRecord) -> None:
        raise Broken(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """Let nothing fail silently: a policy that raises is replaced by greedy, and would be measured as it."""
    log = logging.getLogger("runtime.batching")
    handler = _Strict(logging.WARNING)
    log.addHandler(handler)
    gc.collect()
    gc.disable()  # nothing here refers to itself, and searching for that takes a third of the time
    try:
        yield
    finally:
        gc.enable()
        log.removeHandler(handler)
