"""What one conversion step is given and what it gives back; shared by the steps and by what runs them.

A step is a function ``(Work) -> Made`` in ``frameworks.convert.steps``. It runs in a process of its own,
writes ``work.target`` and may raise, hang or die: the others do not notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from frameworks.arrays import Arrays
from frameworks.convert.formats import Format, TensorRTPrecision, Variant
from frameworks.errors import FrameworkError
from store import Model, Signature
from store.plain import Plain

ARTIFACTS: Final[Mapping[Format, str]] = {
    Format.TORCHSCRIPT: "model.pt",
    Format.TORCH_EXPORT: "model.pt2",
    Format.TORCH_AOTI: "model.pt2",
    Format.TORCH_TRT: "model.pt2",
    Format.TF_SAVEDMODEL: "model.savedmodel",
    Format.TF_TRT: "model.savedmodel",
    Format.ONNX: "model.onnx",
    Format.TENSORRT: "model.plan",
}
"""Name of the file or folder that a variant's folder holds."""

ADAPTERS: Final[Mapping[Format, str]] = {
    Format.TORCHSCRIPT: "torchscript",
    Format.TORCH_EXPORT: "torch_export",
    Format.TORCH_AOTI: "torch_export",
    Format.TORCH_TRT: "torch_export",
    Format.TF_SAVEDMODEL: "tensorflow",
    Format.TF_TRT: "tensorflow",
    Format.ONNX: "onnx",
    Format.TENSORRT: "tensorrt",
}
"""The adapter that runs and saves it."""


class NotConvertible(FrameworkError):
    """The model has no form in the target format (FAILED_PRECONDITION)."""

    reason = "not_convertible"


class MissingTool(FrameworkError):
    """A library or a device that a step needs is not here; the step is skipped, not failed."""

    reason = "missing_tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a conversion can be told.

    Args:
        opset: ONNX opset; None takes the exporter's own default.
        max_batch_size: most rows that a result has to take along the batch axis, from 1 up.
        trt_axes: input name to axis to (least, usual, most) extent, for TensorRT's optimisation profile; axes
            left out are taken from the samples.
        max_workspace_bytes: memory that TensorRT may use while it looks for kernels; None is its own default.
        minimum_segment_size: fewest operations that TF-TRT turns into one engine.
        device: where sources are run: ``cpu`` or ``cuda:N``.
        atol: absolute tolerance of verification; None derives it from the precision.
        rtol: relative tolerance, likewise.
    """

    opset: int | None = None
    max_batch_size: int = 8
    trt_axes: Mapping[str, Mapping[int, tuple[int, int, int]]] = field(default_factory=dict)
    max_workspace_bytes: int | None = None
    minimum_segment_size: int = 3
    device: str = "cpu"
    atol: float | None = None
    rtol: float | None = None

    def __post_init__(self) -> None:
        if self.max_batch_size < 1:
            raise FrameworkError(
                f"max_batch_size must be at least 1, not {self.max_batch_size}", field="max_batch_size"
            )
        for name in ("atol", "rtol"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise FrameworkError(f"{name} must be a number from 0 up, not {value!r}", field=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One step's task.

    Args:
        variant: what is to be made.
        start: what it is made of: another variant, or None for the source model.
        model: the source, as an adapter saved it; ``registry.adapter(model.info.module).load_model(model)``
            gives the framework's object. None where only a package is at hand; then ``start`` is set.
        artifact: file or folder of ``start``; None for the source model.
        target: file or folder to write, in a folder that exists.
        signatures: the methods to convert with all their specs. The result must take and return tensors of
            these names, datatypes and shapes: -1 stays dynamic. Where the method is batchable, its batch axes
            are -1 in each spec.
        samples: inputs of the first method, each as the model takes it: a single row along the batch axis,
            where it has one. At least one.
        extents: the same at other extents, which the source takes too: with them the samples span the dynamic
            axes, and the result has to take what is between.
        settings: see ``Settings``.
    """

    variant: Variant
    start: Variant | None
    model: Model | None
    artifact: Path | None
    target: Path
    signatures: Mapping[str, Signature]
    samples: tuple[Arrays, ...]
    settings: Settings
    extents: tuple[Arrays, ...] = ()

    @property
    def spanning(self) -> tuple[Arrays, ...]:
        """Samples of all extents that the result has to take."""
        return (*self.samples, *self.extents)

    @property
    def precision(self) -> TensorRTPrecision:
        """The precision asked for, FP32 where the variant has none."""
        return self.variant.precision or TensorRTPrecision.FP32


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a step has made.

    Args:
        methods: those of ``Work.signatures`` that the artifact has; the rest has no form in the format.
        facts: how it was made, for the record: versions of the tools, opset, exporter …
    """

    methods: tuple[str, ...]
    facts: Mapping[str, Plain] = field(default_factory=dict)
