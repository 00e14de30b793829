"""Finds what a question about formats means in a report: which variant, on which runtime, and why not.

Pure: reports in, records out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from frameworks.convert.formats import (
    Exporter,
    Format,
    JitType,
    RuntimeProvider,
    Status,
    TensorRTPrecision,
)
from frameworks.convert.records import Conversion, Execution, Outcome, Report
from frameworks.errors import FrameworkError
from runtime.convert.reading import enum


class VariantUnavailable(FrameworkError):
    """A variant, or a runtime for it, is not there; the message says why (FAILED_PRECONDITION)."""

    reason = "variant_unavailable"


@dataclass(frozen=True, slots=True)
class Question:
    """Which variants of a format are meant; None means any.

    Args:
        format: of the variants.
        jit: how a module became TorchScript.
        precision: of TensorRT.
        exporter: how a module became ONNX.
    """

    format: Format
    jit: JitType | None = None
    precision: TensorRTPrecision | None = None
    exporter: Exporter | None = None

    @classmethod
    def read(
        cls,
        format: Format | str,
        jit_type: JitType | str | None = None,
        precision: TensorRTPrecision | str | None = None,
        exporter: Exporter | str | None = None,
    ) -> Self:
        """Read names in any case.

        Raises:
            InvalidArguments: one is unknown; the nearest is proposed.
        """
        return cls(
            enum(Format, format),
            None if jit_type is None else enum(JitType, jit_type),
            None if precision is None else enum(TensorRTPrecision, precision),
            None if exporter is None else enum(Exporter, exporter),
        )

    def find(self, report: Report) -> list[Conversion]:
        """Return the conversions that are meant, in report order."""
        return [conversion for conversion in report.of(self.format) if self._means(conversion)]

    def _means(self, conversion: Conversion) -> bool:
        variant = conversion.variant
        exporter = variant.exporter or Exporter.DYNAMO
        return (
            (self.jit is None or variant.jit is self.jit)
            and (self.precision is None or variant.precision is self.precision)
            and (self.exporter is None or exporter is self.exporter)
        )

    def __str__(self) -> str:
        """Return it as people say it."""
        parts = (self.exporter, self.jit, self.precision)
        return " ".join([self.format.value, *(part.value for part in parts if part is not None)])


def is_good(conversion: Conversion, provider: RuntimeProvider | None = None) -> bool:
    """Return whether a conversion went well, and its answers are not known to be wrong.

    Args:
        conversion: any.
        provider: ask for this runtime only; it must have been verified there.
    """
    if conversion.outcome.status is not Status.OK:
        return False
    if provider is not None:
        execution = conversion.executions.get(provider)
        return execution is not None and _is_right(execution)
    found = conversion.executions.values()
    return any(map(_is_right, found)) or not any(one.outcome.status is Status.FAIL for one in found)


def made(question: Question, report: Report) -> Conversion:
    """Return the first conversion that was made, rightly answering ones before others.

    Raises:
        VariantUnavailable: there is none; the reason of each is told.
    """
    found = question.find(report)
    there = [one for one in found if one.outcome.status is Status.OK]
    if not there:
        raise VariantUnavailable(f"{question} is not available: {_reasons(found, report)}", field="format")
    return next((one for one in there if is_good(one)), there[0])


def executed(conversion: Conversion, provider: RuntimeProvider | None = None) -> Execution:
    """Return a runtime of a conversion: the one that is asked for, else the first that answers rightly.

    Raises:
        VariantUnavailable: it is not there, or cannot run; the reason is told.
    """
    variant, found = conversion.variant, conversion.executions
    if provider is not None:
        execution = found.get(provider)
        if execution is None:
            names = ", ".join(found) or "none"
            raise VariantUnavailable(
                f"{variant} was not tried on {provider}; the runtimes are: {names}", field="runtime"
            )
        if not _can_run(execution):
            raise VariantUnavailable(
                f"{variant} cannot run on {provider}: {_say(execution.outcome)}", field="runtime"
            )
        return execution
    right = next((one for one in found.values() if _is_right(one)), None)
    runs = next((one for one in found.values() if _can_run(one)), None)
    chosen = right or runs
    if chosen is None:
        why = "; ".join(f"{name}: {_say(one.outcome)}" for name, one in found.items())
        raise VariantUnavailable(f"no runtime can run {variant}: {why or 'none was tried'}", field="runtime")
    return chosen


def latency_ms(conversions: Iterable[Conversion]) -> float | None:
    """Return the least median of the smallest batch that was measured; None where nothing was.

    Only what is known to answer rightly, or was not verified, counts.
    """
    found = [
        performance
        for conversion in conversions
        if conversion.outcome.status is Status.OK
        for execution in conversion.executions.values()
        if execution.verified or execution.outcome.status is not Status.FAIL
        for performance in execution.performance
    ]
    smallest = min((one.batch_size for one in found), default=0)
    return min((one.median_ms for one in found if one.batch_size == smallest), default=None)


def _is_right(execution: Execution) -> bool:
    return execution.verified or execution.outcome.status is Status.OK


def _can_run(execution: Execution) -> bool:
    """Return whether it ran, or nobody has tried; wrong answers are answers."""
    outcome = execution.outcome
    return outcome.status in (Status.OK, Status.NOOP) or outcome.reason == "differs"


def _reasons(found: list[Conversion], report: Report) -> str:
    if not found:
        others = ", ".join(str(variant) for variant in report.conversions) or "nothing"
        return f"it was not asked for; the package has {others}"
    return "; ".join(f"{one.variant}: {_say(one.outcome)}" for one in found)


def _say(outcome: Outcome) -> str:
    return f"{outcome.status}: {outcome.message}" if outcome.message else outcome.status.value
