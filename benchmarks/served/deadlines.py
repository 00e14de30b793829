"""Points 3 and 4: deadlines under load, and steps of cost and load."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from typing import Final

from benchmarks.served import arrivals, sleeper
from benchmarks.served.bar import SLACK, Row
from benchmarks.served.bench import CPU, LEAD_S, RESNET, WARM_UP_S, Bench, Measured, Timing, poisson, trace
from benchmarks.served.plan import Plan
from runtime.profiling.records import Window

OF_BEST: Final = 0.97
"""Share of what the best policy answers in time, at least."""
CASES: Final = (
    ("resnet", RESNET, 60.0, {0.8: 1.0, 1.0: 0.995, 1.5: 0.658}),
    ("resnet", RESNET, 24.0, {0.8: 0.923, 1.0: 0.814, 1.5: 0.609}),
    ("cpu", CPU, 80.0, {0.8: 0.908, 1.5: 0.60}),
)
"""Model, timing, deadline in ms, and what the best policy answers in time in the simulation, by load. The
model of two instances of the second, half as fast, has the share of the one as fast."""
STEP_S: Final = 2.5
WINDOW_S: Final = 0.5
LOAD_STEPS: Final = ((WARM_UP_S + 1.5, 0.3), (2.0, 1.3), (1.5, 0.3))
COST: Final = 1.6


def add(bench: Bench) -> list[str]:
    """Save the model whose cost changes."""
    bench.add("changing", RESNET)
    return ["changing"]


def in_time(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Answered within their deadlines, of all that were offered."""
    for name, timing, deadline_ms, best in CASES[:1] if plan.short else CASES:
        for load, share in best.items():
            seconds = plan.seconds(2.5)
            loads = [
                poisson(load * timing.capacity, seconds, seed, deadline_ms)
                for seed in range(max(1, plan.rounds - 1))
            ]
            found = [plan.measure(bench, name, one) for one in loads]
            yield _share(f"{timing}, {deadline_ms:g} ms, {load:.0%}", timing, load, found, OF_BEST * share)


def _share(what: str, timing: Timing, load: float, found: list[Measured], least: float) -> Row:
    share = statistics.median([measured.in_time for measured in found])
    ceiling = min(1.0, 1 / load)
    rows = statistics.median([measured.rows_per_s for measured in found])
    note = f"{share / ceiling:.1%} of the ceiling; {rows / timing.capacity:.1%} of the capacity executed"
    noise = statistics.median([measured.strangers for measured in found])
    return Row(
        "3", f"{what}: in time", share * 100, (least - SLACK) * 100, unit="%", note=note, strangers=noise
    )


def cost_step(bench: Bench, plan: Plan) -> Iterator[Row]:
    """The model becomes slower in the middle of a load of 70%, which is then 112%."""
    first, later, noise = [], [], []
    for seed in range(plan.rounds):
        folder = bench.folder("changing")
        change = threading.Timer(LEAD_S + WARM_UP_S + STEP_S, sleeper.set_speed, (folder, COST))
        sleeper.set_speed(folder, 1.0)
        bench.load("changing", poisson(0.5 * RESNET.capacity, 0.5, seed))  # it learns the old speed again
        change.start()
        measured = bench.load("changing", poisson(0.7 * RESNET.capacity, 2 * STEP_S, seed, 60))
        change.join()
        changed_ns = min([one.begun_ns for one in measured.executions if _cost(one) > 1.2], default=0)
        windows = [
            window for window in measured.run.windows if window.start_ns >= changed_ns - WINDOW_S * 1e9 / 2
        ]
        first.append(_in_time(windows[:1]))
        later.append(_in_time(windows[1:]))
        noise.append(measured.strangers)
    sleeper.set_speed(folder, 1.0)
    strangers = statistics.median(noise)
    ceiling = f"ceiling {1 / (0.7 * COST):.1%}"
    yield Row(
        "4",
        "cost x1.6 at 70%: first 500 ms",
        statistics.median(first),
        75 - 5,
        unit="%",
        note=ceiling,
        strangers=strangers,
    )
    yield Row(
        "4",
        "cost x1.6 at 70%: after that",
        statistics.median(later),
        82 - 5,
        unit="%",
        note=ceiling,
        strangers=strangers,
    )


def load_step(bench: Bench, plan: Plan) -> Iterator[Row]:
    """The load goes from 30% to 130% and back."""
    during, after, noise = [], [], []
    for seed in range(plan.rounds):
        steps = [(seconds, share * RESNET.capacity) for seconds, share in LOAD_STEPS]
        measured = bench.load("resnet", trace(arrivals.stepped(steps, seed), 5.0, 60))
        windows = measured.run.windows
        during.append(_in_time(windows[3:7]))
        after.append(_in_time(windows[7:8]))
        noise.append(measured.strangers)
    strangers = statistics.median(noise)
    note = f"ceiling {1 / 1.3:.1%}"
    yield Row(
        "4",
        "load 30-130-30%: in time at 130%",
        statistics.median(during),
        71 - 5,
        unit="%",
        note=note,
        strangers=strangers,
    )
    yield Row(
        "4", "load back at 30%: first 500 ms", statistics.median(after), 99 - 5, unit="%", strangers=strangers
    )


def _cost(execution: sleeper.Execution) -> float:
    return (execution.ended_ns - execution.begun_ns) / 1e6 / RESNET.ms(execution.rows)


def _in_time(windows: list[Window]) -> float:
    return 100 * sum([window.ok for window in windows]) / max(1, sum([window.requests for window in windows]))
