"""The conversion graph: what each kind of source can become, by which step and from which other variant.

Plain data; new paths are new lines here. A step may start from several variants: the first that could be made
is taken. ``None`` is the source model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from frameworks.convert.formats import Exporter, Format, JitType, TensorRTPrecision, Variant
from frameworks.convert.work import NotConvertible

Start = Variant | None


@dataclass(frozen=True, slots=True)
class Edge:
    """One step of the graph.

    Args:
        variant: what it makes.
        starts: what it can be made of, the best first.
        step: ``module:function`` that makes it.
    """

    variant: Variant
    starts: tuple[Start, ...]
    step: str


_STEPS: Final = "frameworks.convert.steps"
_ONNX: Final = Variant(Format.ONNX)
_ONNX_LEGACY: Final = Variant(Format.ONNX, exporter=Exporter.LEGACY)
_SCRIPT: Final = Variant(Format.TORCHSCRIPT, jit=JitType.SCRIPT)
_TRACE: Final = Variant(Format.TORCHSCRIPT, jit=JitType.TRACE)
_EXPORT: Final = Variant(Format.TORCH_EXPORT)
_AOTI: Final = Variant(Format.TORCH_AOTI)
_SAVED_MODEL: Final = Variant(Format.TF_SAVEDMODEL)
_SOURCE: Final = (None,)


def _each_precision(form: Format, starts: tuple[Start, ...], step: str) -> Iterator[Edge]:
    for precision in TensorRTPrecision:
        yield Edge(Variant(form, precision=precision), starts, f"{_STEPS}.{step}")


def _tensorrt(*starts: Start) -> Iterator[Edge]:
    return _each_precision(Format.TENSORRT, starts, "tensorrt:convert")


_TORCH: Final = (
    Edge(_SCRIPT, _SOURCE, f"{_STEPS}.torch:script"),
    Edge(_TRACE, _SOURCE, f"{_STEPS}.torch:trace"),
    Edge(_EXPORT, _SOURCE, f"{_STEPS}.torch:export"),
    Edge(_AOTI, (_EXPORT,), f"{_STEPS}.torch:aoti"),
    *_each_precision(Format.TORCH_TRT, _SOURCE, "torch:torch_trt"),
    Edge(_ONNX, _SOURCE, f"{_STEPS}.torch:onnx"),
    Edge(_ONNX_LEGACY, _SOURCE, f"{_STEPS}.torch:onnx_legacy"),
    *_tensorrt(_ONNX, _ONNX_LEGACY),
)

_EDGES: Final[Mapping[str, tuple[Edge, ...]]] = {
    "pytorch": _TORCH,
    "transformers": _TORCH,
    "torchscript": (
        Edge(_ONNX_LEGACY, _SOURCE, f"{_STEPS}.torch:onnx_legacy"),
        *_tensorrt(_ONNX_LEGACY),
    ),
    "torch_export": (
        Edge(_AOTI, _SOURCE, f"{_STEPS}.torch:aoti"),
        Edge(_ONNX, _SOURCE, f"{_STEPS}.torch:onnx"),
        *_tensorrt(_ONNX),
    ),
    "tensorflow": (
        Edge(_SAVED_MODEL, _SOURCE, f"{_STEPS}.tensorflow:saved_model"),
        *_each_precision(Format.TF_TRT, (_SAVED_MODEL,), "tensorflow:tf_trt"),
        Edge(_ONNX, (_SAVED_MODEL,), f"{_STEPS}.tensorflow:onnx"),
        *_tensorrt(_ONNX),
    ),
    "onnx": tuple(_tensorrt(None)),
    "sklearn": (Edge(_ONNX, _SOURCE, f"{_STEPS}.trees:sklearn_onnx"),),
    "xgboost": (Edge(_ONNX, _SOURCE, f"{_STEPS}.trees:xgboost_onnx"),),
    "lightgbm": (Edge(_ONNX, _SOURCE, f"{_STEPS}.trees:lightgbm_onnx"),),
}

SOURCES: Final[tuple[str, ...]] = tuple(_EDGES)
"""Adapters whose models can be converted."""


def edges(module: str) -> Mapping[Variant, Edge]:
    """Return the steps for the sources of an adapter, by what they make, in report order.

    Raises:
        NotConvertible: nothing can be made of them; the adapters of which something can are listed.
    """
    found = _EDGES.get(module)
    if found is None:
        raise NotConvertible(
            f"models saved by {module!r} have no other format; those of {', '.join(SOURCES)} have",
            field="model",
        )
    return {edge.variant: edge for edge in found}


def edge(module: str, variant: Variant) -> Edge:
    """Return the step that makes a variant of the sources of an adapter.

    Raises:
        NotConvertible: there is none; what can be made is listed.
    """
    known = edges(module)
    if variant not in known:
        raise NotConvertible(
            f"a model saved by {module!r} cannot become {str(variant)!r}; it can become "
            f"{', '.join(map(str, known))}",
            field="to",
        )
    return known[variant]


def edge_between(start: Variant, variant: Variant) -> Edge:
    """Return the step that makes a variant of another one, whatever that was made of.

    Raises:
        NotConvertible: there is none.
    """
    for found in _EDGES.values():
        for one in found:
            if one.variant == variant and start in one.starts:
                return one
    raise NotConvertible(f"{str(start)!r} cannot become {str(variant)!r}", field="to")
