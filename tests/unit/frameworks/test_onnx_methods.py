from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from frameworks import InvalidModel, LoadOptions, onnx
from frameworks.ort.files import GRAPH
from frameworks.ort.session import OUTPUTS_KEY, SessionMethod, open_session
from frameworks.ort.values import Bound
from store import InvalidSignature, ModelStore, TensorSpec
from tests.support.dtypes import edge_array

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)


def spec(name: str, datatype: str = "FP32", *shape: int) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": list(shape or (-1, 2))}


BOTH = {
    "negated": {"outputs": [spec("minus")], "batchable": True},
    "both": {"outputs": [spec("root"), spec("minus")]},
    "__call__": {},
}


def two_outputs(listed: dict[str, object] | None = None) -> Any:
    """A graph of two outputs, of which ``root`` is not defined where ``minus`` is positive."""
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Sqrt", ["x"], ["root"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_tensor_value_info("minus", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("root", TensorProto.FLOAT, ["n", 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    props = {OUTPUTS_KEY + method: json.dumps(names) for method, names in (listed or {}).items()}
    helper.set_model_props(model, props)
    return model


def test_a_method_answers_the_outputs_that_its_specs_name(models: ModelStore) -> None:
    model = onnx.save_model("two", two_outputs(), signatures=BOTH, sample=X, store=models)
    methods = onnx.open_methods(model, LoadOptions())
    assert list(methods) == ["negated", "both", "__call__"]
    assert list(methods["negated"]({"x": X})) == ["minus"]
    assert list(methods["both"]({"x": X})) == ["root", "minus"]
    assert list(methods["__call__"]({"x": X})) == ["minus", "root"]
    np.testing.assert_array_equal(methods["negated"]({"x": X})["minus"], -X)
    assert model.info.signatures["negated"].inputs == (TensorSpec("x", "FP32", (-1, 2)),)
    checks: Any = model.info.checks
    assert list(checks["batch_invariance"]) == ["negated"]


def test_the_methods_share_one_session(models: ModelStore) -> None:
    methods: Any = onnx.open_methods(
        onnx.save_model("two", two_outputs(), signatures=BOTH, store=models), LoadOptions()
    )
    assert len({id(method.session) for method in methods.values()}) == 1


def test_a_method_that_nothing_describes_is_refused(models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match=r"method 'predict' needs output specs.*minus, root") as caught:
        onnx.save_model("two", two_outputs(), signatures={"predict": {}}, store=models)
    assert caught.value.field == "signatures.predict"
    with pytest.raises(InvalidModel, match="no tensor 'absent'; it has minus, root"):
        onnx.save_model(
            "two", two_outputs(), signatures={"predict": {"outputs": [spec("absent")]}}, store=models
        )
    with pytest.raises(InvalidModel, match="needs a method"):
        onnx.save_model("two", two_outputs(), signatures={}, store=models)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_wrong_datatype_in_a_spec_is_refused_by_name(models: ModelStore, side: str) -> None:
    name = "x" if side == "inputs" else "root"
    with pytest.raises(InvalidModel, match=f"tensor '{name}' of the graph is FP32, not INT64"):
        onnx.save_model(
            "two", two_outputs(), signatures={"__call__": {side: [spec(name, "INT64")]}}, store=models
        )


def test_metadata_maps_equal_output_names_of_several_methods(models: ModelStore) -> None:
    listed = {"predict": ["minus"], "transform": ["root"]}
    signatures: dict[str, object] = {
        method: {"batchable": True, "outputs": [spec("output_0")]} for method in listed
    }
    model = onnx.save_model("two", two_outputs(listed), signatures=signatures, store=models)
    assert model.info.signatures["transform"].outputs == (TensorSpec("output_0", "FP32", (-1, 2)),)
    methods: Any = onnx.open_methods(model, LoadOptions())
    np.testing.assert_array_equal(methods["predict"]({"x": X})["output_0"], -X)
    np.testing.assert_array_equal(methods["transform"]({"x": np.abs(X)})["output_0"], np.sqrt(np.abs(X)))


def test_metadata_alone_names_a_methods_outputs(models: ModelStore) -> None:
    model = onnx.save_model("two", two_outputs({"p": ["root"]}), signatures={"p": {}}, store=models)
    assert model.info.signatures["p"].outputs == (TensorSpec("root", "FP32", (-1, 2)),)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (["absent"], "no tensor 'absent'"),
        (["minus", "root"], "with minus, root; its signature has 1 outputs"),
        ([], "must be a JSON list"),
        ("minus", "must be a JSON list"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(models: ModelStore, listed: object, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        onnx.save_model(
            "two", two_outputs({"p": listed}), signatures={"p": {"outputs": [spec("y")]}}, store=models
        )


def test_a_fixed_batch_axis_is_refused_for_every_method(models: ModelStore) -> None:
    graph = two_outputs()
    graph.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    assert onnx.save_model("two", graph, signatures=BOTH | {"negated": BOTH["both"]}, store=models)
    with pytest.raises(InvalidSignature, match="fixes its batch axis 0 at 3"):
        onnx.save_model("two", graph, signatures=BOTH, store=models)


def test_a_file_opens_where_it_lies(models: ModelStore, tmp_path: Path) -> None:
    model = onnx.save_model("two", two_outputs(), signatures=BOTH, store=models)
    file = tmp_path / "model.onnx"
    file.write_bytes((model.path / GRAPH).read_bytes())
    methods = onnx.open_artifact(file, model.info.signatures, LoadOptions())
    np.testing.assert_array_equal(methods["negated"]({"x": X})["minus"], -X)
    assert methods["negated"].input_names(1) == ("x",)
    assert methods["negated"].input_names(2) == ("input_0", "input_1")
    with pytest.raises(InvalidModel, match="no load option 'providers'; did you mean 'provider'"):
        onnx.open_artifact(file, model.info.signatures, LoadOptions(settings={"providers": "cpu"}))


def test_a_session_method_answers_all_outputs_by_default() -> None:
    method = SessionMethod(open_session(two_outputs().SerializeToString(), LoadOptions()))
    assert list(method({"x": X})) == ["minus", "root"]


@pytest.mark.parametrize("name", ["FP32", "BF16", "INT64", "BOOL"])
def test_bound_memory_gives_the_same_bits(name: str) -> None:
    kind = {"FP32": 1, "BF16": 16, "INT64": 7, "BOOL": 9}[name]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", kind, ["n", 2])],
        [helper.make_tensor_value_info("y", kind, ["n", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    run = Bound(onnxruntime.InferenceSession(model.SerializeToString()), ["y"])
    array = edge_array(name)
    first, second = run({"x": array})[0], run({"x": array[:1].copy()})[0]
    assert (first.dtype, first.tobytes()) == (array.dtype, array.tobytes())
    assert second.tobytes() == array[:1].tobytes()
