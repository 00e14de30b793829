from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frameworks import InvalidModel, LoadOptions, tensorflow
from frameworks.tf.library import tf
from frameworks.tf.tensors import DTYPES, keeps_inputs, to_tensor
from store import InvalidSignature, ModelStore, TensorSpec, datatypes
from tests.support.dtypes import edge_array
from tests.support.tensorflow_models import BATCHABLE, Scorer, X, mlp, run, specs

import keras  # isort: skip  # after TensorFlow, which is to be imported quietly


class Identity(tf.Module):  # type: ignore[misc]
    def __call__(self, x: Any) -> Any:
        return x


class Remembers(tf.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.last = tf.Variable(tf.zeros((4,)))

    @tf.function(input_signature=[tf.TensorSpec((4,), tf.float32)])
    def __call__(self, x: Any) -> Any:
        last = self.last.read_value()
        self.last.assign(x)
        return last


def aligned(values: list[float]) -> Any:
    """A float32 array at an address that TensorFlow can use without a copy."""
    memory = np.zeros(4 * len(values) + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array = memory[start : start + 4 * len(values)].view(np.float32)
    array[:] = values
    return array


# -- datatypes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One model that gives back an input of each datatype."""

    class Echo(tf.Module):  # type: ignore[misc]
        def echo(self, **tensors: Any) -> Any:
            return dict(tensors)

    signatures = {
        "echo": {
            "inputs": [{"name": f"t_{name}", "datatype": name, "shape": [-1, 2]} for name in datatypes.NAMES]
        }
    }
    models = ModelStore(tmp_path_factory.mktemp("identities"))
    model = tensorflow.save_model("echo", Echo(), signatures=signatures, store=models)
    given = {f"t_{name}": edge_array(name) for name in datatypes.NAMES}
    return {"given": given, "answer": run(model, given, "echo")}


@pytest.mark.parametrize("name", datatypes.NAMES)
def test_every_datatype_crosses_unchanged(name: str, identities: dict[str, Any]) -> None:
    given, answer = identities["given"][f"t_{name}"], identities["answer"][f"t_{name}"]
    assert answer.dtype == given.dtype
    assert answer.tolist() == given.tolist() if name == "BYTES" else answer.tobytes() == given.tobytes()


def shares(array: Any, *, lend: bool = True) -> bool:
    tensor = to_tensor("x", array, DTYPES["FP32"], lend=lend)
    np.testing.assert_array_equal(tensor.numpy(), array)
    return np.shares_memory(np.asarray(tensor), array)


def test_aligned_arrays_are_lent_and_all_others_are_copied() -> None:
    array = aligned([1, 2, 3, 4])
    assert shares(array)
    assert shares(array.reshape(4, 1)[:1])  # an axis of one may have any stride
    assert shares(array.reshape(2, 2)[:1, :1])
    assert not shares(array, lend=False)
    assert not shares(array[1:])
    assert not shares(array[::2])
    assert not shares(array.reshape(2, 2).T)
    array.flags.writeable = False
    assert not shares(array)


def test_what_a_model_remembers_is_its_own(models: ModelStore) -> None:
    model = tensorflow.save_model("remembers", Remembers(), store=models)
    method = tensorflow.open_methods(model, LoadOptions())["__call__"]
    array = aligned([1, 1, 1, 1])
    method({"x": array})
    array[:] = 9
    answer: Any = method({"x": aligned([0, 0, 0, 0])})
    assert answer["output_0"].tolist() == [1, 1, 1, 1]
    assert keeps_inputs(tensorflow.load_model(model).signatures["serving_default"])


# -- what says the specs ----------------------------------------------------------------------------


def test_a_module_that_says_nothing_takes_its_specs_from_the_sample(models: ModelStore) -> None:
    signatures = {"plain": {"batchable": True}}
    sample = {"x": X, "bias": X[:, :1]}
    model = tensorflow.save_model("plain", Scorer(), signatures=signatures, sample=sample, store=models)
    assert specs(model, "plain") == (
        [("x", "FP32", (-1, 4)), ("bias", "FP32", (-1, 1))],
        [("output_0", "FP32", (-1, 4))],
    )
    np.testing.assert_allclose(run(model, sample, "plain")["output_0"], X + X[:, :1])


def test_a_module_that_says_nothing_needs_specs_or_a_sample(models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match="nothing says which tensors method 'plain' takes; give inputs"):
        tensorflow.save_model("plain", Scorer(), signatures={"plain": {}}, store=models)
    assert models.list() == []


def test_the_users_names_win(models: ModelStore) -> None:
    signatures = {
        "__call__": {
            "batchable": True,
            "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
        }
    }
    model = tensorflow.save_model("named", mlp(), signatures=signatures, store=models)
    np.testing.assert_allclose(
        run(model, {"features": X})["logits"], mlp()(X, training=False).numpy(), atol=1e-6
    )
    wrong = {"__call__": {**signatures["__call__"], "outputs": [TensorSpec("logits", "FP64", (-1, 3))]}}
    with pytest.raises(InvalidModel, match="output 'logits' is FP32, not FP64"):
        tensorflow.save_model("named", mlp(), signatures=wrong, store=models)


def test_a_keras_class_of_ones_own_is_called_in_inference_mode(models: ModelStore) -> None:
    class Doubles(keras.Model):  # type: ignore[misc]
        def call(self, x: Any, training: bool = True) -> Any:
            return {"training": tf.constant([training]), "twice": x * 2}

    model = tensorflow.save_model("doubles", Doubles(), sample=X, store=models)
    answer = run(model, {"x": X})
    assert answer["training"].tolist() == [False]
    np.testing.assert_array_equal(answer["twice"], X * 2)


def test_a_keras_class_with_one_parameter_gets_several_tensors_as_a_mapping(models: ModelStore) -> None:
    class Adds(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs["a"] + inputs["b"]

    model = tensorflow.save_model("adds", Adds(), sample={"b": X, "a": X}, store=models)
    np.testing.assert_array_equal(run(model, {"b": X, "a": X * 3})["output_0"], X * 4)


def test_names_that_keras_allows_and_a_folder_does_not_are_changed(models: ModelStore) -> None:
    odd = keras.Input((2,), name="input ids")
    model = tensorflow.save_model("odd", keras.Model(odd, odd * 2), store=models)
    assert [spec[0] for spec in specs(model)[0]] == ["input_ids"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a b"], "cannot have an input 'a b'; call it 'a_b'"),
        (["_x"], "cannot have an input '_x'; call it 'input_x'"),
        (["self"], "cannot have an input 'self'; call it 'self_'"),
        (["x", "X"], "cannot tell inputs 'x' and 'X' apart"),
    ],
)
def test_names_that_a_folder_would_change_are_refused(
    names: list[str], message: str, models: ModelStore
) -> None:
    inputs = [{"name": name, "datatype": "FP32", "shape": [2]} for name in names]
    with pytest.raises(InvalidModel, match=message):
        tensorflow.save_model("odd", Identity(), signatures={"__call__": {"inputs": inputs}}, store=models)


def test_structures_of_an_input_signature_are_filled(models: ModelStore) -> None:
    spec = tf.TensorSpec((2,), tf.float32)

    class Nested(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[{"b": spec, "a": tf.TensorSpec((2,), tf.float32, name="first")}])
        def __call__(self, tensors: Any) -> Any:
            return tensors["a"] - tensors["b"]

    model = tensorflow.save_model("nested", Nested(), store=models)
    assert [name for name, _, _ in specs(model)[0]] == ["first", "input_1"]
    one, two = np.ones(2, np.float32), np.full(2, 2, np.float32)
    assert run(model, {"first": one, "input_1": two})["output_0"].tolist() == [-1, -1]


def test_a_folder_of_the_first_format_with_odd_names_is_served(tmp_path: Path, models: ModelStore) -> None:
    graph, v1 = tf.Graph(), tf.compat.v1
    with graph.as_default(), v1.Session() as session:
        left = v1.placeholder(tf.float32, (None, 2), name="left")
        right = v1.placeholder(tf.float32, (None, 2), name="right")
        builder = v1.saved_model.Builder(str(tmp_path / "first"))
        info = v1.saved_model.build_tensor_info
        signature = v1.saved_model.build_signature_def(
            {"in/1": info(left), "0-b": info(right)}, {"out:0": info(left - right)}, "predict"
        )
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    model = tensorflow.save_model("first", tmp_path / "first", store=models)
    answer = run(model, {"in/1": X[:, :2], "0-b": X[:, 2:]})
    np.testing.assert_array_equal(answer["out:0"], X[:, :2] - X[:, 2:])


def test_a_side_of_free_rank_has_no_specs_until_there_is_a_sample(tmp_path: Path, models: ModelStore) -> None:
    class Free(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
        def negate(self, x: Any) -> Any:
            return -x

    module = Free()
    with pytest.raises(InvalidModel, match="nothing says which tensors method 'negate' takes"):
        tensorflow.save_model("free", module, store=models)
    tf.saved_model.save(module, str(tmp_path / "free"), signatures={"serving_default": module.negate})
    model = tensorflow.save_model("free", tmp_path / "free", store=models)
    assert model.info.signatures["__call__"].inputs is None
    np.testing.assert_array_equal(run(model, {"x": X})["output_0"], -X)
    model = tensorflow.save_model("free", tmp_path / "free", sample=X, store=models)
    assert specs(model) == ([("x", "FP32", (6, 4))], [("output_0", "FP32", (6, 4))])


# -- refusals ---------------------------------------------------------------------------------------


def test_batchable_is_checked_against_the_model(models: ModelStore) -> None:
    x = keras.Input((4,), name="x")
    with pytest.raises(InvalidSignature, match="there is no batch axis 0"):
        tensorflow.save_model("one", keras.Model(x, keras.ops.sum(x)), signatures=BATCHABLE, store=models)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (object(), "a object is neither a Keras model, a tf.Module nor the path of a SavedModel"),
        ("nowhere", "nowhere is no SavedModel that can be loaded"),
        ("model.keras", "is a Keras file; give what keras.models.load_model makes of it"),
        (tf.Module(), "a Module cannot be called and has no tf.function"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, message: str, models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match=message):
        tensorflow.save_model("nothing", model, store=models)


def test_tensors_that_are_not_plain_are_refused(models: ModelStore) -> None:
    class Ragged(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def split(self, text: Any) -> Any:
            return tf.strings.split(text)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.complex64)])
        def turn(self, x: Any) -> Any:
            return x

    for method, message in (("split", "a RaggedTensor; .* to_tensor"), ("turn", "'x' is complex64")):
        with pytest.raises(InvalidModel, match=message):
            tensorflow.save_model("ragged", Ragged(), signatures={method: {}}, store=models)


def test_a_method_that_cannot_be_traced_is_refused_with_its_inputs(models: ModelStore) -> None:
    signatures = {"__call__": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 5]}]}}
    with pytest.raises(InvalidModel, match=r"'__call__' cannot be traced with inputs x FP32\[-1, 5\]"):
        tensorflow.save_model("mlp", mlp(), signatures=signatures, store=models)
