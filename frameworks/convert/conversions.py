"""Makes variants: each after what it starts from, each once, and not again where nothing has changed."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import cast

from frameworks.convert import graph
from frameworks.convert.context import Context, digest
from frameworks.convert.formats import Status, Variant
from frameworks.convert.graph import Edge, Start
from frameworks.convert.plainform import to_plain
from frameworks.convert.records import Conversion, Outcome
from frameworks.convert.work import ARTIFACTS
from store.plain import Plain


class Conversions:
    """The conversions of one run.

    Args:
        context: the run.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._edges = graph.edges(context.report.module)
        self._obtained: set[Variant] = set()

    def obtain(self, variant: Variant) -> Conversion:
        """Return a conversion, made now unless it is there; the report has it.

        Raises:
            NotConvertible: the source cannot become that.
        """
        report = self._context.report
        if variant in self._obtained:
            return report.conversions[variant]
        edge = graph.edge(report.module, variant)
        self._obtained.add(variant)
        if self._context.model is None and None in edge.starts and variant in report.conversions:
            self._context.passed_over()  # it stays as it came with the package
            return self._settled(report.conversions[variant])
        self._context.total += variant not in self._context.targets
        conversion = report.conversions.setdefault(variant, Conversion(variant=variant))
        starts = list(islice(filter(self._is_there, edge.starts), 1))  # the rest need not be made
        if not starts:
            self._skip(conversion, edge)
        elif self._is_current(conversion, self._key(edge, starts[0])):
            self._context.passed_over()
        else:
            self._make(conversion, edge, starts[0])
        return self._settled(conversion)

    def _settled(self, conversion: Conversion) -> Conversion:
        """Take the executions of what is not there off the count."""
        variant = conversion.variant
        if conversion.outcome.status is not Status.OK and variant in self._context.targets:
            self._context.passed_over(self._context.executions(variant))
        return conversion

    def _is_there(self, start: Start) -> bool:
        """Return whether something can be started from; what can be made of something else is made."""
        context = self._context
        if start is None:
            return context.model is not None
        if context.model is None and None in self._edges[start].starts:  # it came with the package, or not
            known = context.report.conversions.get(start)
            return known is not None and known.digest == context.workspace.digest(start) != ""
        return self.obtain(start).outcome.status is Status.OK

    def _is_current(self, conversion: Conversion, key: str) -> bool:
        return (
            conversion.key == key
            and conversion.outcome.status is Status.OK
            and conversion.digest == self._context.workspace.digest(conversion.variant)
        )

    def _skip(self, conversion: Conversion, edge: Edge) -> None:
        names = " or ".join(str(start or "the source model") for start in edge.starts)
        conversion.outcome = Outcome(
            status=Status.SKIPPED, reason="no_start", message=f"it is made of {names}, which is not there"
        )
        self._context.told("convert", str(conversion.variant), conversion.outcome)
        self._context.save()

    def _make(self, conversion: Conversion, edge: Edge, start: Start) -> None:
        context, variant = self._context, conversion.variant
        aside = context.workspace.aside(variant)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        work = self._work(variant, start, aside / ARTIFACTS[variant.format])
        outcome = context.step("convert", str(variant), "make", {"step": self._step(edge), "work": work})
        if outcome.status is Status.OK:
            shutil.rmtree(context.workspace.folder(variant), ignore_errors=True)
            aside.rename(context.workspace.folder(variant))
        else:
            shutil.rmtree(aside)
            if context.model is None and outcome.status is Status.SKIPPED and conversion.digest:
                return  # it stays as it came with the package, made where the tools were
        conversion.start, conversion.key, conversion.outcome = start, self._key(edge, start), outcome
        conversion.executions, conversion.methods, conversion.digest = {}, (), ""
        if outcome.status is Status.OK:
            made = outcome.facts
            conversion.methods = tuple(cast("list[str]", made["methods"]))
            conversion.digest = context.workspace.digest(variant)
            outcome.facts = cast("dict[str, Plain]", made["facts"])
        context.save()

    def _work(self, variant: Variant, start: Start, target: Path) -> dict[str, Plain]:
        context = self._context
        return {
            "variant": str(variant),
            "start": str(start) if start else None,
            "model": context.source_subject() if context.model is not None else None,
            "artifact": str(context.workspace.artifact(start)) if start else None,
            "target": str(target),
            "signatures": to_plain(context.signatures),
            "samples": str(context.workspace.inputs),
            "settings": to_plain(context.order.settings),
        }

    def _key(self, edge: Edge, start: Start) -> str:
        context = self._context
        before = context.report.conversions[start].digest if start is not None else context.source_key
        return digest(context.base, before, self._step(edge), to_plain(context.order.settings))

    def _step(self, edge: Edge) -> str:
        return self._context.order.steps.get(edge.variant, edge.step)
