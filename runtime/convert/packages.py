"""Packages as functions: save, load, profile."""

from __future__ import annotations

import logging
from pathlib import Path

from frameworks.convert import package
from frameworks.convert.orders import Progress
from frameworks.convert.workspace import Workspace
from runtime.convert import repeating
from runtime.convert.arguments import DEFAULT_WORKDIR
from runtime.convert.descriptor import PackageDescriptor
from runtime.convert.profiler_config import ProfilerConfig

_logger = logging.getLogger(__name__)


def save(
    package_descriptor: PackageDescriptor,
    path: str | Path,
    keep_workdir: bool = True,
    override: bool = False,
    save_data: bool = True,
) -> None:
    """Write an export's results into a ``.nav`` package; see ``PackageDescriptor.save``."""
    package_descriptor.save(path, keep_workdir, override, save_data)


def load(
    path: str | Path,
    workdir: str | Path | None = None,
    override_workdir: bool = False,
    retest_conversions: bool = True,
    run_profiling: bool | None = None,
    profiler_config: ProfilerConfig | None = None,
    *,
    progress: Progress | None = None,
) -> PackageDescriptor:
    """Unpack a package into a workspace, and test it on this machine.

    Args:
        path: of the package.
        workdir: where the workspace is made; default ``navigator_workdir`` in the current folder.
        override_workdir: replace a workspace of that model.
        retest_conversions: make, on this machine, what can be made of the variants in the package and would
            not come out the same, and verify every variant. A package without samples cannot be tested; that
            is logged.
        run_profiling: measure too; None measures where a ``profiler_config`` is given.
        profiler_config: what to measure.
        progress: told of each step.

    Raises:
        InvalidPackage: it is no package, or damaged; nothing was changed.
        PathTaken: the workspace exists and is not to be replaced.
        InvalidRecord: its ``status.yaml`` is wrong.
    """
    folder = package.unpack(
        Path(path).expanduser(), Path(workdir or DEFAULT_WORKDIR).expanduser(), override=override_workdir
    )
    descriptor = PackageDescriptor(Workspace(folder))
    wanted = profiler_config is not None if run_profiling is None else run_profiling
    config = (profiler_config or ProfilerConfig()) if wanted else None
    if not retest_conversions:
        if config is not None:
            descriptor.profile(config, progress=progress)
        return descriptor
    if not repeating.has_samples(descriptor.workspace):
        _logger.warning("package_not_tested path=%s reason=it came without samples", path)
        return descriptor
    repeating.retest(descriptor.workspace, descriptor.report, config, progress)
    return PackageDescriptor(descriptor.workspace)


def profile(package_descriptor: PackageDescriptor, profiler_config: ProfilerConfig | None = None) -> None:
    """Measure what a package holds, at each batch size; see ``PackageDescriptor.profile``."""
    package_descriptor.profile(profiler_config)
