"""The words of conversion: formats, precisions, runtimes, and the variants that a package holds.

A *variant* is one way to have a model in a format: ``trt-fp16``, ``torchscript-trace``. Its text is the name
of its folder in a workspace, the ending of the stored model's name, and what ``--to`` takes. Enumerations
read their values in any case and with ``_`` for ``-``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from frameworks.errors import FrameworkError


class _Named(StrEnum):
    """An enumeration that reads its values, and the names of its members, in any case."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        text = str(value).lower().replace("_", "-")
        for member in cls:
            if text in (member.value.lower(), member.name.lower().replace("_", "-")):
                return member
        return None


class Format(_Named):
    """A file format that a model can be exported or converted to."""

    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch-export"
    TORCH_AOTI = "torch-aoti"
    TORCH_TRT = "torch-trt"
    TF_SAVEDMODEL = "tf-savedmodel"
    TF_TRT = "tf-trt"
    ONNX = "onnx"
    TENSORRT = "trt"


class JitType(_Named):
    """How a module becomes TorchScript."""

    SCRIPT = "script"
    TRACE = "trace"


class Exporter(_Named):
    """How a module becomes ONNX: by ``torch.export`` (the default one) or by tracing."""

    DYNAMO = "dynamo"
    LEGACY = "legacy"


class TensorRTPrecision(_Named):
    """The arithmetic that TensorRT may use. Inputs and outputs keep their datatypes."""

    FP32 = "fp32"
    FP16 = "fp16"
    TF32 = "tf32"
    INT8 = "int8"


class RuntimeProvider(_Named):
    """What executes a variant. The values are onnxruntime's names, continued."""

    TRT = "TensorrtExecutionProvider"
    CUDA = "CUDAExecutionProvider"
    CPU = "CPUExecutionProvider"
    TF = "TensorFlowExecutionProvider"
    PYT = "PyTorchExecutionProvider"


class Status(_Named):
    """Where a step stands. ``skipped``: something it needs is not here; ``no-op``: not begun."""

    OK = "ok"
    FAIL = "fail"
    SKIPPED = "skipped"
    NOOP = "no-op"


class UnknownVariant(FrameworkError):
    """A target is no format that anything is converted to (FAILED_PRECONDITION)."""

    reason = "unknown_format"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to have a model in a format."""

    format: Format
    jit: JitType | None = None
    precision: TensorRTPrecision | None = None
    exporter: Exporter | None = None

    def __str__(self) -> str:
        """Return its name, such as ``onnx``, ``onnx-legacy``, ``torchscript-trace`` or ``trt-fp16``."""
        parts = [self.format.value]
        if self.exporter is Exporter.LEGACY:
            parts.append(self.exporter.value)
        parts += [part.value for part in (self.jit, self.precision) if part is not None]
        return "-".join(parts)

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Return the variant of a name.

        Raises:
            UnknownVariant: there is none; the nearest name is proposed.
        """
        found = _BY_NAME.get(text.lower().replace("_", "-"))
        if found is None:
            raise _unknown(text)
        return found


def _variants() -> list[Variant]:
    found: list[Variant] = []
    for form in Format:
        match form:
            case Format.TORCHSCRIPT:
                found += [Variant(form, jit=jit) for jit in JitType]
            case Format.TORCH_TRT | Format.TF_TRT | Format.TENSORRT:
                found += [Variant(form, precision=precision) for precision in TensorRTPrecision]
            case Format.ONNX:
                found += [Variant(form), Variant(form, exporter=Exporter.LEGACY)]
            case _:
                found.append(Variant(form))
    return found


VARIANTS: Final[tuple[Variant, ...]] = tuple(_variants())
"""Every variant, in the order in which reports show them."""

_BY_NAME: Final = {str(variant): variant for variant in VARIANTS}


def select(targets: Iterable[str | Format | Variant]) -> tuple[Variant, ...]:
    """Return the variants that targets mean, in report order; a format means all of its variants.

    Raises:
        UnknownVariant: a target is neither a format nor a variant; the nearest name is proposed.
    """
    wanted: set[Variant] = set()
    for target in targets:
        if isinstance(target, Variant):
            wanted.add(target)
            continue
        try:
            form = Format(target)
        except ValueError:
            wanted.add(Variant.parse(str(target)))
        else:
            wanted.update(variant for variant in VARIANTS if variant.format is form)
    return tuple(variant for variant in VARIANTS if variant in wanted)


def _unknown(text: str) -> UnknownVariant:
    known = list(dict.fromkeys([*(form.value for form in Format), *_BY_NAME]))
    near = difflib.get_close_matches(text.lower(), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return UnknownVariant(f"no format is named {text!r}; {hint}", field="to")
