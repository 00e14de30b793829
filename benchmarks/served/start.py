"""Point 7 and what else concerns a server that has just started: profiles, and full load at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.served.bar import SLACK, Row
from benchmarks.served.bench import RESNET, Bench, poisson
from benchmarks.served.plan import Plan
from runtime.profiling.records import Load, Outcome

PROFILES: Final = {"right": 1.0, "absent": 0.0, "10x too slow": 10.0, "10x too fast": 0.1}
REQUESTS: Final = 4_000
DEADLINE_MS: Final = 60.0


def add(bench: Bench) -> None:
    """Save one model for each kind of profile; each is served for its own measurement only."""
    for name, factor in PROFILES.items():
        bench.add(_model(name), RESNET)
        if factor:
            bench.add_profile(_model(name), RESNET, factor)
    bench.add("cold", RESNET)


def _model(profile: str) -> str:
    return f"profile-{profile.replace(' ', '-')}"


def profiles(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Requests in time of the first 4,000, at a load of 60%."""
    best = 0.0
    for name in list(PROFILES)[: 2 if plan.short else None]:
        load = Load(
            mode="open", rate=0.6 * RESNET.capacity, timeout_ms=DEADLINE_MS, warm_up_s=0,
            count=REQUESTS // 4 if plan.short else REQUESTS,
        )  # fmt: skip
        with bench.serving(_model(name)):
            measured = bench.load(_model(name), load)
        best = best or measured.in_time
        least = -float("inf") if name == "right" else 0.9 - SLACK
        note = f"{measured.in_time:.1%} in time"
        yield Row(
            "7",
            f"profile {name}, 60%: goodput ÷ right one's",
            measured.in_time / best,
            least,
            unit="x",
            note=note,
            strangers=measured.strangers,
        )


def cold(bench: Bench, plan: Plan) -> Iterator[Row]:
    """A server that has never executed anything gets 90% at once."""
    with bench.serving("cold"):
        load = Load(mode="open", rate=0.9 * RESNET.capacity, warm_up_s=0, duration_s=plan.seconds(3))
        measured = bench.load("cold", load)
        late = bench.load("cold", poisson(0.9 * RESNET.capacity, 1, 1))
    refused = measured.total.requests - measured.total.counts[Outcome.OK]
    slow = [f"{one.percentile_ms(99):.0f} ms" for one in (measured, late)]
    note = f"of {measured.total.requests:,}; p99 {slow[0]}, then {slow[1]}"
    yield Row(
        "9",
        "load 0-90% on a cold server: refused or failed",
        refused,
        most=0,
        note=note,
        strangers=measured.strangers,
    )
