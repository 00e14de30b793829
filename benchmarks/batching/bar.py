"""What the adaptive policy has to be worth: eight points, and a ninth that goes beyond them.

Each point is a function that plays its cases and yields verdicts. Wherever cells are compared with a
reference, both have seen the same arrivals. The thresholds are requirements, not measurements: a change of
the policy that misses one is a worse policy, whatever else it gains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from benchmarks.batching.arrivals import Step
from benchmarks.batching.cases import SIZES, Case, Table
from benchmarks.batching.figures import Figures
from benchmarks.batching.models import BERT, MLP, MODELS, RESNET50, RESNET_CPU
from benchmarks.batching.verdict import Verdict, at_least, at_most, largest, smallest
from runtime.clock import MILLISECOND, SECOND

DELAYS: Final = tuple(f"fixed {ms} ms" for ms in (0.3, 0.6, 1, 1.5, 2, 3, 5))
CONTENDERS: Final = ("greedy", "expire only", "bentoml", "nexus", "clockwork-like", "aimd", "deferred")
LEARNED: Final = 1000
"""Requests of a run that come while it is learned what the model costs; point 9 looks at them."""
SAME: Final = 1.01
"""What must not be above the reference's may be by what two runs of one rule differ by."""
WINDOW_NS: Final = 250 * MILLISECOND

Verdicts = Iterator[Verdict]


def open_loop(table: Table, short: bool) -> Verdicts:
    """1: never noticeably worse than greedy, and better where requests come in clumps."""
    models, loads = ((MLP, RESNET50), (0.05, 0.6)) if short else (MODELS, (0.05, 0.3, 0.6, 0.9))
    cells = [(model, load, 1) for model in models for load in loads]
    if not short:
        cells += [(model, load, c) for model in (RESNET_CPU, RESNET50) for load in (0.3, 0.6) for c in (2, 4)]
    for process, p99_bar in (("poisson", 1.05), ("on-off", 1.05), ("clumps", 1.1)):
        cases = [
            Case(model=model, process=process, load=load, instances=instances, noisy=False)
            for model, load, instances in cells
        ]
        pairs = [(case.name, table.play(case), table.play(case, "greedy")) for case in cases]
        means = [(ours.mean / greedy.mean, name) for name, ours, greedy in pairs]
        tails = [(ours.p99 / greedy.p99, name) for name, ours, greedy in pairs]
        yield at_most(1, *largest(f"{process}: mean ÷ greedy's", means), 1.03)
        yield at_most(1, *largest(f"{process}: p99 ÷ greedy's", tails), p99_bar)
    for model in (RESNET50, BERT):
        case = Case(model=model, process="clumps", load=0.05, noisy=False)
        ratio = table.play(case).mean / table.play(case, "greedy").mean
        yield at_most(1, f"{case.name}: mean ÷ greedy's", ratio, 0.8)


def closed_loop(table: Table, short: bool) -> Verdicts:
    """2: clients that wait for their answers are not split into halves that wait for each other."""
    cases = _closed_cases(short)
    pairs = [(case.name, table.play(case), table.play(case, "greedy")) for case in cases]
    rates = [(ours.rate / greedy.rate, name) for name, ours, greedy in pairs]
    medians = [(ours.p50 / greedy.p50, name) for name, ours, greedy in pairs]
    yield at_least(2, *smallest("rows/s ÷ greedy's", rates), 0.95)
    yield at_most(2, *largest("p50 ÷ greedy's", medians), SAME)
    alone = [
        (abs(ratio - 1), case.name)
        for case, (ratio, _) in zip(cases, rates, strict=True)
        if case.clients == 1
    ]
    yield at_most(2, *largest("1 client: rows/s, difference from greedy", alone), 0.01, "%")
    for clients in (4, 16) if short else (2, 4, 8, 16):
        case = Case(model=RESNET50, clients=clients)
        rate, greedy = table.play(case).rate, table.play(case, "greedy").rate
        best = max([greedy, *[table.play(case, delay).rate for delay in DELAYS]])
        yield at_least(2, f"{case.name}: rows/s ÷ greedy's", rate / greedy, 1.3)
        yield at_least(2, f"{case.name}: rows/s ÷ best delay's", rate / best, 0.95)


def _closed_cases(short: bool) -> list[Case]:
    if short:
        return [Case(model=m, clients=clients) for m in (RESNET50, MLP) for clients in (1, 4, 16, 32)]
    cases = [Case(model=model, clients=clients) for model in MODELS for clients in (1, 2, 4, 8, 16, 32, 64)]
    cases += [Case(model=m, clients=c, stagger_ms=0.1) for m in (RESNET50, BERT) for c in (4, 16, 32)]
    cases += [Case(model=RESNET50, clients=n, instances=c) for n in (4, 16, 32, 64) for c in (2, 4)]
    cases += [Case(model=RESNET_CPU, clients=n, instances=2) for n in (2, 4, 16)]
    return cases


def deadlines(table: Table, short: bool) -> Verdicts:
    """3: as many answers in time as the best of all rules, whichever that is."""
    models = (RESNET50,) if short else MODELS
    loads = (0.8, 1, 1.5) if short else (0.3, 0.6, 0.8, 1, 1.5)
    cases = [
        Case(model=model, process=process, load=load, slo_ms=slo)
        for model in models
        for slo in model.slos_ms
        for process in ("poisson", "on-off")
        for load in loads
    ]
    yield from _beside_the_best(table, cases, "in time ÷ best rule's")
    if not short:
        cases = [
            Case(model=RESNET50, load=load, slo_ms=slo, instances=4)
            for slo in RESNET50.slos_ms
            for load in loads
        ]
        yield from _beside_the_best(table, cases, "4 instances: in time ÷ best rule's")
    case = Case(model=RESNET50, load=1.5, slo_ms=30)
    yield at_least(3, f"{case.name}: in time", table.play(case).in_time, 0.64, "%")


def _beside_the_best(table: Table, cases: list[Case], what: str) -> Verdicts:
    """The rest of the runs: the others are told what the model costs, and ours has to learn it first."""
    ratios = []
    for case in cases:
        best = max([table.play(case, rule).in_time_of(LEARNED) for rule in CONTENDERS])
        ratios.append((table.play(case).in_time_of(LEARNED) / best, case.name))
    mean = sum([ratio for ratio, _ in ratios]) / len(ratios)
    yield at_least(3, *smallest(what, ratios), 0.97)
    yield at_least(3, f"{what}; mean of {len(ratios)} cases", mean, 0.99)


def steps(table: Table, short: bool) -> Verdicts:
    """4: what changes suddenly is followed within the window."""
    case = Case(model=RESNET50, load=0.7, slo_ms=30, slower=(4000, 1.6, 0), requests=9000, runs=8)
    yield from _after(table.play(case), 4000, "cost times 1.6", 0.75, 0.82)
    parts = (Step(2000, 0.3 / 1.3), Step(6000, 1.0), Step(2000, 0.3 / 1.3))
    case = Case(model=RESNET50, load=1.3, slo_ms=30, steps=parts, requests=10_000, runs=8)
    yield from _after(table.play(case), 8000, "load 130 → 30 %", 0.99, 0.99)


def _after(figures: Figures, changed: int, what: str, first: float, rest: float) -> Verdicts:
    """What is in time in the first window after the request that sees the change, and from then on."""
    begins = [run.born_ns[changed] for run in figures.runs]
    at_once = figures.in_time_within(begins, WINDOW_NS)
    yield at_least(4, f"{what}: in time, first 250 ms", at_once, first, "%")
    later = figures.in_time_within(begins, float("inf"), skip_ns=WINDOW_NS)
    yield at_least(4, f"{what}: in time, after that", later, rest, "%")


def shapes(table: Table, short: bool) -> Verdicts:
    """5: mixed shapes and fixed sizes."""
    case = Case(model=RESNET50, load=0.3, shapes=(0.6, 0.3, 0.1), noisy=False, runs=4)
    figures = table.play(case)
    yield at_least(5, "3 shapes: rows of a batch, mean", figures.mean_batch, 4.4, "rows")
    yield at_most(5, "3 shapes: p99 of the rare ÷ of all", figures.p99_of(shape=2) / figures.p99, 1.2)
    for model in (RESNET50, BERT):
        case = Case(model=model, load=0.7, sizes=SIZES, noisy=False, runs=4)
        ratio = table.play(case).mean / table.play(case, "greedy").mean
        yield at_most(5, f"{case.name}: mean ÷ padding up", ratio, 0.9)


def priorities(table: Table, short: bool) -> Verdicts:
    """6: urgent requests are served first, at nobody's expense."""
    case = Case(model=RESNET50, load=1.1, levels=(0.2, 0.8), noisy=False, requests=6000, runs=4)
    fifo = Case(model=RESNET50, load=1.1, noisy=False, requests=6000, runs=4)
    full = RESNET50.ms(RESNET50.limit)
    ours = table.play(case)
    yield at_most(6, "110 % load: p99 of the urgent ÷ 2 full batches", ours.p99_of(level=1) / full / 2, 1.3)
    ratio = ours.rate / table.play(fifo, "greedy").rate
    yield at_least(6, "110 % load: rows/s ÷ first come, first served", ratio, 0.99)


def profiles(table: Table, short: bool) -> Verdicts:
    """7: a profile is a hint: without one, or with a wrong one, little is lost."""
    for wrong, what in ((0.0, "none"), (10.0, "10 times too slow"), (0.1, "10 times too fast")):
        ratios = []
        for model in (RESNET50, MLP) if short else MODELS:
            for slo in model.slos_ms:
                case = Case(model=model, load=0.6, slo_ms=slo, profile_factor=wrong)
                right = Case(model=model, load=0.6, slo_ms=slo, profile_factor=1.0)
                ratios.append((table.play(case).in_time / table.play(right).in_time, case.name))
        yield at_least(7, *smallest(f"profile {what}: in time ÷ right one's", ratios), 0.9)


def quiet(table: Table, short: bool) -> Verdicts:
    """8, its second half: of all that was played, no alarm while nothing is queued, none in the past."""
    if not table.played:
        table.play(Case(model=RESNET50, process="closed", clients=16))
        table.play(Case(model=RESNET50, load=1, slo_ms=12))
    idle = sum(figures.idle_alarms for figures in table.played.values())
    overdue = sum(figures.overdue_alarms for figures in table.played.values())
    yield at_most(8, "alarms set while nothing was queued", idle, 0)
    yield at_most(8, "alarms set in the past", overdue, 0)


def beyond(table: Table, short: bool) -> Verdicts:
    """9: what the other points do not ask: the way to the worker, cold starts under overload, stalls."""
    for model, load, clients, bar in ((MLP, 0.8, 0, 0.6), (RESNET50, 0.4, 0, 1.01), (MLP, 0, 64, 0.9)):
        case = Case(model=model, load=load, clients=clients, hand_off_ms=0.3, noisy=False)
        ratio = table.play(case).mean / table.play(case, "greedy").mean
        yield at_most(9, f"{case.name}, 0.3 ms to the worker: mean ÷ greedy's", ratio, bar)
    for model in (MLP, RESNET50):
        case = Case(model=model, load=1.5, slo_ms=model.slos_ms[0], requests=2000, runs=8)
        ratio = table.play(case).in_time_of(0, 400) / table.play(case, "nexus").in_time_of(0, 400)
        yield at_least(9, f"{case.name}: first 400 in time ÷ of nexus, which knows the costs", ratio, 0.8)
    for model, slo in ((RESNET50, 12), (BERT, 60)):
        stall = (4000, 10.0, 5500)
        case = Case(model=model, load=0.7, slo_ms=slo, slower=stall, requests=12_000, runs=8)
        figures = table.play(case)
        begins = [run.born_ns[5500] for run in figures.runs]
        after = figures.in_time_within(begins, 2 * SECOND, skip_ns=SECOND)
        yield at_least(9, f"{case.name}, stalled: in time, second after the stall", after, 0.9, "%")


POINTS: Final[Mapping[int, Callable[[Table, bool], Verdicts]]] = {
    1: open_loop,
    2: closed_loop,
    3: deadlines,
    4: steps,
    5: shapes,
    6: priorities,
    7: profiles,
    8: quiet,
    9: beyond,
}
"""All but what a decision costs, which is the machine's affair too: see ``cost``."""
