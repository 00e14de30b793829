"""The arguments of an export: what the user gave, and what it comes to.

All problems of one call are told together, before anything is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast

from frameworks.convert import graph
from frameworks.convert.formats import (
    VARIANTS,
    Format,
    JitType,
    RuntimeProvider,
    TensorRTPrecision,
    Variant,
    select,
)
from frameworks.convert.isolate import Limits
from frameworks.convert.orders import Progress
from frameworks.convert.staging import workspace_path
from frameworks.convert.work import Settings
from frameworks.errors import FrameworkError
from runtime.convert import reading
from runtime.convert.profiler_config import ProfilerConfig
from runtime.convert.reading import InvalidArguments, enums, several
from store import StoreError, Tag

DEFAULT_WORKDIR: Final = "navigator_workdir"
DEFAULT_NAME: Final = "navigator_model"
MAX_BATCH_SIZE: Final = 8
"""Rows that results take along the batch axis when nobody asks for more."""

_Value = TypeVar("_Value")

FormatLike: TypeAlias = "Format | str"
TargetLike: TypeAlias = "Format | Variant | str"
JitTypeLike: TypeAlias = "JitType | str"
PrecisionLike: TypeAlias = "TensorRTPrecision | str"
ProviderLike: TypeAlias = "RuntimeProvider | str"
Formats: TypeAlias = "TargetLike | Iterable[TargetLike] | None"
JitTypes: TypeAlias = "JitTypeLike | Iterable[JitTypeLike] | None"
Precisions: TypeAlias = "PrecisionLike | Iterable[PrecisionLike] | None"
Providers: TypeAlias = "ProviderLike | Iterable[ProviderLike] | None"
DynamicAxes: TypeAlias = "Mapping[str, Mapping[int, str] | Sequence[int]]"
TrtAxes: TypeAlias = "Mapping[str, Mapping[int, tuple[int, int, int]]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The arguments of both exports, as they were given.

    Args:
        model_name: lower case; names the workspace. Default ``navigator_model``.
        opset: of ONNX; None for the exporter's own.
        target_formats: formats, or variants such as ``onnx-legacy``, to make; None for all that there are.
        jit_options: ``script``, ``trace``; None for both.
        workdir: where the workspace is made; default ``navigator_workdir`` in the current folder.
        override_workdir: replace a workspace that exists, which is an error otherwise.
        sample_count: samples kept for verification; default 100.
        atol, rtol: tolerances, absolute and relative to the source's answer; None derives them from the
            precision.
        input_names: of the tensors of an item, in order; None for their own, or the parameters' names.
        output_names: in the order in which the model returns them.
        dynamic_axes: tensor name to axes that differ from call to call, as ``torch.onnx.export`` takes them;
            those that differ between samples are found without.
        trt_dynamic_axes: input name to axis to (least, usual, most) extent.
        target_precisions: of TensorRT; None for all.
        max_workspace_size: bytes that TensorRT may use while it builds.
        minimum_segment_size: fewest operations that TF-TRT turns into one engine.
        target_device: ``cpu`` (default) or ``cuda:N``, where models are executed.
        disable_git_info: do not remember the commit of the current folder.
        batch_dim: axis of the rows; None for a model without.
        onnx_runtimes: what executes ONNX; None for all that are here.
        run_profiling: measure speed.
        profiler_config: what to measure.
        limits: time and memory of each step.
        providers: another word for ``onnx_runtimes``.
        progress: told at the beginning and the end of each step.

    Enumerations may be given by name, in any case, and one instead of several.
    """

    model_name: str | None = None
    opset: int | None = None
    target_formats: Formats = None
    jit_options: JitTypes = None
    workdir: str | Path | None = None
    override_workdir: bool = False
    sample_count: int | None = None
    atol: float | None = None
    rtol: float | None = None
    input_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    dynamic_axes: DynamicAxes | None = None
    trt_dynamic_axes: TrtAxes | None = None
    target_precisions: Precisions = None
    max_workspace_size: int | None = None
    minimum_segment_size: int = 3
    target_device: str | None = None
    disable_git_info: bool = False
    batch_dim: int | None = 0
    onnx_runtimes: Providers = None
    run_profiling: bool = True
    profiler_config: ProfilerConfig | None = None
    limits: Limits | None = None
    providers: Providers = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of an export, read and checked.

    Args:
        model_name: valid in a store.
        workspace: folder to make.
        override: replace it.
        targets: variants to make; none for all that can be made.
        providers: runtimes of ONNX; none for all.
        settings: of the conversions; ``max_batch_size`` without the dataloader's.
        limits: of each step.
        sample_count: samples for correctness; None is the default of ``samples.collect``.
        input_names, output_names: None where they are to be found out.
        dynamic_axes: tensor name to axes, for inputs and outputs.
        batch_dim: batch axis of inputs and outputs; None for a model without.
        git: remember the caller's checkout.
        profiler: None for no profiling.
        progress: told of each step; None for nobody.
    """

    model_name: str
    workspace: Path
    override: bool
    targets: tuple[Variant, ...]
    providers: tuple[RuntimeProvider, ...]
    settings: Settings
    limits: Limits
    sample_count: int | None
    input_names: tuple[str, ...] | None
    output_names: tuple[str, ...] | None
    dynamic_axes: Mapping[str, frozenset[int]]
    batch_dim: int | None
    git: bool
    profiler: ProfilerConfig | None
    progress: Progress | None


def gather(arguments: Mapping[str, Any]) -> Given:
    """Return those of a call's arguments that are fields, by the same names."""
    names = [field.name for field in fields(Given)]
    return Given(**{name: arguments[name] for name in names if name in arguments})


def check(given: Given, module: str) -> Asked:
    """Read and check an export's arguments.

    Args:
        given: what the user gave.
        module: adapter of the source model.

    Raises:
        InvalidArguments: one or more are wrong; each is named with what is expected.
    """
    problems: list[str] = []

    def read(name: str, reader: Callable[[], _Value]) -> _Value:
        try:
            return reader()
        except (FrameworkError, StoreError) as error:
            problems.append(f"{name}: {error.message}")
            return cast(_Value, None)  # never used: the problem ends the call

    name = read("model_name", lambda: Tag(given.model_name or DEFAULT_NAME).name)
    runtimes = given.providers if given.onnx_runtimes is None else given.onnx_runtimes
    if given.providers is not None and given.onnx_runtimes is not None:
        problems.append("providers: onnx_runtimes says the same; give one of them")
    for setting in ("opset", "max_workspace_size", "minimum_segment_size"):
        read(setting, partial(reading.whole, getattr(given, setting), 1))
    asked = Asked(
        model_name=name,
        workspace=workspace_path(Path(given.workdir or DEFAULT_WORKDIR), name),
        override=given.override_workdir,
        targets=read("target_formats", lambda: _targets(given, module)),
        providers=read("onnx_runtimes", lambda: enums(RuntimeProvider, runtimes) or ()),
        settings=read("settings", lambda: _settings(given)),
        limits=given.limits or Limits(),
        sample_count=read("sample_count", lambda: reading.whole(given.sample_count, 1)),
        input_names=read("input_names", lambda: reading.names(given.input_names)),
        output_names=read("output_names", lambda: reading.names(given.output_names)),
        dynamic_axes=read("dynamic_axes", lambda: reading.axes(given.dynamic_axes)),
        batch_dim=read("batch_dim", lambda: reading.whole(given.batch_dim, 0)),
        git=not given.disable_git_info,
        profiler=(given.profiler_config or ProfilerConfig()) if given.run_profiling else None,
        progress=given.progress,
    )
    if problems:
        raise InvalidArguments(
            "the export cannot be made: " + "; ".join(problems), field=problems[0].partition(":")[0]
        )
    return asked


def _targets(given: Given, module: str) -> tuple[Variant, ...]:
    """Return the variants that are asked for; () where nothing narrows the choice."""
    formats = several(given.target_formats)
    jits = enums(JitType, given.jit_options)
    precisions = enums(TensorRTPrecision, given.target_precisions)
    if formats is None and jits is None and precisions is None:
        return ()
    known = graph.edges(module)
    wanted = VARIANTS if formats is None else select(formats)
    for form in dict.fromkeys(variant.format for variant in wanted) if formats is not None else ():
        if not any(variant.format is form for variant in known):
            can = ", ".join(dict.fromkeys(variant.format.value for variant in known))
            raise InvalidArguments(f"this model cannot become {form.value!r}; it can become {can}")
    chosen = tuple(
        variant
        for variant in wanted
        if variant in known
        and (variant.jit is None or jits is None or variant.jit in jits)
        and (variant.precision is None or precisions is None or variant.precision in precisions)
    )
    if not chosen:
        raise InvalidArguments("jit_options and target_precisions leave nothing of these formats")
    return chosen


def _settings(given: Given) -> Settings:
    axes = reading.trt_axes(given.trt_dynamic_axes)
    rows = [extents[given.batch_dim][2] for extents in axes.values() if given.batch_dim in extents]
    profiler = given.profiler_config or ProfilerConfig()
    return Settings(
        opset=given.opset,
        max_batch_size=max(MAX_BATCH_SIZE, *rows, *(profiler.batch_sizes or (1,))),
        trt_axes=axes,
        max_workspace_bytes=given.max_workspace_size,
        minimum_segment_size=given.minimum_segment_size,
        device=given.target_device or "cpu",
        atol=reading.tolerance("atol", given.atol),
        rtol=reading.tolerance("rtol", given.rtol),
    )
