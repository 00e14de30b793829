"""What both exports do: samples, source, run, one ``config.yaml`` per format, and a descriptor of it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from frameworks.convert.orders import Order
from frameworks.convert.run import run
from frameworks.convert.samples import Samples, collect
from frameworks.convert.staging import check_free, staged
from frameworks.convert.workspace import Workspace
from runtime.convert import checkout, source
from runtime.convert.arguments import Asked
from runtime.convert.descriptor import PackageDescriptor
from runtime.convert.profiler_config import MEASURE
from runtime.convert.source import Source


def export(model: Source, dataloader: object, asked: Asked) -> PackageDescriptor:
    """Export, convert, verify and measure a model.

    Args:
        model: the source.
        dataloader: has ``len()`` and ``iter()``; see ``frameworks.convert.samples.collect``.
        asked: the arguments, checked.

    Raises:
        PathTaken: the workspace exists and is not to be replaced.
        InvalidSamples: the dataloader's items cannot be used.
        SampleFailed: the model cannot execute them.
        FrameworkError: the model cannot be saved.
    """
    check_free(asked.workspace, override=asked.override)
    samples = collect(
        dataloader,
        names=asked.input_names or _names(dataloader, model),
        batch_dim=asked.batch_dim,
        count=asked.sample_count,
        convert=model.convert,
    )
    with staged(asked.workspace, override=asked.override) as folder:
        workspace = Workspace(folder)
        samples.save(workspace.inputs)
        tag = source.save(model, samples, asked, workspace.source_store()).tag
    workspace = Workspace(asked.workspace)
    saved = workspace.source_store().get(tag)
    report = run(
        workspace,
        _order(asked, samples),
        model=saved,
        signatures=saved.info.signatures,
        progress=asked.progress or _nobody,
    )
    if asked.git:
        report.git_info = checkout.describe(Path.cwd())
        workspace.save_report(report)
    return PackageDescriptor(workspace)


def _order(asked: Asked, samples: Samples) -> Order:
    settings = asked.settings
    if asked.batch_dim is not None:
        settings = replace(settings, max_batch_size=max(settings.max_batch_size, samples.batch_size))
    profiler = asked.profiler and asked.profiler.for_dataloader(samples.batch_size)
    return Order(
        targets=asked.targets,
        providers=asked.providers,
        settings=settings,
        limits=asked.limits,
        measure=MEASURE if profiler else "",
        measure_settings=profiler.to_settings() if profiler else {},
    )


def _names(dataloader: object, model: Source) -> tuple[str, ...] | None:
    """Return names for the tensors of the items; None where they have their own, or nothing is known."""
    try:
        first = next(iter(dataloader), None)  # type: ignore[call-overload]
    except TypeError:
        return None  # no dataloader: collecting says what is wrong with it
    if first is None or isinstance(first, Mapping):
        return None
    return model.names(len(first) if isinstance(first, tuple | list) else 1)


def _nobody(_: object) -> None:
    pass
