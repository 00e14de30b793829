"""Building a plan from an ONNX graph; used when a model is saved, converted, or rebuilt for another card.

``tensorrt`` builds for the card of the machine and needs one; ``tensorrt_rtx`` builds anywhere.

Source: TensorRT's documentation; where an interface fails without an exception, and what it says then, was
seen with tensorrt_rtx 1.7. A parser does not keep its network alive, so that both are held here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from frameworks.arrays import Arrays
from frameworks.convert.formats import TensorRTPrecision
from frameworks.errors import InvalidModel, MissingFramework
from frameworks.gpu import Gpu
from frameworks.trt import cuda as tensorrt_cuda
from frameworks.trt import module as tensorrt_module
from frameworks.trt import profile as tensorrt_profile
from frameworks.trt.plan import BuildSettings
from store import TensorSpec
from store.signature import DYNAMIC

DATATYPES: Final[Mapping[str, str]] = {
    "FLOAT": "FP32",
    "HALF": "FP16",
    "BF16": "BF16",
    "INT8": "INT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "UINT8": "UINT8",
    "BOOL": "BOOL",
}
"""Names of ``tensorrt.DataType`` to ours; it has more, which callers cannot send."""

NEEDS_GPU: Final = (
    "TensorRT needs an NVIDIA GPU to build and to run engines: the driver library libcuda.so.1 is not on "
    "this machine, or it finds no card. Convert on the machine that serves the model, or install the extra "
    "'tensorrt-rtx', which builds for workstation cards without one"
)

_MAX_PARSER_ERRORS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A new plan.

    Args:
        plan: its bytes.
        inputs: what it takes.
        outputs: what it returns.
    """

    plan: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def require_builder(module: ModuleType, gpu: Gpu | None) -> None:
    """Make sure that a library can build plans on this machine.

    Raises:
        MissingFramework: it needs a card, and there is none.
    """
    if gpu is None and tensorrt_module.library(module) != tensorrt_module.RTX:
        raise MissingFramework(NEEDS_GPU, field="device")


def prepare(
    graph: Path, settings: BuildSettings, module: ModuleType | None, samples: Sequence[Arrays], folder: Path
) -> tuple[Path, BuildSettings]:
    """Bring a graph into the precision of the settings where a flag of the builder does not do it.

    Args:
        graph: file of the graph.
        settings: see ``BuildSettings``.
        module: the library that will build; None when that is not known yet.
        samples: inputs for the quantisation to eight bits.
        folder: where a rewritten graph is put.

    Returns:
        The graph to build from, and the settings for it.

    Raises:
        InvalidModel: the graph cannot be rewritten, or samples are lacking.
        MissingFramework: a library that is needed for it is not installed.
    """
    precision = settings.precision
    if settings.typed or precision not in (TensorRTPrecision.FP16, TensorRTPrecision.INT8):
        return graph, settings
    by_flag = module is None or not tensorrt_module.is_strongly_typed(module)
    if precision is TensorRTPrecision.FP16 and by_flag:
        return graph, settings
    from frameworks.trt import precision as tensorrt_precision  # needs libraries that serving does not

    target = folder / f"{precision}.onnx"
    if precision is TensorRTPrecision.FP16:
        tensorrt_precision.to_fp16(graph, target)
    else:
        tensorrt_precision.to_int8(graph, target, samples)
    return target, dataclasses.replace(settings, typed=True)


def build(graph: bytes | Path, settings: BuildSettings, module: ModuleType, gpu: Gpu | None) -> Built:
    """Build a plan.

    Args:
        graph: path of an ``.onnx`` file or its bytes; in the precision of the settings already where the
            library takes precision from the graph.
        settings: see ``BuildSettings``.
        module: the library.
        gpu: the card to build on; None for a library that needs none.

    Raises:
        InvalidModel: TensorRT cannot read the graph or has no kernels for it, or the profile does not fit.
        MissingFramework: the library needs a card.
    """
    require_builder(module, gpu)
    if gpu is not None and gpu.index:  # the builder takes the thread's card, which is the first one
        tensorrt_cuda.Cuda(tensorrt_cuda.runtime(), gpu.index)
    logger, messages = tensorrt_module.logger(module)
    messages.forget()
    builder = module.Builder(logger)
    if builder is None:
        raise InvalidModel(f"TensorRT cannot start its builder: {messages.text()}", field="model")
    network = builder.create_network(0)
    _parse(module, graph, network, logger, messages)
    inputs = _specs([network.get_input(index) for index in range(network.num_inputs)])
    outputs = _specs([network.get_output(index) for index in range(network.num_outputs)])
    tensorrt_profile.check(settings.profile, inputs)
    messages.forget()
    config = builder.create_builder_config()
    _set_precision(module, config, settings)
    if settings.max_workspace_bytes is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, settings.max_workspace_bytes)
    _set_capabilities(module, config, settings.capabilities)
    _set_profile(builder, config, settings, messages)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InvalidModel(f"TensorRT cannot build the model: {messages.text()}", field="model")
    return Built(plan=bytes(plan), inputs=inputs, outputs=outputs)


def _parse(module: ModuleType, graph: bytes | Path, network: Any, logger: Any, messages: Any) -> None:
    parser = module.OnnxParser(network, logger)
    read = parser.parse(graph) if isinstance(graph, bytes) else parser.parse_from_file(str(graph))
    if read:
        return
    errors = [parser.get_error(index) for index in range(min(parser.num_errors, _MAX_PARSER_ERRORS))]
    said = "; ".join(map(_describe, errors)) or messages.text()
    raise InvalidModel(f"TensorRT cannot read the ONNX model: {said}", field="model")


def _describe(error: Any) -> str:
    where = ""
    if error.node() >= 0:
        operator = getattr(error, "node_operator", None)
        where = f"node {error.node()}{f' ({operator()})' if operator else ''}: "
    return f"{where}{error.desc()} [{error.code()}]"


def _specs(tensors: list[Any]) -> tuple[TensorSpec, ...]:
    specs = []
    for tensor in tensors:
        datatype = DATATYPES.get(tensor.dtype.name)
        if datatype is None:
            raise InvalidModel(
                f"tensor {tensor.name!r} is {tensor.dtype.name} in TensorRT, which callers cannot send; "
                "export the model with FP32 inputs and outputs",
                field=tensor.name,
            )
        if tensor.is_shape_tensor and tensor.is_network_input:
            raise InvalidModel(
                f"input {tensor.name!r} decides on the shapes of other tensors, for which a profile of "
                "values would be needed; export the model so that it takes shapes from its inputs' own",
                field=tensor.name,
            )
        specs.append(TensorSpec(tensor.name, datatype, tuple(max(DYNAMIC, size) for size in tensor.shape)))
    return tuple(specs)


def _set_precision(module: ModuleType, config: Any, settings: BuildSettings) -> None:
    """Set the flags that the library has; those that it lacks are in the graph."""
    flags = module.BuilderFlag
    if settings.precision is TensorRTPrecision.FP32:
        config.clear_flag(flags.TF32)  # it is on from the start
    elif settings.precision is TensorRTPrecision.TF32:
        config.set_flag(flags.TF32)  # where the card lacks it, FP32 is used
    elif tensorrt_module.is_strongly_typed(module):
        if not settings.typed:
            raise InvalidModel(
                "this TensorRT takes precision from the graph, and the graph is not in "
                f"{settings.precision}: prepare the graph first",
                field="precision",
            )
    elif settings.precision is TensorRTPrecision.FP16:
        config.set_flag(flags.FP16)
    else:
        config.set_flag(flags.INT8)


def _set_capabilities(module: ModuleType, config: Any, capabilities: tuple[str, ...]) -> None:
    if not capabilities:
        return
    known = getattr(module, "ComputeCapability", None)
    if known is None or not hasattr(config, "set_compute_capability"):
        raise InvalidModel(
            f"{tensorrt_module.library(module)} builds for the card of this machine; leave out capabilities",
            field="capabilities",
        )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        found = getattr(known, f"SM{capability.replace('.', '')}", None)
        if found is None or not config.set_compute_capability(found, index):
            names = ", ".join(sorted(name for name in dir(known) if name.startswith("SM")))
            raise InvalidModel(
                f"there is no compute capability {capability!r} for {tensorrt_module.library(module)}; it "
                f"knows {names}",
                field="capabilities",
            )


def _set_profile(builder: Any, config: Any, settings: BuildSettings, messages: Any) -> None:
    if not settings.profile:
        return
    profile = builder.create_optimization_profile()
    for name, shapes in settings.profile.items():
        profile.set_shape(name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise InvalidModel(f"TensorRT refuses the profile: {messages.text()}", field="profile")
