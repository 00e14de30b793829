"""What is simulated, and by which rules: a case has the same arrivals for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from benchmarks.batching import arrivals, references
from benchmarks.batching.arrivals import Arrival, Step
from benchmarks.batching.figures import Figures
from benchmarks.batching.models import Model
from benchmarks.batching.setup import Clients, Setup
from benchmarks.batching.simulator import Simulation
from runtime.batching.policy import Greedy, Policy

PRODUCT: Final = "adaptive"
UNBOUNDED_BYTES: Final = 1 << 60
STAGGER_MS: Final = 0.02
SIZES: Final = (1, 2, 4, 8, 16, 32)

Maker = Callable[[Model, float], Policy | None]

RULES: Final[Mapping[str, Maker]] = {
    PRODUCT: lambda model, slo: None,
    "none": references.Nothing,
    "greedy": lambda model, slo: Greedy(model.limit, UNBOUNDED_BYTES),
    "expire only": lambda model, slo: Greedy(model.limit, UNBOUNDED_BYTES),
    "bentoml": references.BentoML,
    "nexus": references.Nexus,
    "clockwork-like": references.Clockwork,
    "aimd": references.Aimd,
    "deferred": references.Deferred,
}
"""By name; and ``fixed 1.5 ms`` for any delay."""

EXPIRING: Final = (PRODUCT, "expire only", "aimd")
"""Of these the scheduler is told the deadlines, and drops who is past them."""

FIXED: Final = "fixed "


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Something to be simulated.

    Attributes:
        model: that is served.
        process: ``poisson``, ``on-off`` or ``clumps``; ``steps`` change the first.
        load: share of what all instances execute in full batches.
        clients: of a closed loop, in which nobody else sends; 0 for an open one.
        stagger_ms: of its clients.
        requests: of each run.
        runs: with other arrivals each.
        shapes: shares of the requests of each shape.
        levels: shares of the requests of each priority level.
        profile_factor: how wrong a profile the scheduler is given; 0 for none.
        steps: of the load.
        slower: from which request's arrival on, and by which factor, executions take longer, and from whose
            on they do not, 0 for nobody's.
        instances, sizes, slo_ms, noisy, hand_off_ms: as of :class:`Setup`.
    """

    model: Model
    process: str = "poisson"
    load: float = 0
    clients: int = 0
    stagger_ms: float = STAGGER_MS
    requests: int = 4000
    runs: int = 2
    shapes: tuple[float, ...] = (1,)
    levels: tuple[float, ...] = (1,)
    profile_factor: float = 0
    steps: tuple[Step, ...] = ()
    slower: tuple[int, float, int] = (0, 1.0, 0)
    instances: int = 1
    sizes: tuple[int, ...] = ()
    slo_ms: float = 0
    noisy: bool = True
    hand_off_ms: float = 0

    def shortened(self) -> Case:
        """The same with half the runs."""
        return replace(self, runs=max(1, self.runs // 2))

    @property
    def name(self) -> str:
        """For people; what all cases of a point have in common is not in it."""
        parts = [self.model.name]
        if self.clients:
            parts.append(f"{self.clients} client{'s' * (self.clients > 1)}")
            parts += [f"{self.stagger_ms} ms apart"] * (self.stagger_ms != STAGGER_MS)
        else:
            parts += [f"{self.process} {100 * self.load:.0f} %"]
        parts += [f"SLO {self.slo_ms} ms"] * (self.slo_ms > 0)
        parts += [f"{self.instances} instances"] * (self.instances > 1)
        parts += ["allowed sizes"] * bool(self.sizes)
        return ", ".join(parts)

    def arrivals(self, run: int) -> Sequence[Arrival]:
        """Those of one run."""
        chance = random.Random(f"{self.process} {run}")
        rate = self.load * self.instances * self.model.full_rate
        if self.steps:
            times = arrivals.stepped(chance, rate, self.steps)
        elif self.process == "on-off":
            times = arrivals.on_off(chance, rate, self.model.ns(self.model.limit))
        elif self.process == "clumps":
            times = arrivals.clumps(chance, rate)
        else:
            times = arrivals.poisson(chance, rate)
        instants = [int(at) for at in islice(times, self.requests)]
        shapes = arrivals.choose(chance, self.shapes, len(instants))
        levels = arrivals.choose(chance, self.levels, len(instants))
        return [
            Arrival(at, shape, level + 1) for at, shape, level in zip(instants, shapes, levels, strict=True)
        ]

    def setup(self, run: int, *, told: bool) -> Setup:
        """What is simulated round the scheduler."""
        sizes = self.sizes or [1 << bits for bits in range(self.model.limit.bit_length())]
        factor = self.profile_factor
        return Setup(
            model=self.model, instances=self.instances, sizes=self.sizes, slo_ms=self.slo_ms, told=told,
            noisy=self.noisy, hand_off_ms=self.hand_off_ms, levels=len(self.levels), seed=run,
            profile={size: factor * self.model.ms(size) for size in sizes} if factor else {},
        )  # fmt: skip


class Table:
    """Plays each case with each rule once, and keeps the figures.

    Args:
        short: play them shortened.
    """

    def __init__(self, *, short: bool = False) -> None:
        self._short = short
        self._played: dict[tuple[Case, str], Figures] = {}

    def play(self, case: Case, rule: str = PRODUCT) -> Figures:
        """The figures of a case under a rule."""
        known = self._played.get((case, rule))
        if known is None:
            known = self._played[case, rule] = play(case.shortened() if self._short else case, rule)
        return known

    @property
    def played(self) -> Mapping[tuple[Case, str], Figures]:
        """Everything so far."""
        return self._played


def play(case: Case, rule: str = PRODUCT) -> Figures:
    """Simulate all runs of a case."""
    figures = Figures()
    for run in range(1, case.runs + 1):
        setup = case.setup(run, told=rule in EXPIRING)
        if case.clients:
            simulation = Simulation(setup, make(rule, case))
            figures.add(simulation.run_clients(Clients(case.clients, case.stagger_ms, case.requests)))
            continue
        coming = case.arrivals(run)
        begin, factor, end = case.slower
        if begin:
            slower = (coming[begin].at_ns, factor, coming[end].at_ns if end else 0)
            setup = replace(setup, slower=slower)
        figures.add(Simulation(setup, make(rule, case)).run(coming))
    return figures


def make(rule: str, case: Case) -> Policy | None:
    """The policy of a rule; None for the product's own."""
    if is_fixed(rule):
        return references.Fixed(case.model, float(rule.removeprefix(FIXED).removesuffix(" ms")))
    return RULES[rule](case.model, case.slo_ms)


def is_fixed(rule: str) -> bool:
    """Whether a rule waits for a fixed time."""
    return rule.startswith(FIXED)
