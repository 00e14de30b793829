"""Drives the search for the highest rate that keeps the limit, and confirms what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.cli import profile_plan
from runtime.cli.profile_measure import Bench, Measured
from runtime.errors import NotReady
from runtime.profiling.search import SloSearch, Trial, parse_sweep

if TYPE_CHECKING:
    from runtime.cli.profile_plan import Limit, Plan
    from runtime.profiling.recording import Deck

CONFIRM: Final = (0.95, 1.05)
"""What the answer is multiplied with for the two runs that confirm it."""

LOWEST_SHARE: Final = 0.25
HIGHEST_TIMES: Final = 256
"""Without --rate the search is between this share and this multiple of what one caller alone achieves."""

PROBE_S: Final = 2.0

TRIES: Final = 3
"""How often a rate is measured at most until the generator is not the limit: what else runs on the machine
may have disturbed it once, and a search would end there."""


def search(bench: Bench, plan: Plan, options: Mapping[str, Any], labels: Mapping[str, Any]) -> Measured:
    """Find the highest rate that keeps the limit, then measure a little below and above it.

    Raises:
        BadParameter: ``--rate`` is no range.
        NotReady: the server answered nothing in the probe for the range.
    """
    if plan.limit is None:
        raise click.UsageError("--search needs --slo-ms")
    if len(plan.rows) != 1:
        raise click.UsageError("--search takes one setting of --rows")
    label, mix = plan.rows[0]
    deck = bench.deck(plan, mix)
    named = {"rows": label, **labels}
    low, high = _bounds(bench, deck, options)
    found = Measured()
    machine = SloSearch(plan.limit.percentile, plan.limit.slo_ms, low, high, options["resolution"])
    while (rate := machine.next_rate) is not None:
        trial = _try(bench, deck, rate, named, found, plan.limit, options)
        machine.tell(trial)
        bench.note(f"search: {_told(trial, plan.limit)}")
    result = machine.result()
    confirmed = []
    for factor in CONFIRM if result.rate else ():
        near = float(f"{(result.rate or 0.0) * factor:.4g}")
        trial = _try(bench, deck, near, {**named, "confirms": factor}, found, plan.limit, options)
        keeps = trial.share is not None and trial.share.value >= plan.limit.percentile / 100
        confirmed.append({**trial.to_dict(), "factor": factor, "keeps": keeps})
    found.search = {
        "percentile": plan.limit.percentile,
        "limit_ms": plan.limit.slo_ms,
        **result.to_dict(),
        "confirmed": confirmed,
    }
    return found


def _try(
    bench: Bench,
    deck: Deck,
    rate: float,
    labels: dict[str, Any],
    found: Measured,
    limit: Limit,
    options: Mapping[str, Any],
) -> Trial:
    """Measure one rate; the last of its runs is added to what was found."""
    for _ in range(TRIES):
        once = bench.once(profile_plan.open_load(options, rate), deck, labels, limit.slo_ms)
        if not once.runs[0].invalid:
            break
    found.add(once)
    return Trial.of(once.runs[0], rate, limit.slo_ms)


def _bounds(bench: Bench, deck: Deck, options: Mapping[str, Any]) -> tuple[float, float]:
    """Return the range of the search: that of ``--rate``, or one around what a single caller achieves."""
    if options["rate"]:
        low, _, high = options["rate"].partition(":")
        try:
            return parse_sweep(low)[0], parse_sweep(high or low)[-1]
        except ValueError as error:
            raise click.BadParameter(f"{error}; with --search it is LOW:HIGH", param_hint="--rate") from error
    alone = profile_plan.closed_load(options, 1)
    probe = replace(alone, duration_s=min(PROBE_S, alone.duration_s), count=0)
    achieved = bench.once(probe, deck, {"probe": True}).runs[0].total.achieved
    if achieved <= 0:
        raise NotReady("the server answered none of the calls that were to find the range of the search")
    return max(1.0, achieved * LOWEST_SHARE), max(1.0, achieved * HIGHEST_TIMES)


def _told(trial: Trial, limit: Limit) -> str:
    share = "nothing due" if trial.share is None else f"{trial.share.value:.2%} within {limit.slo_ms:g} ms"
    return f"{trial.rate:g}/s: {share}{', INVALID' if trial.invalid else ''}"
