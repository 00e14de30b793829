"""Runs again over what is there: measuring anew, and testing a package on another machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from frameworks import gpu
from frameworks.convert import graph
from frameworks.convert.formats import Format
from frameworks.convert.orders import Order, Progress
from frameworks.convert.plainform import from_plain
from frameworks.convert.records import Execution, Outcome, Report
from frameworks.convert.run import run
from frameworks.convert.samples import Samples
from frameworks.convert.work import Settings
from frameworks.convert.workspace import Workspace
from frameworks.errors import FrameworkError
from runtime.convert.choosing import VariantUnavailable, is_good
from runtime.convert.profiler_config import MEASURE, ProfilerConfig
from store import Model

_OF_ONE_MACHINE: Final = frozenset({Format.TENSORRT, Format.TF_TRT, Format.TORCH_TRT, Format.TORCH_AOTI})


class NoSamples(FrameworkError):
    """A package came without samples, and something needs them (FAILED_PRECONDITION)."""

    reason = "no_samples"


def source_of(workspace: Workspace) -> Model | None:
    """Return the source model, where the workspace holds it."""
    return next(iter(workspace.source_store().list()), None)


def measure(
    workspace: Workspace, report: Report, config: ProfilerConfig | None, progress: Progress | None
) -> Report:
    """Measure every variant that answers rightly; what is verified already is not verified again.

    Raises:
        NoSamples: there is nothing to measure with.
        VariantUnavailable: there is nothing to measure.
    """
    if not has_samples(workspace):
        raise NoSamples(
            f"{workspace.path} has no samples to measure with; save the package with save_data=True",
            field="save_data",
        )
    good = [variant for variant, conversion in report.conversions.items() if is_good(conversion)]
    if not good:
        raise VariantUnavailable("no variant was made and answers rightly; there is nothing to measure")
    if source_of(workspace) is None:  # what was made of the source is measured without being asked for
        known = graph.edges(report.module)
        good = [variant for variant in good if None not in known[variant].starts]
    for execution in (report.source, *_executions(report)):
        execution.performance_outcome = Outcome()  # measured anew, even with the same settings
    providers = tuple(dict.fromkeys(execution.provider for execution in _executions(report)))
    order = Order(targets=tuple(good), providers=providers, settings=_settings(report))
    return _again(workspace, report, order, config or ProfilerConfig(), progress)


def retest(
    workspace: Workspace, report: Report, config: ProfilerConfig | None, progress: Progress | None
) -> Report:
    """Convert what can be made of what is there, and verify everything, on this machine.

    A variant that would come out the same is not made again: source, samples, settings and library versions
    are as they were, and it is not bound to the machine that made it. It keeps what its owner has verified.

    Args:
        workspace: holds samples and answers.
        report: what is known; the verdicts of other machines are given up.
        config: what to measure; None for nothing.
        progress: told of each step.
    """
    for variant, conversion in report.conversions.items():
        if variant.format in _OF_ONE_MACHINE:
            conversion.key = ""
    for execution in _executions(report):
        execution.key = ""
        execution.performance_outcome = Outcome()
    settings = _settings(report)
    if gpu.find_gpu() is None:
        settings = replace(settings, device="cpu")
    return _again(workspace, report, Order(settings=settings), config, progress)


def has_samples(workspace: Workspace) -> bool:
    """Return whether the workspace holds samples and the source's answers to them."""
    return workspace.inputs.is_dir() and workspace.outputs.is_dir()


def _again(
    workspace: Workspace,
    report: Report,
    order: Order,
    config: ProfilerConfig | None,
    progress: Progress | None,
) -> Report:
    workspace.save_report(report)  # what is to be repeated
    if config is not None:
        told = config.for_dataloader(Samples.load(workspace.inputs).batch_size).to_settings()
        order = replace(order, measure=MEASURE, measure_settings=told)
    return run(
        workspace,
        order,
        model=source_of(workspace),
        signatures=report.signatures,
        progress=progress or (lambda _: None),
    )


def _executions(report: Report) -> list[Execution]:
    return [
        execution
        for conversion in report.conversions.values()
        for execution in conversion.executions.values()
    ]


def _settings(report: Report) -> Settings:
    """Return the settings of the conversions, as they were asked for."""
    found = report.settings.get("conversion")
    return Settings() if found is None else from_plain(Settings, found, "settings.conversion")
