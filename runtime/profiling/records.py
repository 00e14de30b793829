"""What the profiler's parts hand each other: the load to apply and what became of it.

The engine turns a :class:`Load` into a :class:`Run`; statistics, search, comparison and reports read runs.
Records hold counts and histograms, never percentiles, so that any of them can be merged and asked again.

Invariants:
    - Instants are integer nanoseconds of the monotonic clock of one machine.
    - Every request counts once, in the window of its *intended* send, under exactly one outcome.
    - ``from_dict(to_dict(x))`` equals ``x``, also through JSON.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.histogram import Histogram

PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)
"""What summaries and tables show, beside the maximum."""


class Outcome(enum.IntEnum):
    """What became of one request; also its place in :attr:`Window.counts`.

    OK: answered with status OK, however late. FAILED: any other status than those below. REJECTED: refused
    by the server (RESOURCE_EXHAUSTED, UNAVAILABLE). EXPIRED: its deadline passed (DEADLINE_EXCEEDED).
    DROPPED: never sent, because the generator had too many in flight or the run ended.
    """

    OK = 0
    FAILED = 1
    REJECTED = 2
    EXPIRED = 3
    DROPPED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One operating point: how requests are offered and for how long.

    Attributes:
        mode: ``closed`` (a new call when one ends) or ``open`` (calls at set times, whatever the answers do).
        concurrency: closed: calls in flight, over all generator processes.
        rate: open: requests per second offered, over all generator processes.
        arrivals: open: ``constant``, ``poisson``, ``burst`` or ``trace``.
        burst: requests in one burst.
        trace: for ``trace``: when to send, nanoseconds from the start, in order; rate is not used.
        seed: for random arrivals: the same seed gives the same instants, however many processes send.
        timeout_ms: deadline of each call, 0 for none.
        max_in_flight: open: calls that one generator process keeps open; a request beyond is dropped.
        warm_up_s: time before the measurement, its requests are not counted.
        duration_s: measured time after the warm-up.
        count: if not 0, the run ends after so many measured requests instead.
        processes: generator processes; each has its share of the load.

    Raises:
        ValueError: the fields describe no load.
    """

    mode: str
    concurrency: int = 1
    rate: float = 0.0
    arrivals: str = "poisson"
    burst: int = 1
    trace: tuple[int, ...] = ()
    seed: int = 1
    timeout_ms: float = 0
    max_in_flight: int = 10_000
    warm_up_s: float = 1.0
    duration_s: float = 10.0
    count: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        for problem, reason in (
            (self.mode not in {"closed", "open"}, f"mode is closed or open, not {self.mode!r}"),
            (self.processes < 1, "at least one generator process is needed"),
            (
                min(self.timeout_ms, self.warm_up_s, self.duration_s, self.count) < 0,
                "no time or count is negative",
            ),
            (not self.count and not self.duration_s, "a duration or a count is needed"),
        ):
            if problem:
                raise ValueError(reason)
        if self.mode == "closed":
            self._check_closed()
        else:
            self._check_open()

    def _check_closed(self) -> None:
        if self.concurrency < self.processes:
            raise ValueError(f"{self.processes} processes cannot share {self.concurrency} calls in flight")

    def _check_open(self) -> None:
        if self.arrivals not in {"constant", "poisson", "burst", "trace"}:
            raise ValueError(f"arrivals are constant, poisson, burst or trace, not {self.arrivals!r}")
        if self.arrivals == "trace" and not self.trace:
            raise ValueError("a trace has at least one request")
        if self.arrivals != "trace" and not self.rate > 0:
            raise ValueError(f"an open loop needs a rate above 0, not {self.rate}")
        if self.burst < 1 or self.max_in_flight < 1:
            raise ValueError("a burst and max_in_flight are at least 1")

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {**asdict(self), "trace": list(self.trace)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Load:
        """The load that :meth:`to_dict` described.

        Raises:
            ValueError: the fields describe no load.
            TypeError: a field is unknown.
        """
        return cls(**{**data, "trace": tuple(data.get("trace", ()))})


@dataclass(slots=True)
class Window:
    """What happened to the requests whose intended send lies in [start_ns, end_ns).

    Attributes:
        start_ns: first instant.
        end_ns: first instant after the window.
        response: from the intended send to the answer, of OK answers only.
        service: from the actual send to the answer, of OK answers only.
        slip: from the intended to the actual send, of all that were sent.
        counts: requests by :class:`Outcome`.
        rows: rows of the requests that were answered OK.
        cpu_ns: processor time that the generator itself used, over all its processes.
    """

    start_ns: int
    end_ns: int
    response: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    slip: Histogram = field(default_factory=Histogram)
    counts: list[int] = field(default_factory=lambda: [0] * len(Outcome))
    rows: int = 0
    cpu_ns: int = 0

    def merge(self, other: Window) -> None:
        """Add what the other counted: a neighbour in time, or the same time seen by another process."""
        self.start_ns = min(self.start_ns, other.start_ns)
        self.end_ns = max(self.end_ns, other.end_ns)
        self.response.merge(other.response)
        self.service.merge(other.service)
        self.slip.merge(other.slip)
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.rows += other.rows
        self.cpu_ns += other.cpu_ns

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.end_ns - self.start_ns) / SECOND

    @property
    def requests(self) -> int:
        """All requests that were due, sent or not."""
        return sum(self.counts)

    @property
    def ok(self) -> int:
        """Requests that were answered OK."""
        return self.counts[Outcome.OK]

    @property
    def offered(self) -> float:
        """Requests due per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def achieved(self) -> float:
        """Requests answered OK per second."""
        return self.ok / self.seconds if self.seconds else 0.0

    def late(self, slo_ms: float) -> int:
        """Requests answered OK whose response time exceeds the SLO; 0 without one (``slo_ms`` 0)."""
        return self.response.count_above(round(slo_ms * MILLISECOND)) if slo_ms else 0

    def goodput(self, slo_ms: float) -> float:
        """Requests answered OK within the SLO per second."""
        return (self.ok - self.late(slo_ms)) / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "response": self.response.to_dict(),
            "service": self.service.to_dict(),
            "slip": self.slip.to_dict(),
            "counts": list(self.counts),
            "rows": self.rows,
            "cpu_ns": self.cpu_ns,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Window:
        """The window that :meth:`to_dict` described.

        Raises:
            ValueError, KeyError, TypeError: it describes no window.
        """
        histograms = {name: Histogram.from_dict(data[name]) for name in ("response", "service", "slip")}
        if len(data["counts"]) != len(Outcome):
            raise ValueError(f"{len(Outcome)} counts are needed, not {len(data['counts'])}")
        return cls(**{**data, **histograms, "counts": list(data["counts"])})


@dataclass(slots=True)
class Run:
    """A load carried out.

    Attributes:
        load: what was asked for.
        windows: the measured time in adjacent windows, in order; the warm-up is in none of them.
        elapsed_ns: from the start to the last answer, warm-up included.
        late_slo_ms: response time above which an answer is late, 0 for no bound.
        invalid: why the generator itself was the limit; a run with no reason is valid.
        server: the server's own account (breakdown, batch sizes); None if it gives none.
        timeline: every 100 ms ``(t_ms, ok, not ok, p50_us, p99_us, in flight)``.
        labels: what was varied beside the load (rows, instances …); with the load it names the point.
    """

    load: Load
    windows: list[Window]
    elapsed_ns: int = 0
    late_slo_ms: float = 0.0
    invalid: list[str] = field(default_factory=list)
    server: dict[str, Any] | None = None
    timeline: list[tuple[int, ...]] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> Window:
        """All windows merged, made anew each time."""
        if not self.windows:
            return Window(0, 0)
        merged = Window(self.windows[0].start_ns, self.windows[0].end_ns)
        for window in self.windows:
            merged.merge(window)
        return merged

    def summary(self) -> dict[str, float]:
        """The figures people look for: rates per second, response times in ms, requests by outcome."""
        total = self.total
        figures = {
            "offered": total.offered,
            "achieved": total.achieved,
            "goodput": total.goodput(self.late_slo_ms),
            "rows_per_s": total.rows / total.seconds if total.seconds else 0.0,
            "mean_ms": total.response.mean_ns / MILLISECOND,
        }
        figures |= {f"p{p:g}_ms": total.response.percentile(p) / MILLISECOND for p in PERCENTILES}
        figures["max_ms"] = total.response.max_ns / MILLISECOND
        figures |= {outcome.name.lower(): total.counts[outcome] for outcome in Outcome}
        figures["late"] = total.late(self.late_slo_ms)
        return figures

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; the summary is for readers and is not read back."""
        return {
            "load": self.load.to_dict(),
            "labels": dict(self.labels),
            "summary": self.summary(),
            "elapsed_ns": self.elapsed_ns,
            "late_slo_ms": self.late_slo_ms,
            "invalid": list(self.invalid),
            "server": self.server,
            "timeline": [list(row) for row in self.timeline],
            "windows": [window.to_dict() for window in self.windows],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Run:
        """The run that :meth:`to_dict` described.

        Raises:
            ValueError, KeyError, TypeError: it describes no run.
        """
        return cls(
            load=Load.from_dict(data["load"]),
            windows=[Window.from_dict(window) for window in data["windows"]],
            elapsed_ns=data["elapsed_ns"],
            late_slo_ms=data["late_slo_ms"],
            invalid=list(data["invalid"]),
            server=data["server"],
            timeline=[tuple(row) for row in data["timeline"]],
            labels=dict(data["labels"]),
        )
