"""How others decide, in the product's terms, to be compared with.

Each rule is what its source does, cut down to one queue; ``docs/benchmarks.md`` tells what was left out. They
know the deadlines of requests from ``Request.due_ns``: the scheduler is told of none, so that it does not
expire anything for them, unless they are said to expire.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from statistics import median
from typing import Final

import numpy as np

from benchmarks.batching.models import Model
from benchmarks.batching.setup import Request
from runtime.batching.policy import NOTHING, Decision, Seat
from runtime.batching.queue import TaskQueue
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Task
from runtime.clock import MILLISECOND, SECOND
from runtime.errors import RuntimeServingError

_oldest = attrgetter("head.order_ns")


class Reference:
    """Looks for an idle instance, and asks its subclass about the lane whose head is the oldest.

    Args:
        model: the true costs.
        slo_ms: that callers have; 0 for none.
    """

    def __init__(self, model: Model, slo_ms: float = 0) -> None:
        self.model = model
        self.limit = model.limit
        self.slo_ns = slo_ms * MILLISECOND

    def refusal(
        self, task: Task, queue: TaskQueue, seats: Sequence[Seat], now_ns: int
    ) -> RuntimeServingError | None:
        """Never."""
        return None

    def arrived(self, task: Task, now_ns: int) -> None:
        """Learn nothing."""

    def finished(self, batch: Batch, stages: Stages) -> None:
        """Learn nothing."""

    def insight(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def decide(self, queue: TaskQueue, seats: Sequence[Seat], now_ns: int) -> Decision:
        """Leave it to the subclass, if an instance is idle."""
        for at, seat in enumerate(seats):
            if not seat.sent and queue.lanes:
                lane = min(queue.lanes.values(), key=_oldest)
                line = next(iter(lane.levels.values()))
                return self.choose(line, at, now_ns)
        return NOTHING

    def choose(self, line: Sequence[Task], at: int, now_ns: int) -> Decision:
        """Decide about one lane, oldest first, and the idle instance ``at``."""
        raise NotImplementedError


class Nothing(Reference):
    """No batching at all."""

    def choose(self, line: Sequence[Task], at: int, now_ns: int) -> Decision:
        """One."""
        return Decision(line[:1], at)


class Fixed(Reference):
    """A full batch, or the oldest has waited for a fixed time (Triton, TensorFlow Serving).

    Args:
        model: as above.
        delay_ms: counted from the admission of the oldest.
    """

    def __init__(self, model: Model, delay_ms: float) -> None:
        super().__init__(model)
        self._delay_ns = int(delay_ms * MILLISECOND)

    def choose(self, line: Sequence[Task], at: int, now_ns: int) -> Decision:
        """Wait, or go."""
        until = line[0].enqueued_ns + self._delay_ns
        if len(line) < self.limit and now_ns < until:
            return Decision(until_ns=until)
        return Decision(line[: self.limit], at)


class BentoML(Reference):
    """The dispatcher of BentoML 1.x, oldest first as in its main branch: polled, and fitted every 5 s.

    Source: bentoml/BentoML, marshal/dispatcher.py, at 32230a52.
    """

    TICK_NS: Final = MILLISECOND
    REFRESH_NS: Final = 5 * SECOND
    TRAINING: Final = 15
    KEPT: Final = 50

    def __init__(self, model: Model, slo_ms: float = 0) -> None:
        super().__init__(model, slo_ms)
        self._latest = self.slo_ns or 60 * SECOND
        self._durations: deque[tuple[int, float]] = deque(maxlen=self.KEPT)
        self._waits: deque[float] = deque(maxlen=self.KEPT)
        self._slope, self._base, self._wait = 0.0, 0.0, 0.0
        self._fitted_ns, self._batches, self._next_ns = 0, 0, 0

    def decide(self, queue: TaskQueue, seats: Sequence[Seat], now_ns: int) -> Decision:
        """Look at the queue once in a tick, whether an instance is idle or not."""
        if now_ns < self._next_ns:
            return Decision(until_ns=self._next_ns)
        line = next(iter(next(iter(queue.lanes.values())).levels.values()))
        count = len(line)
        predicted = self._slope * count + self._base
        if count > 1 and now_ns - line[0].enqueued_ns + predicted >= self._latest:
            return Decision(drop=line[:1])
        idle = [at for at, seat in enumerate(seats) if not seat.sent]
        youngest = now_ns - line[-1].enqueued_ns
        company = count * (youngest + self.TICK_NS + self._slope)
        if not idle or (count < self.limit and company <= 0.95 * self._wait):
            self._next_ns = now_ns + self.TICK_NS
            return Decision(until_ns=self._next_ns)
        self._waits.append(now_ns - line[0].enqueued_ns)
        return Decision(line[: self.limit], idle[0])

    def finished(self, batch: Batch, stages: Stages) -> None:
        """Fit a line through the last durations, now and then."""
        self._durations.append((batch.rows, stages.finished_ns - stages.begun_ns))
        self._batches += 1
        if self._batches == self.TRAINING or stages.answered_ns - self._fitted_ns >= self.REFRESH_NS:
            self._fitted_ns = stages.answered_ns
            rows = np.array([[rows, 1.0] for rows, _ in self._durations])
            durations = np.array([duration for _, duration in self._durations])
            slope, base = np.linalg.lstsq(rows, durations, rcond=None)[0]
            self._slope, self._base = max(float(slope), 1.0), float(base)
            self._wait = sum(self._waits) / len(self._waits)


class Nexus(Reference):
    """Early drop: who would be late in a whole batch is dropped, so that batches stay large.

    Source: uwsampl/nexus, model_exec.cpp, at b436191c; batches are planned so that two fit into the SLO.
    """

    def __init__(self, model: Model, slo_ms: float) -> None:
        super().__init__(model, slo_ms)
        planned = int((slo_ms / 2 - model.alpha_ms) / model.beta_ms)
        self._planned = max(1, min(model.limit, planned))

    def choose(self, line: Sequence[Task], at: int, now_ns: int) -> Decision:
        """Drop who cannot survive the window, take the rest of it."""
        end = now_ns + self.model.ns(min(self._planned, len(line)))
        late = _count_due_before(line, end)
        if late:
            return Decision(drop=line[:late])
        return Decision(line[: self._planned], at)


class Clockwork(Reference):
    """The largest of a few sizes with which the head is in time, predicted by the median of the last ten."""

    KEPT: Final = 10

    def __init__(self, model: Model, slo_ms: float) -> None:
        super().__init__(model, slo_ms)
        sizes = [1 << bits for bits in range(model.limit.bit_length())]
        self._seen = {size: deque([model.ns(size)], maxlen=self.KEPT) for size in sizes}

    def choose(self, line: Sequence[Task], at: int, now_ns: int) -> Decision:
        """Let the head's deadline choose the size."""
        late = _count_due_before(line, now_ns + median(self._seen[1]))
        if late:
            return Decision(drop=line[:late])
        left = due(line[0]) - now_ns
        fitting = [size for size, seen in self._seen.items() if size <= len(line) and median(seen) <= left]
        return Decision(line[: max(fitting, default=1)], at)

    def finished(self, batch: Batch, stages: Stages) -> None:
        """Remember how long it took."""
        self._seen[batch.rows].append(stages.finished_ns - stages.begun_ns)


class Deferred(Reference):
    """As late and as large as the head's deadline permits (Symphony), with the true costs."""

    def choose(self, line: Sequence[Task], at: int, now_ns: int) -> Decision:
        """Wait until one more request would make the head late."""
        late = _count_due_before(line, now_ns + self.model.ns(1))
        if late:
            return Decision(drop=line[:late])
        left = due(line[0]) - now_ns
        rows = min(len(line), self.limit)
        latest = left - self.model.ns(rows + 1)
        if rows < self.limit and latest > 0:
            return Decision(until_ns=now_ns + math.ceil(latest))
        fitting = int((left / MILLISECOND - self.model.alpha_ms) / self.model.beta_ms + 1e-6)
        return Decision(line[: max(1, min(rows, fitting))], at)


class Aimd(Reference):
    """A limit that grows by one with each batch in time and shrinks by a tenth with one that is late.

    Source: Clipper (Crankshaw et al., NSDI 2017), section 4.3: executions are compared with the SLO, not the
    requests' time in the queue. Expires what is too late.
    """

    def __init__(self, model: Model, slo_ms: float) -> None:
        super().__init__(model, slo_ms)
        self._size = 1.0

    def choose(self, line: Sequence[Task], at: int, now_ns: int) -> Decision:
        """As many as the limit of the moment allows."""
        return Decision(line[: int(self._size)], at)

    def finished(self, batch: Batch, stages: Stages) -> None:
        """Move the limit."""
        if stages.finished_ns - stages.begun_ns > self.slo_ns:
            self._size = max(1.0, 0.9 * self._size)
        else:
            self._size = min(float(self.limit), self._size + 1)


def due(task: Task) -> float:
    """When a request's caller gives up."""
    return task.due_ns if isinstance(task, Request) and task.due_ns else math.inf


def _count_due_before(line: Sequence[Task], end_ns: float) -> int:
    """How many at the head of a line give up before an instant."""
    count = 0
    for task in islice(line, len(line)):
        if due(task) >= end_ns:
            break
        count += 1
    return count
