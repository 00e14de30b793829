"""Carries out the points of ``runtime profile``: each with the server's side of it and a verdict.

The engine measures; here is who asks the server at the begin and the end, and repeats a point until it is
stable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from runtime.clock import MILLISECOND
from runtime.profiling import breakdown, engine, stability
from runtime.profiling.breakdown import Counters, StatisticsReader
from runtime.profiling.records import Load, Run, Window
from runtime.profiling.usage import FRONT_END, WORKER, Processes, Sample, Usage
from runtime.profiling.verdict import Evidence, judge

if TYPE_CHECKING:
    from runtime.cli.profile_live import Live
    from runtime.cli.profile_plan import Plan, Point
    from runtime.profiling.inputs import ModelRequests, RowMix
    from runtime.profiling.recording import Deck
    from runtime.profiling.target import Target
    from runtime.profiling.timeline import Progress

LOOK_NS: Final = 250 * MILLISECOND
"""Least time between two looks at the server during a run: each costs one small call."""

TRIAL_WARM_UP_S: Final = 0.5
"""Warm-up of the later windows of a point: the server is warm, but the generator begins anew."""


@dataclass(slots=True)
class Measured:
    """What was found, in order; the lists go together."""

    runs: list[Run] = field(default_factory=list)
    verdicts: list[dict[str, str]] = field(default_factory=list)
    usage: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    search: dict[str, Any] | None = None

    def add(self, other: Measured) -> None:
        """Take in what was measured elsewhere."""
        self.runs += other.runs
        self.verdicts += other.verdicts
        self.usage += other.usage
        self.notes += other.notes
        self.search = self.search or other.search


class Bench:
    """Measures on one server.

    Args:
        target: the server.
        live: is told how a run goes.
        models: names whose statistics count.
        processes: of the server, as far as they are known.
        instances: loaded copies behind the models; 0 when not known.
    """

    def __init__(
        self,
        target: Target,
        live: Live,
        models: frozenset[str],
        processes: Processes | None = None,
        instances: int = 0,
    ) -> None:
        self._target = target
        self._live = live
        self._reader = StatisticsReader(target, models)
        self._processes = processes or Processes()
        self._instances = instances
        self._decks: dict[RowMix, Deck] = {}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def points(self, plan: Plan, labels: dict[str, Any]) -> Measured:
        """Measure every point of a plan; ``labels`` are added to each."""
        found = Measured()
        for point in plan.points():
            found.add(self.point(plan, point, labels))
        return found

    def point(self, plan: Plan, point: Point, labels: dict[str, Any]) -> Measured:
        """Measure one point, until it is stable where the plan wants that."""
        deck = self.deck(plan, point.rows)
        label = {**point.labels, **labels}
        slo_ms = plan.limit.slo_ms if plan.limit else 0.0
        if plan.rule is None:
            return self.once(point.load, deck, label, slo_ms)
        return self._until_stable(point.load, deck, label, slo_ms, plan.rule)

    def deck(self, plan: Plan, rows: RowMix) -> Deck:
        """Return the encoded requests; made once for each setting of rows."""
        if rows not in self._decks:
            self._decks[rows] = plan.requests(rows).prepare(self._target)
        return self._decks[rows]

    def note(self, text: str) -> None:
        """Say something between two runs."""
        self._live.note(text)

    def once(self, load: Load, deck: Deck, labels: dict[str, Any], slo_ms: float = 0.0) -> Measured:
        """Carry out one load, whatever comes of it."""
        watch = _Watch(self._reader, self._processes)
        with self._live.run(load, labels) as show:

            def progress(now: Progress) -> None:
                show(now)
                watch(now)

            run = engine.run(self._target, load, deck, progress=progress)
        run.labels = dict(labels)
        run.late_slo_ms = slo_ms
        return self._judged(run, watch)

    def _until_stable(
        self,
        load: Load,
        deck: Deck,
        labels: dict[str, Any],
        slo_ms: float,
        rule: stability.StabilityRule,
    ) -> Measured:
        """Measure window after window; the last ones that agree make the point."""
        trials: list[Measured] = []
        for part in _trials(load, rule):
            trials.append(self.once(part, deck, labels, slo_ms))
            windows = [trial.runs[0].total for trial in trials]
            verdict = stability.judge(windows, rule)
            if verdict.state is not stability.State.MORE:
                break
        kept = trials[verdict.first :]
        run = _joined([trial.runs[0] for trial in kept], load)
        note = [] if verdict.state is stability.State.STABLE else [f"UNSTABLE {labels}: {verdict.reason}"]
        return Measured([run], kept[-1].verdicts, kept[-1].usage, note)

    def _judged(self, run: Run, watch: _Watch) -> Measured:
        counters, elapsed_ns, usage = watch.difference()
        total = run.total
        if counters is not None:
            run.server = breakdown.summary(counters, elapsed_ns, total.service.mean_ns / MILLISECOND)
        busy = run.server["busy"] / self._instances if run.server and self._instances else None
        verdict = judge(
            Evidence(
                invalid=tuple(run.invalid),
                offered=total.offered if run.load.mode == "open" else 0.0,
                answered=total.achieved,
                busy=busy,
                worker_cpu=usage.cores.get(WORKER),
                front_end_cpu=usage.cores.get(FRONT_END),
                machine_cpu=usage.machine if self._processes.counts else None,
                mean_ms=run.server["mean_ms"] if run.server else {},
            )
        )
        return Measured([run], [verdict.to_dict()], [usage.to_dict()])


class _Watch:
    """Looks at the server when the measured time begins, and again and again until it ends."""

    def __init__(self, reader: StatisticsReader, processes: Processes) -> None:
        self._reader = reader
        self._processes = processes
        self._looks: list[tuple[Sample, Counters | None]] = []

    def __call__(self, progress: Progress) -> None:
        """Look, unless the warm-up goes on, the run is over, or the last look was a moment ago."""
        if progress.is_warm_up or progress.fraction >= 1:
            return
        sample = self._processes.sample()
        if self._looks and sample.at_ns - self._looks[-1][0].at_ns < LOOK_NS:
            return
        self._looks[1:] = [(sample, self._reader.read())]

    def difference(self) -> tuple[Counters | None, int, Usage]:
        """Return what the server did between the first look and the last, and how long that was."""
        if len(self._looks) < 2:
            return None, 0, Usage()
        (first, before), (last, after) = self._looks[0], self._looks[-1]
        usage = first.until(last, self._processes.counts)
        if before is None or after is None:
            return None, 0, usage
        return after - before, last.at_ns - first.at_ns, usage


def _trials(load: Load, rule: stability.StabilityRule) -> Iterator[Load]:
    """Yield the load of each window."""
    if rule.measurement_mode is stability.MeasurementMode.COUNT_WINDOWS:
        window = replace(load, count=rule.measurement_request_count or stability.DEFAULT_COUNT)
    else:
        window = replace(load, count=0, duration_s=rule.measurement_interval / 1000)
    for index in range(rule.max_trials):
        warm_up_s = min(load.warm_up_s, TRIAL_WARM_UP_S) if index else load.warm_up_s
        yield replace(window, warm_up_s=warm_up_s, seed=load.seed + index)


def _joined(runs: list[Run], load: Load) -> Run:
    """Return the runs as one, without the time between them; the last one's server side stands for all."""
    windows: list[Window] = []
    for run in runs:
        shift = windows[-1].end_ns - run.windows[0].start_ns if windows and run.windows else 0
        windows += [
            replace(window, start_ns=window.start_ns + shift, end_ns=window.end_ns + shift)
            for window in run.windows
        ]
    return Run(
        load=load,
        windows=windows,
        elapsed_ns=sum(run.elapsed_ns for run in runs),
        late_slo_ms=runs[0].late_slo_ms,
        invalid=list(dict.fromkeys(reason for run in runs for reason in run.invalid)),
        server=runs[-1].server,
        timeline=runs[-1].timeline,
        labels=runs[0].labels,
    )


def instances(target: Target, models: Iterable[ModelRequests]) -> int:
    """Return how many copies of the models a server has loaded; 0 when it does not tell."""
    from runtime.client import RpcFailed

    counted = 0
    with target.open_client() as client:
        for model in models:
            try:
                config = client.model_config(model.model, model.version)
            except RpcFailed:
                return 0
            counted += sum(group.get("count", 1) for group in config.get("instance_group", ()))
    return counted
