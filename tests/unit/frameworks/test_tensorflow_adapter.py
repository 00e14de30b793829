from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frameworks import InvalidModel, UnsupportedInput, WrongModule, tensorflow
from frameworks.tf.device import CPU
from frameworks.tf.library import import_quietly, stderr_into, tf
from frameworks.tf.saved import open_methods
from store import ModelStore
from tests.support.tensorflow_models import BATCHABLE, Scorer, X, foreign, mlp, run, specs

import keras  # isort: skip  # after TensorFlow, which is to be imported quietly

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGES = np.linspace(-1, 1, 5 * 8 * 8 * 3, dtype=np.float32).reshape(5, 8, 8, 3)


class Lengths(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def __call__(self, text: Any) -> Any:
        return {"length": tf.strings.length(text), "upper": tf.strings.upper(text)}


def cnn() -> Any:
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    return keras.Model(image, keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(hidden)))


def two_inputs() -> Any:
    keras.utils.set_random_seed(0)
    wide, deep = keras.Input((4,), name="wide"), keras.Input((None, 2), name="deep")
    pooled = keras.layers.GlobalAveragePooling1D(name="pooled")(deep)
    total = keras.layers.Dense(2, name="total")(keras.layers.Concatenate()([wide, pooled]))
    return keras.Model({"deep": deep, "wide": wide}, [total, pooled])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """One model of each kind."""
    root = tmp_path_factory.mktemp("tensorflow")
    models = ModelStore(root / "models")
    tensorflow.save_model("mlp", mlp(), signatures=BATCHABLE, sample=X, store=models)
    tensorflow.save_model("cnn", cnn(), signatures=BATCHABLE, store=models)
    tensorflow.save_model("two_inputs", two_inputs(), store=models)
    tensorflow.save_model("scorer", Scorer(), store=models)
    tensorflow.save_model("foreign", foreign(root / "foreign"), store=models)
    tensorflow.save_model("lengths", Lengths(), store=models)
    return models


# -- models answer as the framework does ------------------------------------------------------------


def test_a_sequential_model_answers_as_keras_does_in_inference_mode(shared: ModelStore) -> None:
    model = shared.get("mlp")
    assert specs(model) == ([("x", "FP32", (-1, 4))], [("output_0", "FP32", (-1, 3))])
    for rows in (0, 1, 6):
        expected = mlp()(X[:rows], training=False).numpy()
        np.testing.assert_allclose(run(model, {"x": X[:rows]})["output_0"], expected, atol=1e-6)
    assert not model.info.pickled
    checks: Any = model.info.checks
    assert checks["batch_invariance"]["__call__"]["invariant"]


def test_a_convolution_takes_its_images_as_keras_does(shared: ModelStore) -> None:
    model = shared.get("cnn")
    assert specs(model) == ([("image", "FP32", (-1, 8, 8, 3))], [("logits", "FP32", (-1, 2))])
    expected = cnn()(IMAGES, training=False).numpy()
    np.testing.assert_allclose(run(model, {"image": IMAGES})["logits"], expected, atol=1e-6)


def test_inputs_of_a_keras_graph_go_by_name(shared: ModelStore) -> None:
    model = shared.get("two_inputs")
    inputs, outputs = specs(model)
    assert sorted(inputs) == [("deep", "FP32", (-1, -1, 2)), ("wide", "FP32", (-1, 4))]
    assert outputs == [("total", "FP32", (-1, 2)), ("pooled", "FP32", (-1, 2))]
    deep = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    answer = run(model, {"wide": X[:2], "deep": deep})
    expected = two_inputs()({"wide": X[:2], "deep": deep}, training=False)
    assert list(answer) == ["total", "pooled"]
    np.testing.assert_allclose(answer["total"], expected[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(answer["pooled"], expected[1].numpy(), atol=1e-6)


def test_every_function_of_a_module_is_a_method(shared: ModelStore) -> None:
    model = shared.get("scorer")
    assert sorted(model.info.signatures) == ["predict", "scale"]
    assert specs(model, "scale") == (
        [("left", "FP32", (-1, 4)), ("factor", "INT32", ())],
        [("output_0", "FP32", (-1, 4))],
    )
    weight = Scorer().weight.numpy()
    answer = run(model, {"x": X}, "predict")
    assert list(answer) == ["scores", "best"]
    np.testing.assert_allclose(answer["scores"], X @ weight, atol=1e-6)
    np.testing.assert_array_equal(answer["best"], (X @ weight).argmax(1))
    scaled = run(model, {"left": X, "factor": np.array(3, np.int32)}, "scale")
    np.testing.assert_array_equal(scaled["output_0"], X * 3)


def test_signatures_of_a_saved_folder_are_kept(shared: ModelStore) -> None:
    model = shared.get("foreign")
    assert list(model.info.signatures) == ["__call__", "scale"]
    inputs, outputs = specs(model)
    assert inputs == [("x", "FP32", (-1, 4))]
    assert outputs == [("best", "INT64", (-1,)), ("scores", "FP32", (-1, 3))]
    expected = X @ Scorer().weight.numpy()
    np.testing.assert_allclose(run(model, {"x": X})["scores"], expected, atol=1e-6)
    loaded = tensorflow.load_model("foreign", store=shared)
    direct = loaded.signatures["serving_default"](x=tf.constant(X))["scores"]
    np.testing.assert_allclose(direct.numpy(), expected, atol=1e-6)


def test_the_default_method_is_what_other_tools_call(shared: ModelStore) -> None:
    loaded = tensorflow.load_model("mlp", store=shared)
    assert list(loaded.signatures) == ["serving_default"]


def test_weights_are_stored_once(models: ModelStore) -> None:
    wide = keras.Sequential([keras.layers.Input((300,)), keras.layers.Dense(300)])
    model = tensorflow.save_model("wide", wide, store=models)
    stored = sum(path.stat().st_size for path in model.path.rglob("variables.data*"))
    assert 4 * wide.count_params() <= stored < 5 * wide.count_params()


def test_text_travels_as_bytes(shared: ModelStore) -> None:
    text = np.array([b"", b"abc", "ü".encode(), b"a\x00b\x00"], dtype=object)
    answer = run(shared.get("lengths"), {"text": text})
    assert answer["length"].tolist() == [0, 3, 2, 4]
    assert answer["upper"].tolist() == [b"", b"ABC", "ü".encode(), b"A\x00B\x00"]
    empty = run(shared.get("lengths"), {"text": np.empty((0,), dtype=object)})
    assert empty["upper"].shape == (0,)
    assert empty["upper"].dtype == object


@pytest.fixture(scope="module")
def fresh(shared: ModelStore) -> Any:
    """What a process that has only the store answers, and all that it prints."""
    script = """
        import json, sys
        from pathlib import Path
        import numpy as np
        from frameworks import LoadOptions, registry
        from store import ModelStore
        models, adapter = ModelStore(Path(sys.argv[1])), registry.adapter("tensorflow")
        x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
        images = np.linspace(-1, 1, 5 * 8 * 8 * 3, dtype=np.float32).reshape(5, 8, 8, 3)
        text = np.array([b"abc"], dtype=object)
        calls = [("mlp", "__call__", {"x": x}), ("cnn", "__call__", {"image": images}),
                 ("scorer", "predict", {"x": x}), ("foreign", "__call__", {"x": x}),
                 ("lengths", "__call__", {"text": text})]
        said = {}
        for name, method, inputs in calls:
            answer = adapter.open_methods(models.get(name), LoadOptions(threads=2))[method](inputs)
            said[name] = {key: value.tolist() for key, value in answer.items() if value.dtype != object}
        from tensorflow.config import threading as budget
        said["threads"] = [
            budget.get_intra_op_parallelism_threads(), budget.get_inter_op_parallelism_threads()
        ]
        print(json.dumps(said))
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(shared.root)],
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )


def test_a_fresh_process_answers_the_same(fresh: Any) -> None:
    said = json.loads(fresh.stdout)
    np.testing.assert_allclose(said["mlp"]["output_0"], mlp()(X, training=False).numpy(), atol=1e-6)
    np.testing.assert_allclose(said["cnn"]["logits"], cnn()(IMAGES, training=False).numpy(), atol=1e-6)
    expected = X @ Scorer().weight.numpy()
    np.testing.assert_allclose(said["scorer"]["scores"], expected, atol=1e-6)
    np.testing.assert_allclose(said["foreign"]["scores"], expected, atol=1e-6)
    assert said["lengths"]["length"] == [3]


def test_a_worker_gets_its_thread_budget_and_prints_nothing(fresh: Any) -> None:
    assert json.loads(fresh.stdout)["threads"] == [2, 1]
    assert fresh.stderr == ""


# -- refusals ---------------------------------------------------------------------------------------


def test_a_loaded_folder_can_be_saved_again(shared: ModelStore, models: ModelStore) -> None:
    loaded = tensorflow.load_model("foreign", store=shared)
    model = tensorflow.save_model("again", loaded, store=models)
    assert list(model.info.signatures) == ["__call__", "scale"]
    np.testing.assert_array_equal(
        run(model, {"x": X})["scores"], run(shared.get("foreign"), {"x": X})["scores"]
    )


@pytest.mark.parametrize(("dtype", "found"), [(np.float64, "FP64"), (np.int32, "INT32"), (object, "BYTES")])
def test_a_wrong_dtype_is_refused_by_name(dtype: Any, found: str, shared: ModelStore) -> None:
    with pytest.raises(UnsupportedInput, match=f"input 'x' is {found}; the model takes FP32") as error:
        run(shared.get("mlp"), {"x": X.astype(dtype)})
    assert error.value.field == "x"


def test_other_inputs_than_the_model_takes_are_refused(shared: ModelStore) -> None:
    with pytest.raises(UnsupportedInput, match="the model takes x; given were x, y"):
        run(shared.get("mlp"), {"x": X, "y": X})


def test_methods_of_a_folder_are_looked_up(shared: ModelStore, models: ModelStore) -> None:
    folder = shared.get("foreign").path / tensorflow.ARTIFACT
    with pytest.raises(InvalidModel, match="no signature 'score'; its methods are __call__, scale"):
        tensorflow.save_model("m", folder, signatures={"score": {}}, store=models)
    wrong = {"__call__": {"inputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]}}
    with pytest.raises(
        InvalidModel, match="method '__call__': its inputs are x; the signature differs in x, y"
    ):
        tensorflow.save_model("m", folder, signatures=wrong, store=models)
    named = tensorflow.save_model("m", folder, signatures={"serving_default": {}}, store=models)
    assert run(named, {"x": X}, "serving_default")["best"].shape == (6,)


def test_an_absent_device_is_refused(shared: ModelStore) -> None:
    with pytest.raises(InvalidModel, match="device 'cuda:99' is not there; TensorFlow sees"):
        run(shared.get("mlp"), {"x": X}, device="cuda:99")
    with pytest.raises(InvalidModel, match="knows no device 'tpu'"):
        tensorflow.load_model("mlp", store=shared, device="tpu")


def test_a_model_runs_on_the_device_it_is_opened_for(shared: ModelStore) -> None:
    model = shared.get("mlp")
    methods = open_methods(model.path / tensorflow.ARTIFACT, model.info.signatures, scope=CPU)
    np.testing.assert_array_equal(methods["__call__"]({"x": X})["output_0"], run(model, {"x": X})["output_0"])


def test_load_options_are_checked(shared: ModelStore) -> None:
    with pytest.raises(InvalidModel, match="no load option 'xlaa'; did you mean 'xla'"):
        run(shared.get("mlp"), {"x": X}, settings={"xlaa": True})


def test_a_compiled_method_answers_the_same(shared: ModelStore) -> None:
    compiled = run(shared.get("mlp"), {"x": X}, settings={"xla": True})["output_0"]
    np.testing.assert_allclose(compiled, mlp()(X, training=False).numpy(), atol=1e-6)


def test_get_refuses_models_of_other_adapters(shared: ModelStore) -> None:
    from frameworks import python

    assert tensorflow.get("mlp", store=shared) == shared.get("mlp")
    python.save_model("plain", len, store=shared)
    with pytest.raises(WrongModule):
        tensorflow.get("plain", store=shared)


# -- importing --------------------------------------------------------------------------------------


def test_lines_of_others_are_passed_on_when_an_import_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    chatter = "import os; os.write(2, b'I0000 00:00:1.2 3 port.cc:1] on\\nmine\\n')\n"
    (tmp_path / "talks_at_import.py").write_text(chatter)
    (tmp_path / "fails_at_import.py").write_text(f"{chatter}raise OSError('no library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_quietly("talks_at_import")
    assert capfd.readouterr().err == "mine\n"
    with pytest.raises(ImportError, match=r"cannot be imported: OSError\('no library'\); it printed: I0000"):
        import_quietly("fails_at_import")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_a_process_without_an_error_stream_is_left_alone(tmp_path: Path) -> None:
    original = os.dup(2)
    try:
        os.close(2)
        with stderr_into(tmp_path / "kept"):
            assert not (tmp_path / "kept").exists()
    finally:
        os.dup2(original, 2)
        os.close(original)
