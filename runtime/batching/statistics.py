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

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict, TypeVar

from runtime.batching import histograms
from runtime.tensors.frame import Timing

if TYPE_CHECKING:
    from runtime.batching.task import Batch


class Stages(NamedTuple):
    """The instants of one answered batch.

    ``rows`` were executed together, those of other batches that the worker merged with it included;
    ``padded`` are these and what they were padded with; ``joined`` means that the execution is counted with
    another answer.
    """

    closed_ns: int
    free_ns: int
    begun_ns: int
    started_ns: int
    executed_ns: int
    finished_ns: int
    answered_ns: int
    rows: int
    padded: int
    joined: bool = False

    @classmethod
    def observe(
        cls, closed_ns: int, before_ns: int, timing: Timing, answered_ns: int, *,
        rows: int, padded: int, joined: bool,
    ) -> Stages:  # fmt: skip
        """Make them from the worker's stamps.

        Args:
            closed_ns: when the batch left the queue.
            before_ns: when the worker had finished what it executed before, 0 if that is not known.
            timing: the worker's stamps.
            answered_ns: when the answer had come back.
            rows: that were executed together.
            padded: rows that were executed, padding included.
            joined: the execution is counted already.
        """
        free = max(closed_ns, before_ns)
        begun = max(free, timing.received, timing.begun)
        started = max(begun, timing.started)
        executed = max(started, timing.executed)
        finished = max(executed, timing.finished)
        answered = max(finished, answered_ns)
        return cls(closed_ns, free, begun, started, executed, finished, answered, rows, padded, joined)

    @classmethod
    def bare(cls, closed_ns: int, execution_ns: int, answered_ns: int, rows: int) -> Stages:
        """Make them where nothing but the duration of the execution is known."""
        executed = closed_ns + execution_ns
        answered = max(executed, answered_ns)
        return cls(closed_ns, closed_ns, closed_ns, closed_ns, executed, executed, answered, rows, rows)


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
    words: dict[str, dict[str, int]]
    batch_sizes: dict[str, int]
    executions: dict[str, list[int]]
    times: dict[str, list[int]]


class Counted(TypedDict):
    """What one service process has counted for one model version."""

    name: str
    version: str
    statistics: Record


@dataclass(slots=True)
class Statistics:
    """Counters of one scheduler, in tasks unless the name says otherwise.

    Times are sums over the completed tasks, so that a batch's stage counts once for each of its tasks.

    Attributes:
        rejected: refused at once, never admitted.
        expired: admitted, and too late before a worker had answered: the deadline passed, or could no longer
            be kept.
        cancelled: whose caller went away before a worker had answered.
        retried: run again because their worker died.
        isolated: failed alone, after the batch that failed with them was halved; ``failed`` counts them too.
        reruns: parts of failed batches that were queued to run again, to find the culprit or to fit.
        batches: answered by workers, with outputs or an error; ``batch_sizes`` counts them by rows, and
            ``reasons`` by the policy's word for why they left when they did.
        drops: by the reason of their error, tasks that were rejected, or dropped from the queue.
        rows: of completed tasks; ``padding_rows`` were executed to fill up to an allowed batch size.
        request_ns: from admission to answer; the stages of it are ``queue_ns``, ``wait_ns``, ``merge_ns``,
            ``compute_ns``, ``split_ns``, and the hop, which is the rest.
        fail_ns: from admission to the end of the tasks that failed, expired or were cancelled.
        hold_ns: that idle instances waited for batches to grow, once for each batch; ``hold_times`` has the
            batches that were held at all.
        predictions: completed batches whose time in the worker, from merge to split, was predicted and that
            no other was merged with; of these ``predicted_ns`` and ``measured_ns`` are the sums of both,
            ``mispredicted_ns`` that of the differences, whichever way they went.
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
    isolated: int = 0
    reruns: int = 0
    batches: int = 0
    rows: int = 0
    padding_rows: int = 0
    request_ns: int = 0
    queue_ns: int = 0
    wait_ns: int = 0
    merge_ns: int = 0
    compute_ns: int = 0
    split_ns: int = 0
    fail_ns: int = 0
    hold_ns: int = 0
    predictions: int = 0
    predicted_ns: int = 0
    measured_ns: int = 0
    mispredicted_ns: int = 0
    last_ns: int = 0
    batch_sizes: dict[int, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    executions: dict[int, Executions] = field(default_factory=dict)
    queue_times: list[int] = field(default_factory=histograms.empty)
    request_times: list[int] = field(default_factory=histograms.empty)
    execution_times: list[int] = field(default_factory=histograms.empty)
    hold_times: list[int] = field(default_factory=histograms.empty)

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

    def book(
        self, batch: Batch, enqueued: Sequence[int], stages: Stages, *, failed: bool,
        refused: Collection[int] = (),
    ) -> None:  # fmt: skip
        """Count an answered batch.

        Args:
            batch: that was answered.
            enqueued: when those of its tasks were admitted that end with this answer, in the batch's order;
                all of them, unless the batch failed and others run again.
            stages: when what happened to it.
            failed: these tasks get an error.
            refused: positions in ``enqueued`` of the tasks that get an error of their own, in a batch that
                did not fail.
        """
        rows = batch.rows
        self.batches += 1
        self.batch_sizes[rows] = self.batch_sizes.get(rows, 0) + 1
        self.reasons[batch.reason] = self.reasons.get(batch.reason, 0) + 1
        if batch.held_ns:
            self.hold_ns += batch.held_ns
            self.hold_times[batch.held_ns.bit_length()] += 1
        self.last_ns = answered = stages.answered_ns
        if failed:
            self._book_failed(enqueued, answered)
            self.isolated += batch.depth > 0 and len(batch.tasks) == 1 == len(enqueued)
            return
        if refused:
            self._book_failed([enqueued[index] for index in refused], answered)
            rows -= sum([batch.tasks[index].rows for index in refused])
            enqueued = [entered for index, entered in enumerate(enqueued) if index not in refused]
        self._book_completed(enqueued, rows, stages)
        if batch.predicted_ns and stages.rows == batch.rows:
            self._book_prediction(int(batch.predicted_ns), stages.finished_ns - stages.begun_ns)

    def book_unanswered(self, enqueued: Sequence[int], now_ns: int) -> None:
        """Count the time of tasks that end without a worker's answer."""
        self.fail_ns += now_ns * len(enqueued) - sum(enqueued)

    def book_drop(self, reason: str, tasks: int = 1) -> None:
        """Count tasks that were rejected or dropped from the queue, by the reason of their error."""
        self.drops[reason] = self.drops.get(reason, 0) + tasks

    def _book_failed(self, enqueued: Sequence[int], answered: int) -> None:
        self.failed += len(enqueued)
        self.fail_ns += answered * len(enqueued) - sum(enqueued)

    def _book_completed(self, enqueued: Sequence[int], rows: int, stages: Stages) -> None:
        """Count what was answered with outputs, and its stages: each once for each task."""
        closed, free, begun, started, executed, finished, answered, *_ = stages
        count, entered = len(enqueued), sum(enqueued)
        self.completed += count
        self.rows += rows
        self.request_ns += answered * count - entered
        self.queue_ns += closed * count - entered
        self.wait_ns += (free - closed) * count
        self.merge_ns += (started - begun) * count
        self.compute_ns += (executed - started) * count
        self.split_ns += (finished - executed) * count
        if not stages.joined:
            self._book_execution(stages)
        enqueued = sorted(enqueued)  # urgent tasks overtake others; as good as free where none did
        histograms.count(self.queue_times, enqueued, closed)
        histograms.count(self.request_times, enqueued, answered)

    def _book_execution(self, stages: Stages) -> None:
        executions = self.executions.get(stages.rows)
        if executions is None:
            executions = self.executions[stages.rows] = Executions()
        compute = stages.executed_ns - stages.started_ns
        executions.count += 1
        executions.merge_ns += stages.started_ns - stages.begun_ns
        executions.compute_ns += compute
        executions.split_ns += stages.finished_ns - stages.executed_ns
        self.execution_times[compute.bit_length()] += 1
        self.padding_rows += stages.padded - stages.rows

    def _book_prediction(self, predicted: int, measured: int) -> None:
        self.predictions += 1
        self.predicted_ns += predicted
        self.measured_ns += measured
        self.mispredicted_ns += abs(measured - predicted)

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
        _add_up(self.batch_sizes, other.batch_sizes)
        for name in _WORDS:
            _add_up(getattr(self, name), getattr(other, name))
        for size, executions in other.executions.items():
            self.executions.setdefault(size, Executions()).add(executions)
        for name in _TIMES:
            histograms.add(getattr(self, name), getattr(other, name))

    def to_record(self) -> Record:
        """Return plain values."""
        return {
            "counts": {name: getattr(self, name) for name in (*_COUNTS, "last_ns")},
            "words": {name: dict(getattr(self, name)) for name in _WORDS},
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
        for name, value in (record["counts"] | record["words"] | record["times"]).items():
            setattr(statistics, name, value)
        statistics.batch_sizes = {int(size): count for size, count in record["batch_sizes"].items()}
        statistics.executions = {int(size): Executions(*e) for size, e in record["executions"].items()}
        return statistics


_Key = TypeVar("_Key", int, str)


def _add_up(counts: dict[_Key, int], others: Mapping[_Key, int]) -> None:
    for key, count in others.items():
        counts[key] = counts.get(key, 0) + count


_COUNTS: Final = tuple(f.name for f in fields(Statistics) if f.default == 0 and f.name != "last_ns")
_WORDS: Final = ("reasons", "drops")
_TIMES: Final = ("queue_times", "request_times", "execution_times", "hold_times")


def add_up(models: Iterable[Counted]) -> dict[tuple[str, str], Statistics]:
    """Sum over service processes, by name and version."""
    totals: dict[tuple[str, str], Statistics] = {}
    for model in models:
        total = totals.setdefault((model["name"], model["version"]), Statistics())
        total.add(Statistics.from_record(model["statistics"]))
    return totals
