"""Small models of every framework, and the quickest way to call each without an adapter.

A direct call takes numpy arrays and gives numpy arrays, as a method of an adapter does, and is what somebody
would write who knows the framework well and this one model: nothing is checked, nothing is named.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from frameworks import registry
from store import Model, ModelStore

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

WIDTH = 16
TOKENS = 8
BATCHABLE = {"batchable": True}
Arrays = Mapping[str, Any]
Call = Callable[[Arrays], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One model.

    Args:
        adapter: name of the adapter.
        save: saves the model under the name ``small``.
        direct: of the saved model, the direct call.
        method: what is called.
        inputs: so many rows.
    """

    adapter: str
    save: Callable[[ModelStore], Model]
    direct: Callable[[Model], Call]
    method: str = "__call__"
    inputs: Callable[[int], Arrays] = lambda rows: {"x": rows_of(rows)}


def rows_of(rows: int) -> Any:
    """Return the same random rows each time."""
    return np.random.default_rng(0).standard_normal((rows, WIDTH), dtype=np.float32)


def save(adapter: str, model: Any, sample: Any, method: str = "__call__") -> Callable[[ModelStore], Model]:
    """Return what saves a model that ``model()`` makes."""

    def saved(store: ModelStore) -> Model:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return registry.adapter(adapter).save_model(
                "small", model(), signatures={method: BATCHABLE}, sample=sample, store=store
            )

    return saved


def native(model: Model) -> Any:
    """Return the framework's own object."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return registry.adapter(model.info.module).load_model(model)


def perceptron() -> Any:
    """Return a network of two layers."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval()


def scripted() -> Any:
    """Return the same, traced."""
    import torch

    trace: Any = torch.jit.trace
    return trace(perceptron(), torch.zeros(2, WIDTH))


def exported() -> Any:
    """Return the same as an exported program."""
    import torch

    rows = torch.export.Dim("rows", max=1024)
    return torch.export.export(perceptron(), (torch.zeros(2, WIDTH),), dynamic_shapes=({0: rows},))


def graph() -> Any:
    """Return the same as an ONNX graph, whose input is ``x``."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape, dtype=np.float32) for shape in ((WIDTH, 32), (32,), (32, 4), (4,))]
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w2", "w3"], ["y"]),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "perceptron",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
            [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(weights)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def tensorflow() -> Any:
    """Return the same as a ``tf.Module``."""
    from frameworks.tf.library import tf

    class Perceptron(tf.Module):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            super().__init__()
            self.first = tf.Variable(tf.random.normal((WIDTH, 32)))
            self.second = tf.Variable(tf.random.normal((32, 4)))

        @tf.function(input_signature=[tf.TensorSpec((None, WIDTH), tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return tf.matmul(tf.nn.relu(tf.matmul(x, self.first)), self.second)

    return Perceptron()


def jax() -> Any:
    """Return the same as a function of arrays."""
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(shape, dtype=np.float32) for shape in ((WIDTH, 32), (32, 4)))

    def perceptron(x: Any) -> Any:
        return jnp.maximum(x @ first, 0) @ second

    return perceptron


def bert() -> Any:
    """Return a transformer of two layers."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    model: Any = BertForSequenceClassification(config)  # untyped
    return model.eval()


def tokens_of(rows: int) -> Arrays:
    """Return the inputs of a transformer."""
    ids = np.random.default_rng(0).integers(1, 100, (rows, TOKENS))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def boosted(kind: str) -> Callable[[], Any]:
    """Return what trains an estimator of XGBoost, LightGBM or scikit-learn on ten trees."""

    def trained() -> Any:
        rows = rows_of(200)
        labels = (rows[:, 0] > 0).astype(int) + (rows[:, 1] > 0)
        if kind == "xgboost":
            from xgboost import XGBClassifier

            return XGBClassifier(n_estimators=10, n_jobs=1).fit(rows, labels)
        if kind == "lightgbm":
            from lightgbm import LGBMClassifier

            return LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1).fit(rows, labels)
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(n_estimators=10, random_state=0).fit(rows, labels)

    return trained


def of_torch(model: Model) -> Call:
    """Call a module, a script or an exported program."""
    import torch

    loaded = native(model)
    function = loaded.module() if isinstance(loaded, torch.export.ExportedProgram) else loaded

    def call(inputs: Arrays) -> object:
        with torch.inference_mode():
            return function(torch.from_numpy(inputs["input"])).numpy()

    return call


def of_transformers(model: Model) -> Call:
    """Call a transformer by its parameters' names."""
    import torch

    loaded = native(model)

    def call(inputs: Arrays) -> object:
        with torch.inference_mode():
            ids, mask = torch.from_numpy(inputs["input_ids"]), torch.from_numpy(inputs["attention_mask"])
            return loaded(input_ids=ids, attention_mask=mask).logits.numpy()

    return call


def of_onnx(model: Model) -> Call:
    """Run a session."""
    session = native(model)
    return lambda inputs: session.run(None, inputs)


def of_tensorflow(model: Model) -> Call:
    """Call a signature of a SavedModel."""
    from frameworks.tf.library import tf

    loaded = native(model)
    function = loaded.signatures["serving_default"]
    return lambda inputs: function(x=tf.constant(inputs["x"]))["output_0"].numpy()


def of_jax(model: Model) -> Call:
    """Call the program, compiled."""
    import jax as library

    function = library.jit(native(model).call)
    return lambda inputs: np.asarray(function(inputs["x"]))


def of_xgboost(model: Model) -> Call:
    """Predict in place, and choose the class."""
    booster = native(model).get_booster()
    booster.set_param({"nthread": 1})
    return lambda inputs: np.argmax(booster.inplace_predict(inputs["x"]), axis=1)


def of_lightgbm(model: Model) -> Call:
    """Predict by the booster, and choose the class."""
    booster = native(model).booster_
    return lambda inputs: np.argmax(booster.predict(inputs["x"], num_threads=1), axis=1)


def of_estimator(model: Model) -> Call:
    """Call an estimator's ``predict``."""
    predict = native(model).predict
    return lambda inputs: predict(inputs["x"])


def double(x: Any) -> Any:
    """Return a multiple: a model that costs nothing."""
    return x * 2


def input_of(rows: int) -> Arrays:
    """Return rows under the name that torch's sequences have for them."""
    return {"input": rows_of(rows)}


_ROWS = {"x": rows_of(4)}
_TENSOR = input_of(4)

CASES = (
    Case("python", save("python", lambda: double, _ROWS), lambda _: lambda inputs: double(inputs["x"])),
    Case("sklearn", save("sklearn", boosted("sklearn"), _ROWS, "predict"), of_estimator, "predict"),
    Case("xgboost", save("xgboost", boosted("xgboost"), _ROWS, "predict"), of_xgboost, "predict"),
    Case("lightgbm", save("lightgbm", boosted("lightgbm"), _ROWS, "predict"), of_lightgbm, "predict"),
    Case("pytorch", save("pytorch", perceptron, _TENSOR), of_torch, inputs=input_of),
    Case("torchscript", save("torchscript", scripted, _TENSOR), of_torch, inputs=input_of),
    Case("torch_export", save("torch_export", exported, _TENSOR), of_torch, inputs=input_of),
    Case("transformers", save("transformers", bert, tokens_of(4)), of_transformers, inputs=tokens_of),
    Case("tensorflow", save("tensorflow", tensorflow, _ROWS), of_tensorflow),
    Case("onnx", save("onnx", graph, _ROWS), of_onnx),
    Case("tensorrt", save("tensorrt", graph, _ROWS), of_onnx),
    Case("jax", save("jax", jax, _ROWS), of_jax),
)
