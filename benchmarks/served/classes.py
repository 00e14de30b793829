"""Points 5 and 6: requests that cannot share a batch, sizes that are padded, and priorities."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Final

from benchmarks.served import arrivals
from benchmarks.served.bar import SLACK, Row
from benchmarks.served.bench import RESNET, WARM_UP_S, Bench, closed, poisson, trace
from benchmarks.served.plan import Plan
from runtime.profiling.records import Window

SHARES: Final = {8: 0.6, 9: 0.3, 10: 0.1}
"""Columns of a request and the share of such requests."""
SIZES: Final = (1, 2, 4, 8, 16, 32)
HIGH: Final = 0.2
"""Share of urgent requests."""


def add(bench: Bench) -> list[str]:
    """Save the model with set sizes; what it executes is what it is padded to."""
    bench.add("padded", RESNET, allowed_batch_sizes=",".join(map(str, SIZES)))
    return ["padded"]


def shapes(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Three shapes at a load of 30%."""
    batches, rare, noise = [], [], []
    for seed in range(plan.rounds):
        parts = [
            (
                poisson(0.3 * share * RESNET.capacity, plan.seconds(3), 10 * seed + columns),
                bench.deck("resnet", columns),
            )
            for columns, share in SHARES.items()
        ]
        found = bench.loads("resnet", parts)
        whole = Window(0, 0)
        for measured in found:
            whole.merge(measured.total)
        batches.append(found[0].mean_batch)
        rare.append(found[-1].percentile_ms(99) / (whole.response.percentile(99) / 1e6))
        noise.append(found[0].strangers)
    strangers = statistics.median(noise)
    yield Row(
        "5",
        "three shapes, 30%: mean batch",
        statistics.median(batches),
        4.4 * (1 - SLACK),
        unit=" rows",
        strangers=strangers,
    )
    yield Row(
        "5",
        "three shapes, 30%: p99 of the rare one ÷ all",
        statistics.median(rare),
        most=1.2 + SLACK,
        unit="x",
        strangers=strangers,
    )


def sizes(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Set sizes at a load of 70%.

    The figure of a server that always pads up is computed, from the same arrivals and with the way to the
    worker and back that a single client sees.
    """
    ratios, means, batches, noise = [], [], [], []
    hop_ms = bench.load("padded", closed(1, 1.0)).percentile_ms(50) - RESNET.ms(1)
    for seed in range(plan.rounds):
        seconds = plan.seconds(3)
        instants = arrivals.stepped([(WARM_UP_S + seconds, 0.7 * RESNET.capacity)], seed)
        measured = plan.measure(bench, "padded", trace(instants, seconds))
        padded_up = arrivals.padded_up_mean_ms(instants, RESNET.alpha_ms + hop_ms, RESNET.beta_ms, SIZES)
        ratios.append(measured.mean_ms / padded_up)
        means.append(measured.mean_ms)
        batches.append(measured.mean_batch)
        noise.append(measured.strangers)
    note = f"mean {statistics.median(means):.3g} ms, {statistics.median(batches):.3g} rows executed at once"
    yield Row(
        "5",
        "sizes 1,2,4…32, 70%: mean ÷ padding up",
        statistics.median(ratios),
        most=0.9 + SLACK,
        unit="x",
        note=note,
        strangers=statistics.median(noise),
    )


def priorities(bench: Bench, plan: Plan) -> Iterator[Row]:
    """A fifth of the requests is urgent, at a load of 110%."""
    high, rates, noise = [], [], []
    rate = 1.1 * RESNET.capacity
    for seed in range(plan.rounds):
        seconds = plan.seconds(3)
        parts = [
            (poisson(HIGH * rate, seconds, seed), bench.deck("resnet", priority=1)),
            (poisson((1 - HIGH) * rate, seconds, seed + 100), bench.deck("resnet", priority=3)),
        ]
        urgent, _ = bench.loads("resnet", parts)
        alike = bench.load("resnet", poisson(rate, seconds, seed))
        high.append(urgent.percentile_ms(99))
        rates.append(urgent.rows_per_s / alike.rows_per_s)
        noise.append(max(urgent.strangers, alike.strangers))
    strangers = statistics.median(noise)
    most = 1.3 * RESNET.ms(RESNET.limit) * 2 * (1 + SLACK)
    yield Row(
        "6",
        "20% urgent, 110%: p99 of the urgent",
        statistics.median(high),
        most=most,
        unit=" ms",
        strangers=strangers,
    )
    yield Row(
        "6",
        "20% urgent, 110%: rows/s ÷ without priorities",
        statistics.median(rates),
        0.99 - SLACK,
        unit="x",
        strangers=strangers,
    )
