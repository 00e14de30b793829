"""Executes the source and what became of it: reference answers, verification, speed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from frameworks.convert import providers
from frameworks.convert.context import Context, digest
from frameworks.convert.formats import Status, Variant
from frameworks.convert.place import Place
from frameworks.convert.plainform import from_plain, to_plain
from frameworks.convert.records import Conversion, Difference, Execution, Invariance, Outcome, Performance
from frameworks.convert.samples import KINDS
from store.plain import Plain


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What ``stages.check`` returns."""

    passed: bool
    message: str
    outputs: dict[str, Difference] = field(default_factory=dict)
    invariance: dict[str, Invariance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What ``stages.measure`` returns."""

    performance: list[Performance]


class Executions:
    """The executions of one run.

    Args:
        context: the run.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        axes = to_plain(context.order.settings.trt_axes)  # they change which extents are tried
        self._key: Final = digest(context.base, axes)

    def answer(self) -> bool:
        """Keep the source's answers to the samples, unless they are there; return whether they are."""
        context, source = self._context, self._context.report.source
        kept = (context.workspace.outputs / KINDS[0]).is_dir()
        if context.model is None:
            if not kept:
                source.outcome = Outcome(
                    status=Status.SKIPPED,
                    reason="no_samples",
                    message="the package came without samples, so nothing can be converted or compared",
                )
            return kept
        if kept and source.key == context.source_key and source.outcome.facts.get("key") == self._key:
            context.passed_over()
            return True
        source.key = context.source_key
        source.outcome = context.step(
            "source",
            context.report.model_name,
            "answer",
            {
                **context.common(context.source_place()),
                "subject": context.source_subject(),
                "outputs": str(context.workspace.outputs),
                "settings": to_plain(context.order.settings),
            },
        )
        source.outcome.facts = {"key": self._key}
        context.save()
        return source.outcome.status is Status.OK

    def verify(self, conversion: Conversion) -> None:
        """Compare a conversion that went well with the reference answers, on every runtime."""
        context = self._context
        if conversion.outcome.status is not Status.OK:
            return
        for provider in context.runtimes(conversion.variant):
            execution = conversion.executions.setdefault(provider, Execution(provider=provider))
            settings = context.order.settings
            key = digest(conversion.digest, self._key, settings.atol, settings.rtol, settings.max_batch_size)
            if execution.key == key and execution.outcome.status is Status.OK:
                context.passed_over()
            else:
                execution.key = key
                self._verify(conversion, execution)
                if execution.outcome.status is not Status.OK:
                    context.passed_over(bool(context.order.measure))

    def measure_source(self) -> None:
        """Measure the source, where it is at hand."""
        context = self._context
        if context.model is not None:
            name = f"the source on {context.report.source.provider}"
            self._measure(context.report.source, context.source_subject(), context.source_place(), name)

    def measure(self, conversion: Conversion) -> None:
        """Measure what has been verified, or where nobody asked for that, everything that was made."""
        context, variant = self._context, conversion.variant
        if conversion.outcome.status is Status.OK and not context.order.verify:
            for provider in context.runtimes(variant):
                conversion.executions.setdefault(provider, Execution(provider=provider))
        good = {Status.OK} if context.order.verify else {Status.OK, Status.NOOP}
        for provider, execution in conversion.executions.items():
            if conversion.outcome.status is not Status.OK or execution.outcome.status not in good:
                continue
            if next(iter(context.signatures)) not in conversion.methods:  # whose inputs the samples are
                context.passed_over()
                continue
            place = context.place(variant, provider)
            self._measure(execution, context.variant_subject(variant), place, f"{variant} on {provider}")

    def _verify(self, conversion: Conversion, execution: Execution) -> None:
        context, variant, provider = self._context, conversion.variant, execution.provider
        subject = f"{variant} on {provider}"
        execution.outputs, execution.invariance, execution.performance = {}, {}, []
        execution.performance_outcome = Outcome()
        if not self._can_run(variant, execution):
            context.told("verify", subject, execution.outcome)
            context.save()
            return
        execution.outcome = context.step(
            "verify",
            subject,
            "check",
            {
                **context.common(context.place(variant, provider), conversion.methods),
                "subject": context.variant_subject(variant),
                "outputs": str(context.workspace.outputs),
                "first": next(iter(context.signatures)),
                "precision": variant.precision.value if variant.precision else None,
                "settings": to_plain(context.order.settings),
            },
            judge=lambda outcome: _judge(outcome, execution),
        )
        context.save()

    def _can_run(self, variant: Variant, execution: Execution) -> bool:
        if self._context.has_gpu or not providers.needs_gpu(variant, execution.provider):
            return True
        execution.outcome = Outcome(
            status=Status.SKIPPED,
            reason="missing_tool",
            message=f"{execution.provider} {providers.NO_GPU}",
        )
        return False

    def _measure(self, execution: Execution, subject: dict[str, Plain], place: Place, name: str) -> None:
        context = self._context
        settings = dict(context.order.measure_settings)
        key = digest(context.base, execution.key, settings)
        known = execution.performance_outcome
        if known.status is Status.OK and known.facts.get("key") == key:
            context.passed_over()
            return
        outcome = context.step(
            "profile",
            name,
            "measure",
            {
                **context.common(place, [next(iter(context.signatures))]),
                "subject": subject,
                "function": context.order.measure,
                "settings": settings,
            },
        )
        execution.performance = from_plain(_Measured, outcome.facts).performance if outcome.facts else []
        outcome.facts = {"key": key}
        execution.performance_outcome = outcome
        context.save()


def _judge(outcome: Outcome, execution: Execution) -> None:
    """Take in what a verification found; one that found too much did not go well."""
    found = from_plain(_Found, outcome.facts)
    execution.outputs, execution.invariance = found.outputs, found.invariance
    outcome.facts, outcome.message = {}, found.message
    if not found.passed:
        outcome.status, outcome.reason = Status.FAIL, "differs"
