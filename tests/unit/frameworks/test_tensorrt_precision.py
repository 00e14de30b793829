from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from frameworks import InvalidModel
from frameworks.trt.precision import to_fp16, to_int8
from tests.support.tensorrt_graphs import arrays, attention, cnn, graph_of, mlp, value

CASES = [("mlp", mlp, "x", (16,)), ("cnn", cnn, "image", (3, 8, 8)), ("attention", attention, "x", (7, 16))]


def save(tmp_path: Path, model: Any) -> Path:
    path = tmp_path / "source.onnx"
    onnx.save(model, path)
    return path


def run(path: Path, name: str, array: Any) -> Any:
    session = onnxruntime.InferenceSession(path)
    assert [(node.name, node.type) for node in session.get_inputs()] == [(name, "tensor(float)")]
    assert [(node.name, node.type) for node in session.get_outputs()] == [("y", "tensor(float)")]
    return session.run(None, {name: array})[0]


@pytest.mark.parametrize(("name", "make", "tensor", "shape"), CASES)
def test_half_precision_stays_close(tmp_path: Path, name: str, make: Any, tensor: str, shape: Any) -> None:
    path, target = save(tmp_path, make()), tmp_path / "fp16.onnx"
    to_fp16(path, target)
    x = arrays((32, *shape), seed=9)
    np.testing.assert_allclose(run(target, tensor, x), run(path, tensor, x), atol=1e-2, rtol=1e-2)
    kinds = {one.data_type for one in onnx.load(target).graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("op", ["Cast", "Max", "output used inside"])
def test_half_precision_copes_with_what_is_not_plain(tmp_path: Path, op: str) -> None:
    node = onnx.helper.make_node
    ones = onnx.numpy_helper.from_array(np.ones(3, np.float32), "c")
    nodes = {
        "Cast": [
            node("Cast", ["x"], ["i"], to=onnx.TensorProto.INT64),
            node("Cast", ["i"], ["f"], to=onnx.TensorProto.FLOAT),
            node("Mul", ["f", "c"], ["y"]),
        ],
        "Max": [node("Max", ["x", "c"], ["m"]), node("Mul", ["m", "c"], ["y"])],
        "output used inside": [node("Mul", ["x", "c"], ["y"]), node("Exp", ["y"], ["z"])],
    }[op]
    outputs = [value(name, ("n", 3)) for name in ("y", *(["z"] if op == "output used inside" else []))]
    path = save(tmp_path, graph_of(nodes, [value("x", ("n", 3))], outputs, [ones]))
    to_fp16(path, tmp_path / "fp16.onnx")
    x = arrays((4, 3))
    results = [
        onnxruntime.InferenceSession(one).run(None, {"x": x}) for one in (path, tmp_path / "fp16.onnx")
    ]
    for exact, rough in zip(*results, strict=True):
        np.testing.assert_allclose(rough, exact, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("name", "make", "tensor", "shape"), CASES)
def test_eight_bits_keep_the_order(tmp_path: Path, name: str, make: Any, tensor: str, shape: Any) -> None:
    path, target = save(tmp_path, make()), tmp_path / "int8.onnx"
    to_int8(path, target, [{tensor: arrays((1, *shape), seed)} for seed in range(64)])
    x = arrays((256, *shape), seed=99)
    exact, rough = run(path, tensor, x), run(target, tensor, x)
    same = np.mean(exact.argmax(axis=-1) == rough.argmax(axis=-1))
    assert same >= 0.95
    assert 0 < np.abs(exact - rough).max() < 0.15 * np.abs(exact).max()


def test_quantisation_is_symmetric_and_leaves_the_rest_in_fp32(tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    to_int8(save(tmp_path, attention()), target, [{"x": arrays((1, 7, 16), seed)} for seed in range(8)])
    graph = onnx.load(target).graph
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert nodes
    for node in nodes:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    normal = next(node for node in graph.node if node.op_type == "LayerNormalization")
    assert made_by[normal.input[0]] == "Add"


def test_weights_beyond_the_range_of_half_precision_are_brought_to_its_limits(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.array([1e6, 30000, -1e-9], np.float32), "w")
    add = graph_of(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])], [value("x", (3,))], [value("y", (3,))], [weight]
    )
    target = tmp_path / "fp16.onnx"
    to_fp16(save(tmp_path, add), target)
    found = onnx.numpy_helper.to_array(onnx.load(target).graph.initializer[0])
    assert found[:2].tolist() == [65504, 30000]
    assert -1e-6 < found[2] < 0


def test_the_metadata_of_the_graph_is_kept(tmp_path: Path) -> None:
    model = mlp()
    onnx.helper.set_model_props(model, {"runtime.outputs.predict": '["y"]'})
    path = save(tmp_path, model)
    to_fp16(path, tmp_path / "fp16.onnx")
    to_int8(path, tmp_path / "int8.onnx", [{"x": arrays((4, 16))}])
    for name in ("fp16.onnx", "int8.onnx"):
        found = {entry.key: entry.value for entry in onnx.load(tmp_path / name).metadata_props}
        assert found["runtime.outputs.predict"] == '["y"]'


@pytest.mark.parametrize(
    "rewrite", [to_fp16, lambda path, target: to_int8(path, target, [{"x": arrays((1, 16))}])]
)
def test_what_is_no_graph_is_refused(tmp_path: Path, rewrite: Any) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"junk" * 10)
    with pytest.raises(InvalidModel, match="the graph cannot be"):
        rewrite(path, tmp_path / "target.onnx")


def test_samples_of_another_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be quantised"):
        to_int8(save(tmp_path, mlp()), tmp_path / "int8.onnx", [{"z": arrays((1, 16))}])
