"""Torch-TensorRT: a program of which a GPU's own engines run what they can, and torch the rest.

The engines work only on this kind of GPU and with this release of TensorRT.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from frameworks import base, gpu
from frameworks.convert.formats import TensorRTPrecision
from frameworks.convert.steps.torch_attempt import attempt, recorded, replacing, try_artifact
from frameworks.convert.steps.torch_exported import export_program, row_limit, versions
from frameworks.convert.steps.torch_shapes import LEAST, dynamic_shapes
from frameworks.convert.steps.torch_source import Source, source
from frameworks.convert.work import Made, MissingTool, NotConvertible, Work
from frameworks.pt.quiet import quiet
from frameworks.trt import profile as tensorrt_profile

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error


def torch_trt(work: Work) -> Made:
    """Compile for this machine's GPU: what TensorRT can run becomes its engines, the rest stays torch's.

    Raises:
        MissingTool: there is no NVIDIA GPU, or torch_tensorrt is not installed.
        NotConvertible: the precision cannot be had, or it cannot compile the model.
    """
    if gpu.find_gpu() is None:
        raise MissingTool(f"torch-trt needs an NVIDIA GPU and torch_tensorrt; {gpu.NO_GPU}", field="device")
    try:
        tensorrt = importlib.import_module("torch_tensorrt")
    except (ImportError, OSError) as error:
        raise MissingTool(
            "torch-trt needs an NVIDIA GPU and torch_tensorrt; install the release of torch_tensorrt that "
            f"goes with torch {torch.__version__}: {error}",
            field="torch_tensorrt",
        ) from error
    if work.precision is TensorRTPrecision.INT8:
        raise NotConvertible(
            "torch-trt makes int8 engines only of models that were quantized before; take fp16, or trt-int8",
            field="precision",
        )
    if not work.settings.device.startswith("cuda"):
        work = replace(work, settings=replace(work.settings, device="cuda"))
    found = source(work)
    program = export_program(found, work)
    inputs = [tensorrt.Input(**one) for one in input_ranges(work, found)]
    with recorded() as said:
        compiled = attempt(
            "torch_tensorrt",
            lambda: tensorrt.dynamo.compile(program, arg_inputs=inputs, **compile_settings(work)),
        )
    with replacing(work.target) as path:
        with quiet():
            tensorrt.save(
                compiled,
                str(path),
                output_format="exported_program",
                arg_inputs=list(found.example),
                dynamic_shapes=dynamic_shapes(found.signature, work.settings.max_batch_size),
            )
        try_artifact(work, found.method, found.signature, path)
    facts = {**versions(), "torch_tensorrt": str(tensorrt.__version__), "precision": work.precision.value}
    return Made(
        methods=(found.method,),
        facts={**facts, **row_limit(work, found.signature, program), "warnings": list(said)},
    )


def input_ranges(work: Work, found: Source) -> list[dict[str, Any]]:
    """Return the range of each input's shapes, and its datatype."""
    # The example, with which the result is tried, has two rows.
    rows = max(work.settings.max_batch_size, LEAST)
    ranges = tensorrt_profile.derive(found.signature, work.spanning, rows, work.settings.trt_axes)
    inputs = []
    for spec, tensor in zip(found.signature.inputs or (), found.example, strict=True):
        least, usual, most = ranges.get(spec.name, (tuple(tensor.shape),) * 3)
        inputs.append({"min_shape": least, "opt_shape": usual, "max_shape": most, "dtype": tensor.dtype})
    return inputs


def compile_settings(work: Work) -> dict[str, object]:
    """Return a precision in torch_tensorrt's words: types are explicit there, so halves are cast in."""
    half = work.precision is TensorRTPrecision.FP16
    settings: dict[str, object] = {
        "use_explicit_typing": True,
        "disable_tf32": work.precision is TensorRTPrecision.FP32,
        "workspace_size": work.settings.max_workspace_bytes or 0,
    }
    return {**settings, "enable_autocast": True, "low_precision_type": torch.float16} if half else settings
