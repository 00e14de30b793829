from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from frameworks import registry
from frameworks.convert import graph
from frameworks.convert.formats import (
    VARIANTS,
    Exporter,
    Format,
    JitType,
    RuntimeProvider,
    TensorRTPrecision,
    UnknownVariant,
    Variant,
    select,
)
from frameworks.convert.work import ADAPTERS, ARTIFACTS, NotConvertible

ONNX = Variant(Format.ONNX)


def functions_of(module: str) -> set[str]:
    """Read from the source, since importing it would import its framework."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    imported = [name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names]
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | {*imported}


FP16 = Variant(Format.TENSORRT, precision=TensorRTPrecision.FP16)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_each_variant_reads_its_own_name(variant: Variant) -> None:
    assert Variant.parse(str(variant)) == variant
    assert Variant.parse(str(variant).upper().replace("-", "_")) == variant


def test_names_of_variants_are_unique() -> None:
    assert len({str(variant) for variant in VARIANTS}) == len(VARIANTS)


def test_the_names_of_the_layout_are_kept() -> None:
    names = {str(variant) for variant in VARIANTS}
    assert names >= {
        "onnx",
        "trt-fp16",
        "trt-fp32",
        "torchscript-script",
        "torchscript-trace",
        "tf-savedmodel",
    }


@pytest.mark.parametrize(
    ("kind", "text", "member"),
    [
        (Format, "ONNX", Format.ONNX),
        (Format, "tensorrt", Format.TENSORRT),
        (Format, "tf_savedmodel", Format.TF_SAVEDMODEL),
        (JitType, "TRACE", JitType.TRACE),
        (TensorRTPrecision, "Fp16", TensorRTPrecision.FP16),
        (RuntimeProvider, "cpuexecutionprovider", RuntimeProvider.CPU),
        (RuntimeProvider, "trt", RuntimeProvider.TRT),
    ],
)
def test_enumerations_read_names_and_values_in_any_case(kind: type, text: str, member: object) -> None:
    assert kind(text) is member


def test_a_format_selects_all_its_variants_in_report_order() -> None:
    assert [str(variant) for variant in select(["onnx", Format.TORCHSCRIPT])] == [
        "torchscript-script",
        "torchscript-trace",
        "onnx",
        "onnx-legacy",
    ]


def test_an_unknown_target_proposes_the_nearest() -> None:
    with pytest.raises(UnknownVariant, match="did you mean 'onnx'"):
        select(["onx"])


def test_a_variant_is_selected_alone() -> None:
    legacy = Variant(Format.ONNX, exporter=Exporter.LEGACY)
    assert select(["onnx-legacy"]) == (legacy,)


@pytest.mark.parametrize("module", graph.SOURCES)
def test_each_step_is_there_and_each_start_can_be_made_before_it(module: str) -> None:
    assert module in registry.NAMES
    known = graph.edges(module)
    for edge in known.values():
        path, _, function = edge.step.partition(":")
        assert function in functions_of(path)
        assert all(start is None or start in known for start in edge.starts)


@pytest.mark.parametrize("form", Format)
def test_each_format_has_an_artifact_and_an_adapter(form: Format) -> None:
    assert ARTIFACTS[form]
    assert ADAPTERS[form] in registry.NAMES


def test_a_source_without_any_path_is_refused_with_those_that_have() -> None:
    with pytest.raises(NotConvertible, match="'python' have no other format; those of pytorch"):
        graph.edges("python")


def test_a_path_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotConvertible, match="'sklearn' cannot become 'trt-fp16'; it can become onnx"):
        graph.edge("sklearn", FP16)


def test_a_variant_is_found_from_another_one() -> None:
    assert graph.edge_between(ONNX, FP16).variant == FP16
    with pytest.raises(NotConvertible, match="'trt-fp16' cannot become 'onnx'"):
        graph.edge_between(FP16, ONNX)
