"""One small model for each adapter: all take rows of four FP32 numbers, and rows may be merged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from frameworks import registry
from store import Model, ModelStore

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
BATCHABLE = {"batchable": True}
LABELS = np.array([0, 1, 0, 1, 0, 1])


def double(x: Any) -> Any:
    return x * 2


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=3, random_state=0).fit(X, LABELS)


def xgboost() -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=3, n_jobs=1).fit(X, LABELS)


def lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=3, min_child_samples=1, n_jobs=1, verbose=-1).fit(X, LABELS)


def module() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()


def script() -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        trace: Any = torch.jit.trace
        return trace(module(), torch.from_numpy(X))


def program() -> Any:
    import torch

    rows = torch.export.Dim("rows", max=1024)
    return torch.export.export(module(), (torch.from_numpy(X),), dynamic_shapes=({0: rows},))


def graph() -> Any:
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "weights")
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "weights"], ["y"])],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
            [weights],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def tensorflow() -> Any:
    from frameworks.tf.library import tf

    class Scale(tf.Module):  # type: ignore[misc]  # the library has no types
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def __call__(self, x: Any) -> Any:
            return x * 2

    return Scale()


def transformers() -> Any:
    from transformers import Dinov2Config, Dinov2Model  # one that takes no integers

    config = Dinov2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=4, patch_size=2
    )
    return Dinov2Model(config).eval()


MODELS: dict[str, Callable[[], Any]] = {
    "python": lambda: double,
    "sklearn": forest,
    "xgboost": xgboost,
    "lightgbm": lightgbm,
    "pytorch": module,
    "torchscript": script,
    "torch_export": program,
    "transformers": transformers,
    "tensorflow": tensorflow,
    "onnx": graph,
    "tensorrt": graph,
    "jax": lambda: double,
}
IMAGES = np.linspace(-1, 1, 2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)


def method_of(name: str) -> str:
    """Return the method that an adapter serves where nothing is said."""
    return "predict" if name in ("sklearn", "xgboost", "lightgbm") else "__call__"


def sample_of(name: str) -> Any:
    """Return the input of the adapter's model."""
    return IMAGES if name == "transformers" else X


def save(name: str, store: ModelStore, **arguments: Any) -> Model:
    """Save the adapter's model as ``small``."""
    given = {"sample": sample_of(name), "signatures": {method_of(name): BATCHABLE}, **arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return registry.adapter(name).save_model("small", MODELS[name](), store=store, **given)
