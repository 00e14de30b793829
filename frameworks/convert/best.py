"""Which variant to serve: chosen among those that were measured and whose answers are right.

Pure: a report in, a choice out. The source takes part, so that the answer may be "leave it as it is".

Rules
    Throughput counts rows per second of one caller. A bound of latency is one of the 99th percentile: what
    callers get is a promise about their slowest calls, not about half of them. Without a bound there are two
    answers, the least median latency of the smallest batch and the most rows per second. Equal figures go to
    the source first, then to the variant that reports show first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from frameworks.convert.formats import RuntimeProvider, Status, Variant
from frameworks.convert.records import Conversion, Execution, Performance, Report
from frameworks.errors import FrameworkError

SOURCE = "source"
"""Name of the source among the variants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One variant on one runtime at one batch size.

    Args:
        variant: None for the source.
        provider: what executed it.
        performance: its figures.
    """

    variant: Variant | None
    provider: RuntimeProvider
    performance: Performance

    @property
    def name(self) -> str:
        """Return the variant's name; ``source`` for the source."""
        return SOURCE if self.variant is None else str(self.variant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is best.

    Args:
        latency_ms: the bound that was asked for; None without one.
        fastest: least median latency at the smallest batch size that was measured; None when nothing was.
        throughput: most rows per second at any batch size, within the bound where there is one.
        nearest: where nothing keeps the bound: what misses it by least.
        speed_ups: variant and runtime to batch size to median of the source divided by that of the variant.
    """

    latency_ms: float | None = None
    fastest: Candidate | None = None
    throughput: Candidate | None = None
    nearest: Candidate | None = None
    speed_ups: dict[tuple[Variant, RuntimeProvider], dict[int, float]] = field(default_factory=dict)


def best(report: Report, *, latency_ms: float | None = None, unverified: bool = False) -> Choice:
    """Choose among the source and the variants of a report.

    Args:
        report: of the conversion.
        latency_ms: most that the 99th percentile of one execution may take; None for no bound.
        unverified: variants whose answers nobody has compared take part too; those with wrong answers never.

    Raises:
        FrameworkError: the bound is no time above 0.
    """
    if latency_ms is not None and not latency_ms > 0:
        raise FrameworkError(f"latency_ms must be above 0, not {latency_ms!r}", field="latency_ms")
    found = list(candidates(report, unverified=unverified))
    speed = speed_ups(report)
    if not found:
        return Choice(latency_ms=latency_ms, speed_ups=speed)
    smallest = min(one.performance.batch_size for one in found)
    alone = [one for one in found if one.performance.batch_size == smallest]
    within = [one for one in found if latency_ms is None or one.performance.p99_ms <= latency_ms]
    return Choice(
        latency_ms=latency_ms,
        fastest=min(alone, key=lambda one: one.performance.median_ms),
        throughput=max(within, key=lambda one: one.performance.rows_per_second, default=None),
        nearest=None if within else min(found, key=lambda one: one.performance.p99_ms),
        speed_ups=speed,
    )


def candidates(report: Report, *, unverified: bool = False) -> Iterator[Candidate]:
    """Yield what can be chosen, the source first; see ``best``."""
    for performance in report.source.performance:
        yield Candidate(variant=None, provider=report.source.provider, performance=performance)
    for variant, conversion in report.conversions.items():
        for execution in right(conversion, unverified=unverified):
            for performance in execution.performance:
                yield Candidate(variant=variant, provider=execution.provider, performance=performance)


def right(conversion: Conversion, *, unverified: bool = False) -> list[Execution]:
    """Return the runtimes on which a variant was made and answers rightly.

    Args:
        conversion: of the variant.
        unverified: runtimes on which nobody has compared its answers count too.
    """
    if conversion.outcome.status is not Status.OK:
        return []
    return [
        execution
        for execution in conversion.executions.values()
        if execution.verified
        or execution.outcome.status is Status.OK
        or (unverified and execution.outcome.status is not Status.FAIL)
    ]


def speed_ups(report: Report) -> dict[tuple[Variant, RuntimeProvider], dict[int, float]]:
    """Return how often faster than the source each variant is, by batch size; right or wrong ones."""
    source = {one.batch_size: one.median_ms for one in report.source.performance}
    return {
        (variant, provider): {
            one.batch_size: source[one.batch_size] / one.median_ms
            for one in execution.performance
            if one.batch_size in source and one.median_ms > 0
        }
        for variant, conversion in report.conversions.items()
        for provider, execution in conversion.executions.items()
    }
