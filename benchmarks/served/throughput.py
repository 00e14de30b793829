"""Points 1 and 2: without deadlines, beside the same server that never holds a batch."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.served import arrivals
from benchmarks.served.bar import Row, ratio_row
from benchmarks.served.bench import (
    BERT,
    CPU,
    GREEDY,
    RESNET,
    WARM_UP_S,
    Bench,
    Measured,
    Timing,
    closed,
    poisson,
    trace,
)
from benchmarks.served.plan import Plan
from runtime.profiling.records import Load

MODELS: Final = {"resnet": RESNET, "bert": BERT, "cpu": CPU}
OPEN: Final = {"resnet": (0.05, 0.3, 0.6, 0.9), "bert": (0.05, 0.9), "cpu": (0.3, 0.9)}
CLUMPED: Final = ("resnet", "bert")
CLUMP: Final = 4
CLOSED: Final = {"resnet": (1, 2, 4, 8, 16, 32), "bert": (2, 16), "cpu": (1, 4)}
GAINING: Final = range(2, 17)
"""So many clients of ResNet gain from batches that wait for them."""

Pair = tuple[Measured, Measured]


def add(bench: Bench) -> list[str]:
    """Save the models, each once more as its own reference."""
    for name, timing in MODELS.items():
        bench.add(name, timing)
        bench.add(f"{name}-greedy", timing, **GREEDY)
    return [each for name in MODELS for each in (name, f"{name}-greedy")]


def open_loop(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Independent arrivals cost nothing, and clumps gain."""
    for name, shares in plan.some(OPEN).items():
        timing = MODELS[name]
        for share in shares:
            seconds = plan.seconds(2.5 if share < 0.2 else 1.5)
            loads = [poisson(share * timing.capacity, seconds, seed) for seed in range(plan.rounds)]
            pairs = _rounds(bench, plan, name, loads)
            yield from _both(f"Poisson {share:.0%}", timing, pairs, mean=1.03, p99=1.05)
    for name in CLUMPED[: 1 if plan.short else 2]:
        yield from _clumped(bench, plan, name)


def _clumped(bench: Bench, plan: Plan, name: str) -> Iterator[Row]:
    timing = MODELS[name]
    rate, seconds = 0.05 * timing.capacity, plan.seconds(2.5)
    clumps = [
        trace(arrivals.clumps(WARM_UP_S + seconds, rate, CLUMP, seed), seconds) for seed in range(plan.rounds)
    ]
    bursts = Load(
        mode="open", arrivals="burst", burst=CLUMP, rate=rate, warm_up_s=WARM_UP_S, duration_s=seconds
    )
    kinds = {f"clumps of about {CLUMP}": clumps, f"bursts of {CLUMP}": [bursts] * plan.rounds}
    for kind, loads in kinds.items():
        yield from _both(f"{kind}, 5%", timing, _rounds(bench, plan, name, loads), mean=0.8, p99=1.1)


def closed_loop(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Clients that come back are waited for where that pays."""
    for name, counts in plan.some(CLOSED).items():
        for clients in counts:
            pairs = _rounds(bench, plan, name, [closed(clients, plan.seconds(1))] * plan.rounds)
            what = f"{MODELS[name]}, {clients} client{'s' * (clients > 1)}"
            least = 1.3 if name == "resnet" and clients in GAINING else 0.99 if clients == 1 else 0.95
            rates = [(ours.total.achieved, theirs.total.achieved) for ours, theirs in pairs]
            p50 = [(ours.percentile_ms(50), theirs.percentile_ms(50)) for ours, theirs in pairs]
            noise = _noise(pairs)
            yield ratio_row("2", f"{what}: throughput", rates, least=least, unit="/s", strangers=noise)
            yield ratio_row("2", f"{what}: p50", p50, most=1.0, unit="ms", strangers=noise)


def _rounds(bench: Bench, plan: Plan, name: str, loads: Sequence[Load]) -> list[Pair]:
    """Measure a model and its reference in turn, in each round under the same load."""
    pairs = []
    for number, load in enumerate(loads):
        names = [name, f"{name}-greedy"]
        if number % 2:
            names.reverse()
        found = {each: plan.measure(bench, each, load) for each in names}
        pairs.append((found[name], found[f"{name}-greedy"]))
    return pairs


def _both(what: str, timing: Timing, pairs: Sequence[Pair], *, mean: float, p99: float) -> Iterator[Row]:
    means = [(ours.mean_ms, theirs.mean_ms) for ours, theirs in pairs]
    slowest = [(ours.percentile_ms(99), theirs.percentile_ms(99)) for ours, theirs in pairs]
    noise = _noise(pairs)
    yield ratio_row("1", f"{timing}, {what}: mean", means, most=mean, unit="ms", strangers=noise)
    yield ratio_row("1", f"{timing}, {what}: p99", slowest, most=p99, unit="ms", strangers=noise)


def _noise(pairs: Sequence[Pair]) -> float:
    return statistics.median([max(ours.strangers, theirs.strangers) for ours, theirs in pairs])
