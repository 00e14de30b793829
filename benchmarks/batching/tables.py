"""The policies side by side, from what the bar has played."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from benchmarks import results
from benchmarks.batching.cases import PRODUCT, Case, is_fixed
from benchmarks.batching.figures import Figures

Played = Mapping[tuple[Case, str], Figures]

WITH_DEADLINES: Final = (
    PRODUCT, "greedy", "expire only", "bentoml", "nexus", "clockwork-like", "aimd", "deferred",
)  # fmt: skip


def closed_loop(played: Played) -> str:
    """Answers per second of clients that wait for them, and their p50."""
    rows = []
    for case in _cases(played, lambda case: case.clients > 0):
        delays = [figures for (its, rule), figures in played.items() if its == case and is_fixed(rule)]
        best = max(delays, key=lambda figures: figures.rate, default=None)
        each = [played[case, "greedy"], best, played[case, PRODUCT]]
        rows.append([case.name, *[f"{f.rate:,.0f} ({f.p50:.2f})" if f else "" for f in each]])
    return results.table(("case", "greedy", "the best fixed delay for it", PRODUCT), rows)


def deadlines(played: Played) -> str:
    """Per cent answered in time, of independent requests."""
    cases = [
        case
        for case in _cases(played, lambda case: case.slo_ms > 0 and case.process == "poisson")
        if all((case, rule) in played for rule in WITH_DEADLINES)
    ]
    rows = [[c.name, *[f"{100 * played[c, rule].in_time:.1f}" for rule in WITH_DEADLINES]] for c in cases]
    return results.table(("case", *WITH_DEADLINES), rows)


def _cases(played: Played, chosen: Callable[[Case], bool]) -> list[Case]:
    return [case for case, rule in played if rule == PRODUCT and chosen(case)]
