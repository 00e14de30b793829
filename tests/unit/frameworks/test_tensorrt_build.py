from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from onnx import TensorProto, helper

from frameworks import InvalidModel
from frameworks.convert.formats import TensorRTPrecision
from frameworks.errors import MissingFramework
from frameworks.trt import build as tensorrt_build
from frameworks.trt import module as tensorrt_module
from frameworks.trt.build import Built, build, prepare
from frameworks.trt.plan import BuildSettings
from store import TensorSpec
from tests.support.fake_tensorrt import GPU, FakeCuda, fake_tensorrt
from tests.support.tensorrt_graphs import arrays, attention, cnn, graph_of, identity, mlp, value

RTX = tensorrt_module.find("tensorrt_rtx")
FP16 = TensorRTPrecision.FP16


def rows(shape: tuple[int, ...], most: int = 8) -> BuildSettings:
    return BuildSettings(profile={"x": ((1, *shape), (most, *shape), (most, *shape))})


def make(model: Any, settings: BuildSettings) -> Built:
    return build(model.SerializeToString(), settings, RTX, None)


def test_an_mlp_is_built_for_a_dynamic_batch() -> None:
    built = make(mlp(), rows((16,)))
    assert len(built.plan) > 1000
    assert built.inputs == (TensorSpec("x", "FP32", (-1, 16)),)
    assert built.outputs == (TensorSpec("y", "FP32", (-1, 10)),)


def test_a_cnn_is_built_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cnn.onnx"
    path.write_bytes(cnn().SerializeToString())
    shapes = ((1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8))
    settings = BuildSettings(profile={"image": shapes}, max_workspace_bytes=1 << 28)
    assert len(build(path, settings, RTX, None).plan) > 1000


def test_attention_is_built_for_dynamic_rows_and_lengths() -> None:
    settings = BuildSettings(profile={"x": ((1, 1, 16), (4, 8, 16), (8, 32, 16))}, precision="tf32")
    assert make(attention(), settings).outputs[0].shape[2] == 16


def test_a_plan_is_built_for_the_capabilities_that_are_named() -> None:
    plan = make(mlp(), replace(rows((16,)), capabilities=("8.9", "12.0"))).plan
    assert len(plan) > 1000
    with pytest.raises(InvalidModel, match=r"no compute capability '9\.0'.*SM89") as caught:
        make(mlp(), replace(rows((16,)), capabilities=("9.0",)))
    assert caught.value.field == "capabilities"


def test_bytes_that_are_no_graph_are_refused_with_the_parsers_words() -> None:
    with pytest.raises(InvalidModel, match=r"cannot read the ONNX model: .*MODEL_DESERIALIZE_FAILED"):
        build(b"junk" * 10, BuildSettings(), RTX, None)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot read the ONNX model"):
        build(tmp_path / "none.onnx", BuildSettings(), RTX, None)


def test_an_operator_without_kernels_is_named() -> None:
    unknown = graph_of(
        [helper.make_node("Nope", ["x"], ["y"])], [value("x", ("n", 3))], [value("y", ("n", 3))]
    )
    with pytest.raises(InvalidModel, match=r"node 0 \(Nope\)"):
        make(unknown, rows((3,)))


def test_a_dynamic_input_without_a_profile_is_named() -> None:
    with pytest.raises(InvalidModel, match=r"input 'x' has the shape \[-1, 16\]: give its least") as caught:
        make(mlp(), BuildSettings())
    assert caught.value.field == "profile.x"


def test_a_profile_that_contradicts_the_network_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"has the shape \[1, 4\]; the graph takes \[-1, 16\]"):
        make(mlp(), rows((4,)))


def test_what_only_the_builder_finds_is_told_in_its_words() -> None:
    """Within the profile the shapes of the two inputs can never be added."""
    add = graph_of(
        [helper.make_node("Add", ["x", "z"], ["y"])],
        [value("x", ("n", 3)), value("z", ("m", 3))],
        [value("y", ("k", 3))],
    )
    shapes = {"x": ((2, 3), (2, 3), (2, 3)), "z": ((5, 3), (5, 3), (5, 3))}
    with pytest.raises(InvalidModel, match=r"cannot build the model: .+Error Code"):
        make(add, BuildSettings(profile=shapes))


@pytest.mark.parametrize(("kind", "name"), [("INT16", "INT16"), ("STRING", "STRING")])
def test_a_datatype_that_tensorrt_lacks_is_named(kind: str, name: str) -> None:
    with pytest.raises(InvalidModel, match=r"data ?type|date type"):
        make(identity(getattr(TensorProto, kind)), rows((3,)))


def test_a_datatype_that_callers_cannot_send_is_refused_by_name() -> None:
    with pytest.raises(InvalidModel, match="tensor 'x' is FP8 in TensorRT, which callers cannot send"):
        make(identity(TensorProto.FLOAT8E4M3FN), rows((3,)))


def test_an_input_that_decides_on_shapes_is_refused_by_name() -> None:
    reshape = graph_of(
        [helper.make_node("Reshape", ["x", "s"], ["y"])],
        [value("x", ("n", 3)), value("s", (1,), TensorProto.INT64)],
        [value("y", ("k",))],
    )
    with pytest.raises(InvalidModel, match="input 's' decides on the shapes"):
        make(reshape, rows((3,)))


def test_fp64_becomes_fp32_in_silence_so_that_specs_have_to_be_compared() -> None:
    assert make(identity(TensorProto.DOUBLE), rows((3,))).inputs[0].datatype == "FP32"


def test_precision_that_is_not_in_the_graph_is_refused_by_a_library_without_flags() -> None:
    with pytest.raises(InvalidModel, match="the graph is not in fp16"):
        make(mlp(), replace(rows((16,)), precision=FP16))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_rewritten_graph_is_built(tmp_path: Path, precision: str) -> None:
    path = tmp_path / "mlp.onnx"
    path.write_bytes(mlp().SerializeToString())
    samples = [{"x": value} for value in _samples()]
    wanted = replace(rows((16,)), precision=TensorRTPrecision(precision))
    graph, settings = prepare(path, wanted, RTX, samples, tmp_path)
    assert settings == replace(wanted, typed=True)
    built = build(graph, settings, RTX, None)
    assert built.inputs[0].datatype == built.outputs[0].datatype == "FP32"
    assert prepare(graph, settings, RTX, (), tmp_path) == (graph, settings)


def test_a_graph_is_left_alone_where_a_flag_or_nothing_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "mlp.onnx"
    old: Any = SimpleNamespace(BuilderFlag=SimpleNamespace(FP16=1, INT8=2, TF32=3))
    for settings, module in (
        (rows((16,)), RTX),
        (replace(rows((16,)), precision=FP16), old),
        (replace(rows((16,)), precision=FP16), None),
    ):
        assert prepare(path, settings, module, (), tmp_path) == (path, settings)


def test_int8_without_samples_is_refused(tmp_path: Path) -> None:
    settings = replace(rows((16,)), precision=TensorRTPrecision.INT8)
    with pytest.raises(InvalidModel, match="int8 needs samples"):
        prepare(tmp_path / "mlp.onnx", settings, RTX, (), tmp_path)


@pytest.mark.parametrize(
    ("precision", "flags"),
    [("fp32", set()), ("tf32", {"TF32"}), ("fp16", {"TF32", "FP16"}), ("int8", {"TF32", "INT8"})],
)
def test_an_older_library_is_told_the_precision_by_flags(precision: str, flags: set[str]) -> None:
    names = SimpleNamespace(FP16="FP16", INT8="INT8", TF32="TF32")
    set_flags = {"TF32"}  # as the library starts out
    config = SimpleNamespace(set_flag=set_flags.add, clear_flag=set_flags.remove)
    module: Any = SimpleNamespace(BuilderFlag=names)
    settings = BuildSettings(precision=TensorRTPrecision(precision))
    tensorrt_build._set_precision(module, config, settings)  # nothing of it can be built here
    assert set_flags == flags


def test_without_a_card_tensorrt_itself_cannot_build() -> None:
    with pytest.raises(
        MissingFramework, match=r"needs an NVIDIA GPU to build.*libcuda\.so\.1 is not on this"
    ):
        build(b"", BuildSettings(), fake_tensorrt(), None)


def test_the_builder_takes_the_card_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr("frameworks.trt.cuda.runtime", lambda: cuda)
    build(mlp().SerializeToString(), rows((16,)), RTX, replace(GPU, index=3))
    assert cuda.selected == [3]


def test_an_unknown_precision_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidModel, match="cannot be 'fp4'; there are fp32, fp16, tf32, int8"):
        BuildSettings(precision="fp4")


def _samples() -> list[Any]:
    return [arrays((1, 16), seed) for seed in range(8)]
