from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from frameworks import InvalidModel, LoadOptions, UnsupportedInput, onnx
from store import InvalidSignature, ModelStore, TensorSpec, datatypes
from tests.support.dtypes import edge_array

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
BATCHABLE = {"__call__": {"batchable": True}}
ONNX_TYPES = {
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def model_of(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: Sequence[Any] = ()
) -> Any:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def identity(kind: int = TensorProto.FLOAT, shape: Any = ("n", 2)) -> Any:
    return model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )


def linear(rows: Any = "rows") -> Any:
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    return model_of(
        [helper.make_node("MatMul", ["features", "weight"], ["scores"])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [rows, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [rows, 2])],
        [numpy_helper.from_array(weight, "weight")],
    )


def run(models: ModelStore, name: str, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
    return onnx.open_methods(models.get(name), LoadOptions(**options))["__call__"](inputs)


def test_the_graph_answers_as_onnxruntime_does(models: ModelStore) -> None:
    onnx.save_model("linear", linear(), store=models)
    direct = onnxruntime.InferenceSession(linear().SerializeToString()).run(None, {"features": X})[0]
    np.testing.assert_array_equal(run(models, "linear", {"features": X})["scores"], direct)
    np.testing.assert_array_equal(run(models, "linear", {"features": X}, threads=2)["scores"], direct)
    np.testing.assert_array_equal(
        onnx.load_model("linear", store=models).run(None, {"features": X})[0], direct
    )


def test_specs_come_from_the_graph(models: ModelStore) -> None:
    model = onnx.save_model("linear", linear(), store=models)
    signature = model.info.signatures["__call__"]
    assert signature.batchable is False
    assert signature.inputs == (TensorSpec("features", "FP32", (-1, 3)),)
    assert signature.outputs == (TensorSpec("scores", "FP32", (-1, 2)),)
    assert not model.info.pickled
    assert onnx.get("linear", store=models) == model


def test_batchable_is_checked_against_the_graph(models: ModelStore) -> None:
    model = onnx.save_model("linear", linear(), signatures=BATCHABLE, sample=X, store=models)
    checks: Any = model.info.checks
    assert checks["batch_invariance"]["__call__"]["invariant"]
    with pytest.raises(InvalidSignature, match="fixes its batch axis 0 at 4"):
        onnx.save_model("fixed", linear(4), signatures=BATCHABLE, store=models)


@pytest.mark.parametrize("name", [name for name in datatypes.NAMES if name != "BYTES"])
def test_every_datatype_survives_bit_for_bit(models: ModelStore, name: str) -> None:
    kind = ONNX_TYPES.get(name) or getattr(TensorProto, name)
    array = edge_array(name)
    model = onnx.save_model("same", identity(kind), signatures=BATCHABLE, sample=array, store=models)
    assert model.info.signatures["__call__"].inputs == (TensorSpec("x", name, (-1, 2)),)
    result = run(models, "same", {"x": array.copy()})["y"]
    assert result.dtype == array.dtype
    assert result.tobytes() == array.tobytes()


def test_text_survives_and_what_is_no_text_is_refused(models: ModelStore) -> None:
    onnx.save_model("same", identity(TensorProto.STRING), store=models)
    array = edge_array("BYTES")[:2]
    assert run(models, "same", {"x": array})["y"].tolist()[0] == [b"", b"plain"]
    with pytest.raises(UnsupportedInput, match="element 1: not UTF-8") as caught:
        run(models, "same", {"x": np.array([[b"a", b"\xff"]], dtype=object)})
    assert caught.value.field == "x"


def test_bf16_beside_other_types_and_without_rows(models: ModelStore) -> None:
    mixed = model_of(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["t"], ["u"])],
        [
            helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["n"]),
            helper.make_tensor_value_info("t", TensorProto.INT64, ["m"]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["n"]),
            helper.make_tensor_value_info("u", TensorProto.INT64, ["m"]),
        ],
    )
    onnx.save_model("mixed", mixed, store=models)
    empty = edge_array("BF16")[:0, 0].copy()
    result = run(models, "mixed", {"x": empty, "t": np.array([7])})
    assert (result["y"].shape, result["y"].dtype, result["u"].tolist()) == ((0,), empty.dtype, [7])


def test_a_graph_with_a_scalar_has_no_specs_until_a_sample_gives_them(models: ModelStore) -> None:
    signature = onnx.save_model("scalar", identity(shape=()), store=models).info.signatures["__call__"]
    assert (signature.inputs, signature.outputs) == (None, None)
    signature = onnx.save_model(
        "scalar", identity(shape=()), sample=np.float32(1), store=models
    ).info.signatures["__call__"]
    assert signature.inputs == (TensorSpec("x", "FP32", ()),)


def test_bytes_and_paths_are_taken_too(models: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "linear.onnx").write_bytes(linear().SerializeToString())
    for model in (linear().SerializeToString(), tmp_path / "linear.onnx", str(tmp_path / "linear.onnx")):
        onnx.save_model("linear", model, store=models)
        assert run(models, "linear", {"features": X})["scores"].shape == (4, 2)


@pytest.mark.parametrize("location", ["weights.bin", "deep/" + "w" * 150 + ".bin"])
def test_external_data_is_copied_along(models: ModelStore, tmp_path: Path, location: str) -> None:
    source = tmp_path / "source"
    (source / location).parent.mkdir(parents=True)
    onnx_format.save(
        linear(), source / "m.onnx", save_as_external_data=True, location=location, size_threshold=0
    )
    (source / "unrelated.bin").write_text("")
    model = onnx.save_model("linear", source / "m.onnx", store=models)
    assert set(model.info.digests) == {"onnx/model.onnx", f"onnx/{location}"}
    (source / location).unlink()
    np.testing.assert_allclose(
        run(models, "linear", {"features": X})["scores"], X @ np.arange(6).reshape(3, 2), 1e-5
    )


def test_external_data_that_cannot_come_along_is_refused(models: ModelStore, tmp_path: Path) -> None:
    onnx_format.save(
        linear(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    graph = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(InvalidModel, match="give the path"):
        onnx.save_model("linear", graph, store=models)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InvalidModel, match="is not there"):
        onnx.save_model("linear", tmp_path / "m.onnx", store=models)
    for name in (b"/.bin", b"../.."):
        (tmp_path / "m.onnx").write_bytes(graph.replace(b"w.bin", name))
        with pytest.raises(InvalidModel, match="cannot lie beside it"):
            onnx.save_model("linear", tmp_path / "m.onnx", store=models)


def test_what_is_no_graph_is_refused(models: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="neither"):
        onnx.save_model("m", len, store=models)
    with pytest.raises(InvalidModel, match="cannot be read"):
        onnx.save_model("m", tmp_path / "absent.onnx", store=models)
    with pytest.raises(InvalidModel, match="onnxruntime refuses"):
        onnx.save_model("m", b"nothing", store=models)


def test_only_the_graphs_own_names_are_taken(models: ModelStore) -> None:
    spec = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    with pytest.raises(InvalidModel, match="no tensor 'x'; it has features"):
        onnx.save_model("m", linear(), signatures={"__call__": {"inputs": [spec]}}, store=models)


def test_results_that_are_no_tensors_are_refused_with_the_remedy(models: ModelStore) -> None:
    graph = model_of(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    with pytest.raises(InvalidModel, match="zipmap=False"):
        onnx.save_model("m", graph, store=models)


@pytest.mark.parametrize("device", ["nonsense", "cpu:1", "cuda:x"])
def test_unknown_devices_are_refused(models: ModelStore, device: str) -> None:
    model = onnx.save_model("linear", linear(), store=models)
    with pytest.raises(InvalidModel, match="knows no device") as caught:
        onnx.open_methods(model, LoadOptions(device=device))
    assert caught.value.field == "device"


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_a_device_that_onnxruntime_lacks_is_refused_and_not_replaced(models: ModelStore) -> None:
    model = onnx.save_model("linear", linear(), store=models)
    with pytest.raises(InvalidModel, match="onnx-gpu"):
        onnx.open_methods(model, LoadOptions(device="cuda:0"))
