"""Export of PyTorch models: ``runtime.convert.torch.export``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from frameworks import base
from frameworks.calling import Parameters
from frameworks.convert.isolate import Limits
from frameworks.convert.orders import Progress
from runtime.convert import arguments
from runtime.convert import export as exporting
from runtime.convert.arguments import DynamicAxes, Formats, JitTypes, Precisions, Providers, TrtAxes
from runtime.convert.descriptor import PackageDescriptor
from runtime.convert.profiler_config import ProfilerConfig
from runtime.convert.reading import InvalidArguments
from runtime.convert.runner import threads
from runtime.convert.source import Source

if TYPE_CHECKING:
    import torch


def export(  # noqa: PLR0913, PLR0917 -- the arguments of the interface that it stands for
    model: torch.nn.Module | torch.export.ExportedProgram,
    dataloader: object,
    model_name: str | None = None,
    opset: int | None = None,
    target_formats: Formats = None,
    jit_options: JitTypes = None,
    workdir: str | Path | None = None,
    override_workdir: bool = False,
    sample_count: int | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_axes: DynamicAxes | None = None,
    trt_dynamic_axes: TrtAxes | None = None,
    target_precisions: Precisions = None,
    max_workspace_size: int | None = None,
    target_device: str | None = None,
    disable_git_info: bool = False,
    batch_dim: int | None = 0,
    onnx_runtimes: Providers = None,
    run_profiling: bool = True,
    profiler_config: ProfilerConfig | None = None,
    *,
    limits: Limits | None = None,
    providers: Providers = None,
    progress: Progress | None = None,
    external_modules: Sequence[ModuleType] = (),
) -> PackageDescriptor:
    """Export a model to every format, verify each against the model, and measure them.

    A format that cannot be made is a line in the report, not an error. The model is left as it is. Arguments
    other than ``model`` and ``external_modules`` (modules whose code goes with it, where other processes
    cannot import them) are those of ``runtime.convert.arguments.Given``.

    Raises:
        InvalidArguments: arguments make no sense; all that is wrong is told.
        FrameworkError: see ``runtime.convert.export.export``.
    """
    given = arguments.gather(locals())
    source = source_of(model, tuple(external_modules))
    return exporting.export(source, dataloader, arguments.check(given, source.module))


def source_of(model: Any, external_modules: tuple[ModuleType, ...] = ()) -> Source:
    """Return the model with what its kind needs.

    Raises:
        InvalidArguments: it is no model of torch.
    """
    try:
        import torch

        from frameworks.pt.tensors import to_array
    except ModuleNotFoundError as error:
        raise base.missing("torch", "torch") from error
    if isinstance(model, torch.jit.ScriptModule):
        forward: Any = model.forward  # Python's own inspection does not see its parameters
        module, known = "torchscript", tuple(one.name for one in forward.schema.arguments)[1:]
    elif isinstance(model, torch.export.ExportedProgram):
        module, known = "torch_export", tuple(model.graph_signature.user_inputs)
    elif isinstance(model, torch.nn.Module):
        module, known = "pytorch", Parameters.of(model.forward).names
    else:
        raise InvalidArguments(
            f"model must be a torch.nn.Module, ScriptModule or ExportedProgram, not {type(model).__name__}",
            field="model",
        )
    return Source(
        module=module,
        model=model,
        convert=to_array,
        names=partial(_names, known),
        threads=threads(),
        external_modules=external_modules,
    )


def _names(known: Sequence[object], count: int) -> tuple[str, ...]:
    """Return the first parameters' names, or ``input_0`` … when there are too few, as the adapters do."""
    if len(known) >= count:
        return tuple(str(name) for name in known[:count])
    return tuple(f"input_{index}" for index in range(count))
