"""Drives a whole run: reference answers, conversions, verification, speed, each in a process of its own.

Whatever fails is a line in the report; the rest goes on. The report is written after each step, so that a run
that was interrupted is taken up where it stood: what went well under the same key (source, samples, settings,
library versions) is not repeated.

Concurrency: one run at a time in a workspace; steps run one after the other.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from frameworks.convert import environment, graph, providers, variant_config
from frameworks.convert.context import Context
from frameworks.convert.conversions import Conversions
from frameworks.convert.executions import Executions
from frameworks.convert.formats import VARIANTS, Variant
from frameworks.convert.orders import Event, Order, Progress
from frameworks.convert.plainform import to_plain
from frameworks.convert.records import Execution, Report
from frameworks.convert.work import NotConvertible
from frameworks.convert.workspace import Workspace
from store import Model, Signature

__all__ = ["Event", "Order", "Progress", "run"]


def run(
    workspace: Workspace,
    order: Order,
    *,
    model: Model | None,
    signatures: Mapping[str, Signature],
    progress: Progress = lambda _: None,
) -> Report:
    """Convert, verify and measure a model.

    Args:
        workspace: holds the samples already.
        order: what is asked for.
        model: the source; None where only a package is at hand. Then only what starts from a variant of the
            package can be made anew, everything in it is verified, and the answers that came with it are the
            reference.
        signatures: the methods to convert, with all specs; samples are inputs of the first.
        progress: told at the beginning and the end of each step, in the calling thread.

    Returns:
        The report, which also stands in the workspace.

    Raises:
        NotConvertible: nothing can be made of such a source, or not what was asked for, or it has no specs.
        WorkspaceBusy: another run is at work there.
        InvalidRecord: the workspace's report is damaged.
    """
    _check(signatures)
    with workspace.occupied():
        report = _begin(workspace, order, model, signatures)
        known = graph.edges(report.module)
        for target in order.targets:
            graph.edge(report.module, target)
        targets = order.targets or tuple(known if model is not None else report.conversions)
        context = Context(
            workspace,
            order,
            model=model,
            signatures=signatures,
            report=report,
            targets=targets,
            progress=progress,
        )
        context.total = _count(context)
        context.save()
        _work_through(context)
        context.save()
        variant_config.write_all(workspace, report)
        return report


def _work_through(context: Context) -> None:
    executions, conversions = Executions(context), Conversions(context)
    if not executions.answer():
        return
    for target in context.targets:
        conversions.obtain(target)
    made = context.report.conversions
    context.report.conversions = {variant: made[variant] for variant in VARIANTS if variant in made}
    chosen = [made[variant] for variant in _executed(context)]
    if context.order.verify:
        for conversion in chosen:
            executions.verify(conversion)
    if context.order.measure:
        executions.measure_source()
        for conversion in chosen:
            executions.measure(conversion)


def _executed(context: Context) -> list[Variant]:
    """Return what is to be verified and measured: the targets, and of a package all that is in it."""
    known = context.report.conversions
    in_package = () if context.model is not None else [variant for variant in known if known[variant].digest]
    return [variant for variant in VARIANTS if variant in context.targets or variant in in_package]


def _count(context: Context) -> int:
    """Return how many steps there are if every one can be done."""
    at_hand = context.model is not None
    answers = at_hand + (at_hand and bool(context.order.measure))
    return answers + len(context.targets) + sum(map(context.executions, _executed(context)))


def _begin(
    workspace: Workspace, order: Order, model: Model | None, signatures: Mapping[str, Signature]
) -> Report:
    """Return the report that is there, or a new one, with what this run knows."""
    report = workspace.load_report()
    if report is None or (model is not None and report.module != model.info.module):
        if model is None:
            raise NotConvertible(f"{workspace.path} holds no conversion yet", field="workdir")
        report = Report(
            model_name=model.info.name,
            uuid=str(uuid.uuid4()),
            module=model.info.module,
            signatures=signatures,
            source=Execution(provider=providers.of_source(model.info.module)),
        )
    report.signatures = dict(signatures)
    report.environment = {**report.environment, **environment.describe()}
    report.settings = {
        **report.settings,
        "targets": [str(target) for target in order.targets],
        "conversion": to_plain(order.settings),
        "profiler": dict(order.measure_settings),
    }
    return report


def _check(signatures: Mapping[str, Signature]) -> None:
    if not signatures:
        raise NotConvertible("there is no method to convert", field="method")
    for name, signature in signatures.items():
        if signature.inputs is None or signature.outputs is None:
            raise NotConvertible(
                f"method {name!r} has no tensor specs; save the model with sample=, from which they are read",
                field=f"signatures.{name}",
            )
