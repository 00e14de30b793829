from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
import pytest

from frameworks import LoadOptions, onnx, tensorflow
from frameworks.convert.formats import Variant
from frameworks.convert.steps import tensorflow as steps
from frameworks.convert.steps.tensorflow_source import chosen, replacing
from frameworks.convert.work import Made, MissingTool, NotConvertible, Settings, Work
from frameworks.tf.library import tf
from store import Model, ModelStore, Signature, TensorSpec

import keras  # isort: skip  # after TensorFlow, which is to be imported quietly

BATCHABLE = {"__call__": {"batchable": True}}
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(5, 16)).astype(np.float32)
IMAGES = GENERATOR.normal(size=(5, 12, 12, 3)).astype(np.float32)


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


class Scorer(tf.Module):  # type: ignore[misc]  # the library has no types
    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(tf.reshape(tf.range(48, dtype=tf.float32), (16, 3)) / 48)

    @tf.function(input_signature=[tf.TensorSpec((None, 16), tf.float32), tf.TensorSpec((None, 3), tf.int64)])
    def __call__(self, x: Any, Offset: Any) -> Any:
        scores = tf.matmul(x, self.weight)
        return {"scores": scores, "again": scores, "Offset": Offset, "x": x + 1}

    @tf.function(input_signature=[tf.TensorSpec((None, 16), tf.float32)])
    def predict(self, x: Any) -> Any:
        return tf.argmax(tf.matmul(x, self.weight), axis=1)


class Lengths(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def __call__(self, text: Any) -> Any:
        return tf.strings.length(text)


def mlp() -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.layers.Input((16,), name="x"), *layers])


def cnn() -> Any:
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    hidden = keras.layers.Conv2D(8, 3, activation="relu")(image)
    hidden = keras.layers.MaxPooling2D()(keras.layers.BatchNormalization()(hidden))
    return keras.Model(image, keras.layers.Dense(4, name="logits")(keras.layers.Flatten()(hidden)))


def work_of(model: Model, variant: str, target: Path, samples: Any, **fields: Any) -> Work:
    given: dict[str, Any] = {
        "variant": Variant.parse(variant),
        "start": None if variant == "tf-savedmodel" else Variant.parse("tf-savedmodel"),
        "model": model,
        "artifact": None,
        "target": target,
        "signatures": model.info.signatures,
        "samples": tuple(samples),
        "settings": Settings(),
    }
    return Work(**{**given, **fields})


def chain(model: Model, folder: Path, samples: Any, **fields: Any) -> tuple[Made, Path]:
    """Make the SavedModel and ONNX of it, as a conversion does."""
    saved, graph = folder / "model.savedmodel", folder / "model.onnx"
    steps.saved_model(work_of(model, "tf-savedmodel", saved, samples, **fields))
    work = work_of(model, "onnx", graph, samples, **fields)
    return steps.onnx(replace(work, model=None, artifact=saved)), graph


def answers(adapter: Any, path: Path, signatures: Mapping[str, Signature], inputs: Any) -> Any:
    (method,) = adapter.open_artifact(path, signatures, LoadOptions()).values()
    return method(inputs)


# -- SavedModel -------------------------------------------------------------------------------------


def test_a_source_that_is_what_is_asked_for_is_copied(models: ModelStore, tmp_path: Path) -> None:
    model = tensorflow.save_model("mlp", mlp(), signatures=BATCHABLE, store=models)
    target = tmp_path / "model.savedmodel"
    made = steps.saved_model(work_of(model, "tf-savedmodel", target, [{"x": X[:1]}]))
    assert made.methods == ("__call__",)
    assert made.facts["copied"] is True
    answer = answers(tensorflow, target, model.info.signatures, {"x": X})
    np.testing.assert_allclose(answer["output_0"], mlp()(X).numpy(), atol=1e-6)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "model"))] == [target.name]


def test_a_source_with_more_than_is_asked_for_is_narrowed(models: ModelStore, tmp_path: Path) -> None:
    model = tensorflow.save_model(
        "scorer", Scorer(), signatures={"__call__": {}, "predict": {}}, store=models
    )
    inputs = (TensorSpec("x", "FP32", (2, 16)),)
    signatures = {"predict": Signature(inputs=inputs, outputs=(TensorSpec("output_0", "INT64", (2,)),))}
    target = tmp_path / "model.savedmodel"
    made = steps.saved_model(work_of(model, "tf-savedmodel", target, [{"x": X[:2]}], signatures=signatures))
    assert made.facts["copied"] is False
    loaded = tf.saved_model.load(str(target))
    assert list(loaded.signatures) == ["predict"]
    assert loaded.signatures["predict"].structured_input_signature[1]["x"].shape == (2, 16)
    expected = (X[:2] @ Scorer().weight.numpy()).argmax(1)
    np.testing.assert_array_equal(answers(tensorflow, target, signatures, {"x": X[:2]})["output_0"], expected)


def test_a_failed_step_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "model.savedmodel"
    target.mkdir()
    (target / "old").touch()

    def write(path: Path) -> None:
        path.mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), replacing(target) as path:
        write(path)
    assert [each.name for each in tmp_path.rglob("*")] == ["model.savedmodel", "old"]


# -- ONNX -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("build", "name", "data"), [(mlp, "x", X), (cnn, "image", IMAGES)])
def test_onnx_answers_as_the_source(
    build: Any, name: str, data: Any, models: ModelStore, tmp_path: Path
) -> None:
    source = build()
    model = tensorflow.save_model(build.__name__, source, signatures=BATCHABLE, store=models)
    made, graph = chain(model, tmp_path, [{name: data[:1]}])
    assert made.methods == ("__call__",)
    (output,) = model.info.signatures["__call__"].outputs or ()
    for rows in (1, 2, 5):
        answer = answers(onnx, graph, model.info.signatures, {name: data[:rows]})[output.name]
        np.testing.assert_allclose(answer, source(data[:rows], training=False).numpy(), atol=1e-5)


def test_onnx_has_the_names_and_axes_of_the_signature(models: ModelStore, tmp_path: Path) -> None:
    model = tensorflow.save_model("cnn", cnn(), signatures=BATCHABLE, store=models)
    made, graph = chain(model, tmp_path, [{"image": IMAGES[:1]}], settings=Settings(opset=17))
    assert made.facts["opset"] == 17
    proto = onnx_format.load(str(graph))
    (image,), (logits,) = proto.graph.input, proto.graph.output
    dims = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, dims) == ("image", ["batch", 12, 12, 3])
    dims = [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim]
    assert (logits.name, dims) == ("logits", ["batch", 4])


def test_one_of_several_methods_becomes_onnx_with_all_its_tensors(models: ModelStore, tmp_path: Path) -> None:
    signatures = {"predict": {}, "__call__": {"batchable": True}}
    model = tensorflow.save_model("scorer", Scorer(), signatures=signatures, store=models)
    offset = np.arange(6, dtype=np.int64).reshape(2, 3)
    made, graph = chain(model, tmp_path, [{"x": X[:1]}])
    assert made.methods == ("__call__",)
    converted = {"__call__": model.info.signatures["__call__"]}
    answer = answers(onnx, graph, converted, {"x": X[:2], "Offset": offset})
    scores = X[:2] @ Scorer().weight.numpy()
    np.testing.assert_allclose(answer["scores"], scores, atol=1e-5)
    np.testing.assert_array_equal(answer["again"], answer["scores"])
    np.testing.assert_array_equal(answer["Offset"], offset)
    np.testing.assert_array_equal(answer["x"], X[:2] + 1)


def test_an_opset_out_of_reach_is_refused(models: ModelStore, tmp_path: Path) -> None:
    model = tensorflow.save_model("mlp", mlp(), store=models)
    with pytest.raises(NotConvertible, match="writes opsets up to 18, not 21; leave opset out to get 15"):
        chain(model, tmp_path, [{"x": X[:1]}], settings=Settings(opset=21))


def test_an_operator_without_a_form_in_onnx_is_named(models: ModelStore, tmp_path: Path) -> None:
    model = tensorflow.save_model("lengths", Lengths(), store=models)
    with pytest.raises(NotConvertible, match=r"cannot convert method '__call__': .*StringLength"):
        chain(model, tmp_path, [{"text": np.array([b"a"], dtype=object)}])
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["predict", "serving_default", "__call__"], "__call__"),
        (["predict", "serving_default"], "serving_default"),
        (["predict", "other"], "predict"),
    ],
)
def test_the_default_method_is_chosen(names: list[str], expected: str) -> None:
    signature = Signature(inputs=(), outputs=(TensorSpec("y", "FP32", ()),))
    assert chosen(dict.fromkeys(names, signature)) == (expected, signature)


def test_a_method_without_specs_cannot_be_converted() -> None:
    with pytest.raises(NotConvertible, match="'predict' has no specs"):
        chosen({"predict": Signature()})
    with pytest.raises(NotConvertible, match="no methods"):
        chosen({})


# -- TensorRT inside TensorFlow ---------------------------------------------------------------------


@pytest.mark.skipif(tf.test.is_built_with_cuda(), reason="for a TensorFlow that is built without TensorRT")
def test_a_tensorflow_without_tensorrt_names_the_other_way(models: ModelStore, tmp_path: Path) -> None:
    model = tensorflow.save_model("mlp", mlp(), signatures=BATCHABLE, store=models)
    with pytest.raises(
        MissingTool,
        match=r"TF-TRT cannot be had from TensorFlow .*: Tensorflow has not been built with TensorRT support"
        r"\. Convert SavedModel to ONNX, and ONNX to TensorRT: targets 'onnx' and 'trt'",
    ):
        steps.tf_trt(work_of(model, "tf-trt-fp16", tmp_path / "model.savedmodel", [{"x": X[:1]}]))


def test_settings_reach_tf_trt_in_its_words(models: ModelStore, tmp_path: Path) -> None:
    model = tensorflow.save_model("mlp", mlp(), signatures=BATCHABLE, store=models)
    signature = model.info.signatures["__call__"]
    settings = Settings(max_workspace_bytes=1 << 20, minimum_segment_size=5)
    work = work_of(model, "tf-trt-int8", tmp_path / "m", [], settings=settings)
    assert steps.trt_arguments(work, signature) == {
        "precision_mode": "INT8",
        "minimum_segment_size": 5,
        "use_calibration": True,
        "use_dynamic_shape": True,
        "dynamic_shape_profile_strategy": "Range+Optimal",
        "max_workspace_size_bytes": 1 << 20,
    }
    work = work_of(model, "tf-trt-tf32", tmp_path / "m", [])
    assert steps.trt_arguments(work, signature)["precision_mode"] == "FP32"


def test_tf_trt_is_fed_single_rows_and_full_batches(models: ModelStore, tmp_path: Path) -> None:
    model = tensorflow.save_model("mlp", mlp(), signatures=BATCHABLE, store=models)
    signature = model.info.signatures["__call__"]
    work = work_of(model, "tf-trt-fp16", tmp_path / "m", [{"x": X[:1]}, {"other": X[:1]}, {"x": X[1:2]}])
    fed = [batch["x"].numpy() for batch in steps.trt_feed(work, signature)()]
    assert [batch.shape for batch in fed] == [(1, 16), (8, 16), (1, 16), (8, 16)]
    np.testing.assert_array_equal(fed[3], np.repeat(X[1:2], 8, axis=0))
    with pytest.raises(NotConvertible, match="needs a sample of the method"):
        steps.trt_feed(work_of(model, "tf-trt-fp16", tmp_path / "m", [{"other": X}]), signature)
