"""What a scheduler counts, and where the time of its requests went. Pure.

A request goes through these stages, which follow one another without a gap::

    admitted ─queue─► closed ─wait─► free ─hop─► begun ─merge─► started ─compute─► executed
                                                        ─split─► finished ─hop─► answered

``wait`` is a closed batch's time behind the one before it on the same instance; ``hop`` is the way to the
worker and back. All instants are nanoseconds of the machine's monotonic clock, which the processes share.

The scheduler books under its lock, and whoever reports takes a copy there. What several service processes
have counted is added up by :func:`add_up`: sums and histograms only, never a mean or a percentile.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple, TypedDict

from runtime.tensors.frame import Timing

BUCKETS: Final = 64
"""Bucket ``b`` of a histogram counts the times of less than 2**b nanoseconds that no smaller one counts."""


class Stages(NamedTuple):
    """The instants of one answered batch.

    ``rows`` were executed together, those of other batches that the worker merged with it included;
    ``joined`` means that the execution is counted with another answer.
    """

    closed_ns: int
    free_ns: int
    begun_ns: int
    started_ns: int
    executed_ns: int
    finished_ns: int
    answered_ns: int
    rows: int
    joined: bool = False

    @classmethod
    def observe(
        cls, closed_ns: int, before_ns: int, timing: Timing, answered_ns: int, rows: int, *, joined: bool
    ) -> Stages:
        """Make them from the worker's stamps.

        Args:
            closed_ns: when the batch left the queue.
            before_ns: when the worker had finished what it executed before, 0 if that is not known.
            timing: the worker's stamps.
            answered_ns: when the answer had come back.
            rows: that were executed together.
            joined: the execution is counted already.
        """
        free = max(closed_ns, before_ns)
        begun = max(free, timing.received)
        started = max(begun, timing.started)
        executed = max(started, timing.executed)
        finished = max(executed, timing.finished)
        return cls(
            closed_ns, free, begun, started, executed, finished, max(finished, answered_ns), rows, joined
        )

    @classmethod
    def bare(cls, closed_ns: int, execution_ns: int, answered_ns: int, rows: int) -> Stages:
        """Make them where nothing but the duration of the execution is known."""
        executed = closed_ns + execution_ns
        answered = max(executed, answered_ns)
        return cls(closed_ns, closed_ns, closed_ns, closed_ns, executed, executed, answered, rows)


@dataclass(slots=True)
class Executions:
    """Successful executions of one number of rows; times are sums, once for each execution."""

    count: int = 0
    merge_ns: int = 0
    compute_ns: int = 0
    split_ns: int = 0

    def add(self, other: Executions) -> None:
        """Count another's executions too."""
        self.count += other.count
        self.merge_ns += other.merge_ns
        self.compute_ns += other.compute_ns
        self.split_ns += other.split_ns


class Record(TypedDict):
    """Statistics in a form that JSON has; see :meth:`Statistics.to_record`."""

    counts: dict[str, int]
    batch_sizes: dict[str, int]
    executions: dict[str, list[int]]
    times: dict[str, list[int]]


class Counted(TypedDict):
    """What one service process has counted for one model version."""

    name: str
    version: str
    statistics: Record


def _buckets() -> list[int]:
    return [0] * BUCKETS


@dataclass(slots=True)
class Statistics:
    """Counters of one scheduler, in tasks unless the name says otherwise.

    Times are sums over the completed tasks, so that a batch's stage counts once for each of its tasks.

    Attributes:
        batches: answered by workers, with outputs or an error; ``batch_sizes`` counts them by rows.
        rows: of completed tasks.
        request_ns: from admission to answer; the stages of it are ``queue_ns``, ``wait_ns``, ``merge_ns``,
            ``compute_ns``, ``split_ns``, and the hop, which is the rest.
        fail_ns: from admission to the end of the tasks that failed, expired or were cancelled.
        last_ns: when a worker answered last, 0 for never.
        executions: successful ones by the rows that were executed together.
        queue_times, request_times: histograms over completed tasks.
        execution_times: histogram over successful executions.
    """

    admitted: int = 0
    rejected: int = 0
    completed: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    retried: int = 0
    batches: int = 0
    rows: int = 0
    request_ns: int = 0
    queue_ns: int = 0
    wait_ns: int = 0
    merge_ns: int = 0
    compute_ns: int = 0
    split_ns: int = 0
    fail_ns: int = 0
    last_ns: int = 0
    batch_sizes: dict[int, int] = field(default_factory=dict)
    executions: dict[int, Executions] = field(default_factory=dict)
    queue_times: list[int] = field(default_factory=_buckets)
    request_times: list[int] = field(default_factory=_buckets)
    execution_times: list[int] = field(default_factory=_buckets)

    @property
    def unsuccessful(self) -> int:
        """Tasks that were refused by the queue or ended without outputs."""
        return self.rejected + self.failed + self.expired + self.cancelled

    @property
    def execution_count(self) -> int:
        """Successful executions."""
        return sum([executions.count for executions in self.executions.values()])

    @property
    def execution_ns(self) -> int:
        """Time in the model's method, once for each successful execution."""
        return sum([executions.compute_ns for executions in self.executions.values()])

    def book(self, rows: int, enqueued: Sequence[int], stages: Stages, *, failed: bool) -> None:
        """Count an answered batch.

        Args:
            rows: of its tasks.
            enqueued: when they were admitted, the oldest first.
            stages: when what happened to it.
            failed: its tasks get an error.

        Complexity: a few operations for each bucket that the tasks fall into, not for each task.
        """
        count = len(enqueued)
        entered = sum(enqueued)
        spent = stages.answered_ns * count - entered
        self.batches += 1
        self.batch_sizes[rows] = self.batch_sizes.get(rows, 0) + 1
        self.last_ns = stages.answered_ns
        if failed:
            self.failed += count
            self.fail_ns += spent
            return
        self.completed += count
        self.rows += rows
        self.request_ns += spent
        self.queue_ns += stages.closed_ns * count - entered
        self._book_stages(count, stages)
        self._book_times(enqueued, stages.closed_ns, stages.answered_ns)

    def book_unanswered(self, enqueued: Sequence[int], now_ns: int) -> None:
        """Count the time of tasks that end without a worker's answer."""
        self.fail_ns += now_ns * len(enqueued) - sum(enqueued)

    def _book_stages(self, count: int, stages: Stages) -> None:
        closed, free, begun, started, executed, finished, _, together, joined = stages
        merge, compute, split = started - begun, executed - started, finished - executed
        self.wait_ns += (free - closed) * count
        self.merge_ns += merge * count
        self.compute_ns += compute * count
        self.split_ns += split * count
        if not joined:
            executions = self.executions.get(together)
            if executions is None:
                executions = self.executions[together] = Executions()
            executions.count += 1
            executions.merge_ns += merge
            executions.compute_ns += compute
            executions.split_ns += split
            self.execution_times[compute.bit_length()] += 1

    def _book_times(self, enqueued: Sequence[int], closed: int, answered: int) -> None:
        _count(self.queue_times, enqueued, closed)
        _count(self.request_times, enqueued, answered)

    # -- copies and sums ------------------------------------------------------------------------

    def copy(self) -> Statistics:
        """Return a copy that nobody changes."""
        copy = Statistics()
        copy.add(self)
        return copy

    def add(self, other: Statistics) -> None:
        """Count what another has counted too."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_ns = max(self.last_ns, other.last_ns)
        for size, count in other.batch_sizes.items():
            self.batch_sizes[size] = self.batch_sizes.get(size, 0) + count
        for size, executions in other.executions.items():
            self.executions.setdefault(size, Executions()).add(executions)
        for name in _TIMES:
            mine, theirs = getattr(self, name), getattr(other, name)
            mine[:] = [a + b for a, b in zip(mine, theirs, strict=True)]

    def to_record(self) -> Record:
        """Return plain values."""
        return {
            "counts": {name: getattr(self, name) for name in (*_COUNTS, "last_ns")},
            "batch_sizes": {str(size): count for size, count in self.batch_sizes.items()},
            "executions": {
                str(size): [e.count, e.merge_ns, e.compute_ns, e.split_ns]
                for size, e in self.executions.items()
            },
            "times": {name: list(getattr(self, name)) for name in _TIMES},
        }

    @classmethod
    def from_record(cls, record: Record) -> Statistics:
        """Undo :meth:`to_record`."""
        statistics = cls()
        for name, value in (record["counts"] | record["times"]).items():
            setattr(statistics, name, value)
        statistics.batch_sizes = {int(size): count for size, count in record["batch_sizes"].items()}
        statistics.executions = {int(size): Executions(*e) for size, e in record["executions"].items()}
        return statistics


def _count(buckets: list[int], since: Sequence[int], until: int) -> None:
    """Put the times from each instant, in ascending order, until one instant into a histogram."""
    if not since:
        return
    bucket = (until - since[0]).bit_length()
    last = (until - since[-1]).bit_length()
    at = 0
    while bucket > last:  # the oldest have waited longest
        end = bisect_right(since, until - (1 << (bucket - 1)))
        buckets[bucket] += end - at
        at = end
        bucket -= 1
    buckets[bucket] += len(since) - at


_COUNTS: Final = tuple(f.name for f in fields(Statistics) if f.default == 0 and f.name != "last_ns")
_TIMES: Final = ("queue_times", "request_times", "execution_times")


def add_up(models: Iterable[Counted]) -> dict[tuple[str, str], Statistics]:
    """Sum over service processes, by name and version."""
    totals: dict[tuple[str, str], Statistics] = {}
    for model in models:
        total = totals.setdefault((model["name"], model["version"]), Statistics())
        total.add(Statistics.from_record(model["statistics"]))
    return totals
