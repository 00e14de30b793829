"""Small TensorFlow models with known answers, and what tests of the adapter do with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from frameworks import LoadOptions, tensorflow
from frameworks.tf.library import tf
from store import Model

import keras  # isort: skip  # after TensorFlow, which is to be imported quietly

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
BATCHABLE = {"__call__": {"batchable": True}}


class Scorer(tf.Module):  # type: ignore[misc]  # the library has no types
    """Two functions that say what they take, and a plain method that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(tf.reshape(tf.range(12, dtype=tf.float32), (4, 3)) / 10)

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32)])
    def predict(self, x: Any) -> Any:
        return {"scores": tf.matmul(x, self.weight), "best": tf.argmax(tf.matmul(x, self.weight), axis=1)}

    @tf.function(
        input_signature=[tf.TensorSpec((None, 4), tf.float32, name="left"), tf.TensorSpec((), tf.int32)]
    )
    def scale(self, x: Any, factor: Any) -> Any:
        return x * tf.cast(factor, tf.float32)

    def plain(self, x: Any, bias: Any) -> Any:
        if tf.shape(x)[1] > 2:
            return x + bias
        return x - bias


def mlp() -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
    return keras.Sequential([keras.layers.Input((4,), name="x"), *layers])


def foreign(folder: Path) -> Path:
    """A folder as other tools write it: two signatures, tensors in no order of ours."""
    scorer = Scorer()
    functions = {"serving_default": scorer.predict, "scale": scorer.scale}
    tf.saved_model.save(scorer, str(folder), signatures=functions)
    return folder


def run(model: Model, inputs: dict[str, Any], method: str = "__call__", **options: Any) -> dict[str, Any]:
    answer = tensorflow.open_methods(model, LoadOptions(**options))[method](inputs)
    assert isinstance(answer, dict)
    return answer


def specs(model: Model, method: str = "__call__") -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    signature = model.info.signatures[method]
    return (
        [(spec.name, spec.datatype, spec.shape) for spec in signature.inputs or ()],
        [(spec.name, spec.datatype, spec.shape) for spec in signature.outputs or ()],
    )
