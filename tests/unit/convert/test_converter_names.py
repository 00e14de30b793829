from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from runtime import convert as nav
from runtime.convert import shapes
from runtime.convert.reading import InvalidArguments
from runtime.convert.single import ConversionFailed, merged
from store import TensorSpec


@dataclass
class IOShape:
    """As the hub's users write it."""

    shape: list[int]
    dtype: Any
    name: str | None = None


class DataType(enum.Enum):
    TYPE_FP32 = 1
    TYPE_STRING = 2


def mlp() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Dropout(0.5))


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


# -- descriptions of tensors


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (IOShape([-1, 3], float), ("input_0", "FP32", (-1, 3))),
        (IOShape([-1, 3], int, "ids"), ("ids", "INT32", (-1, 3))),
        (IOShape([None, 3], DataType.TYPE_FP32, "x"), ("x", "FP32", (-1, 3))),
        (SimpleNamespace(shape=(1,), dtype=DataType.TYPE_STRING), ("input_0", "BYTES", (1,))),
        (([-1], np.int64), ("input_0", "INT64", (-1,))),
        (([-1], np.dtype("float16")), ("input_0", "FP16", (-1,))),
        (([-1], torch.float64), ("input_0", "FP64", (-1,))),
        (([-1], torch.bfloat16), ("input_0", "BF16", (-1,))),
        (([-1], "uint8"), ("input_0", "UINT8", (-1,))),
        ({"shape": [-1], "dtype": bool, "name": "flags"}, ("flags", "BOOL", (-1,))),
        ({"shape": [-1], "datatype": "TYPE_FP64"}, ("input_0", "FP64", (-1,))),
        (TensorSpec("t", "FP32", (2,)), ("t", "FP32", (2,))),
    ],
)
def test_tensors_are_described_in_many_ways(given: object, expected: tuple[Any, ...]) -> None:
    (spec,) = shapes.specs([given])
    assert (spec.name, spec.datatype, spec.shape) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([-1, "many"], float), r"tensor 0 cannot be read: shape .* must be whole numbers"),
        (([-1], "float33"), "there is no datatype 'float33'"),
        (([-1], complex), "tensor 0 cannot be read"),
        (object(), "has no shape"),
    ],
)
def test_a_description_that_cannot_be_read_is_named(given: object, message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        shapes.specs([given])


def test_a_description_fixes_what_a_file_leaves_open() -> None:
    own = [TensorSpec("x", "FP32", (-1, 3, -1)), TensorSpec("y", "FP32", (-1,))]
    found = merged(own, [TensorSpec("y", "FP32", (-1,)), TensorSpec("x", "FP32", (-1, -1, 8))])
    assert [spec.shape for spec in found] == [(-1, 3, 8), (-1,)]
    with pytest.raises(ConversionFailed, match=r"input 'x' has shape \[-1, 3, -1\], not \[-1, 4, 8\]"):
        merged(own[:1], [TensorSpec("x", "FP32", (-1, 4, 8))])


# -- TorchScript


def test_a_module_is_scripted_in_evaluation_mode_and_left_alone(tmp_path: Path) -> None:
    model = mlp()
    assert (
        nav.TorchScriptConverter.from_torch_module(model, tmp_path / "net" / "pytorch-torchscript" / "1")
        is True
    )
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        loaded = torch.jit.load(str(tmp_path / "net" / "pytorch-torchscript" / "1.zip"))
    assert model.training
    x = torch.ones(2, 5)
    assert torch.equal(loaded(x), model.eval()(x))


def test_what_cannot_be_scripted_is_false_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return eval("x")  # type: ignore[no-any-return]

    assert nav.TorchScriptConverter.from_torch_module(Odd(), tmp_path / "1") is False
    assert "conversion_failed" in caplog.text
    assert "TorchScript cannot be made of it" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept_unless_overridden(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "1.zip").write_text("old")
    with caplog.at_level(logging.INFO):
        assert nav.TorchScriptConverter.from_torch_module(mlp(), tmp_path / "1.zip") is True
    assert "conversion_kept" in caplog.text
    assert (tmp_path / "1.zip").read_text() == "old"
    assert nav.TorchScriptConverter.from_torch_module(mlp(), tmp_path / "1.zip", override=True) is True
    assert (tmp_path / "1.zip").read_bytes()[:2] == b"PK"


# -- ONNX


def test_a_module_becomes_onnx_with_a_dynamic_batch_axis(tmp_path: Path) -> None:
    model = mlp()
    assert nav.ONNXConverter.from_torch_module(model, tmp_path / "1", [5], 4) is True
    found = session(tmp_path / "1.onnx")
    x = torch.randn(11, 5)
    (y,) = found.run(None, {"input": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(y, model.eval()(x).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_named_inputs_and_an_opset_are_kept(tmp_path: Path) -> None:
    inputs = [IOShape(shape=[-1, 5], dtype=float, name="features")]
    done = nav.ONNXConverter.from_torch_module(mlp(), tmp_path / "v1.2", inputs, opset=18, optimize=False)
    assert done is True
    assert [one.name for one in session(tmp_path / "v1.2.onnx").get_inputs()] == ["features"]


def test_an_estimator_becomes_onnx_with_all_its_methods(tmp_path: Path) -> None:
    features, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(features, labels)
    done = nav.ONNXConverter.from_sklearn(model, tmp_path / "iris", [IOShape([-1, 4], np.float64)])
    assert done is True
    found = session(tmp_path / "iris.onnx")
    name = found.get_inputs()[0].name
    answers = found.run(None, {name: features})
    np.testing.assert_array_equal(answers[0], model.predict(features))
    np.testing.assert_allclose(answers[1], model.predict_proba(features), atol=1e-5)


def test_a_model_that_does_not_take_the_inputs_is_false(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert nav.ONNXConverter.from_torch_module(mlp(), tmp_path / "1", [6]) is False
    assert "conversion_failed" in caplog.text
    assert list(tmp_path.iterdir()) == []


# -- TensorRT


def test_a_missing_graph_is_false_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert nav.TRTConverter.from_onnx(tmp_path / "nothing.onnx", tmp_path / "1") is False
    assert "nothing.onnx" in caplog.text


@pytest.mark.slow
def test_a_graph_becomes_a_plan(tmp_path: Path) -> None:
    assert nav.ONNXConverter.from_torch_module(mlp(), tmp_path / "1", [5])
    inputs = [IOShape([-1, 5], float, "input")]
    assert (
        nav.TRTConverter.from_onnx(tmp_path / "1.onnx", tmp_path / "trt" / "1", inputs=inputs, outputs=[])
        is True
    )
    assert (tmp_path / "trt" / "1.plan").stat().st_size > 0
    wrong = [IOShape([-1, 6], float, "input")]
    assert nav.TRTConverter.from_onnx(tmp_path / "1.onnx", tmp_path / "trt" / "2", inputs=wrong) is False


# -- TensorFlow


@pytest.mark.slow
def test_a_keras_model_becomes_a_saved_model_and_tf_trt_names_the_other_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from frameworks.tf.library import tf

    model = tf.keras.Sequential([tf.keras.layers.Input((4,), name="x"), tf.keras.layers.Dense(3)])
    assert nav.TFSConverter.from_tf_model(model, tmp_path / "net" / "1") is True
    loaded = tf.saved_model.load(str(tmp_path / "net" / "1"))
    assert "serving_default" in loaded.signatures
    made = nav.TRTConverter.from_saved_model(tmp_path / "net" / "1", tmp_path / "trt" / "1")
    assert made is False
    assert "ONNX" in caplog.text
