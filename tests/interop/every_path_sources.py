"""Six trained models of as many kinds: how each is saved, what it is asked, what it answers by itself.

The answers are the frameworks' own, without an adapter, of the very object that is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier

from frameworks import pytorch, sklearn, tensorflow, transformers, xgboost
from store import ModelStore
from tests.support import hugging
from tests.support.networks import Convolutions, Perceptron

Arrays = Mapping[str, Any]

BATCHES: Final = (1, 3, 8)
LENGTHS: Final = (3, 9, 16)
"""Of the sequences of the transformer, which is saved with a sample of another one."""

_NO_GPU: Final = "this machine has no NVIDIA GPU that can be used (asked of the driver library libcuda.so.1)"

_ROWS: Final = {"batchable": True}
_TORCH: Final = (
    "torchscript-script", "torchscript-trace", "torch-export", "torch-aoti", "onnx", "onnx-legacy",
)  # fmt: skip
_TORCH_TRT: Final = f"torch-trt needs an NVIDIA GPU and torch_tensorrt; {_NO_GPU}"
_TF_TRT: Final = (
    "TF-TRT cannot be had from TensorFlow {version}: Tensorflow has not been built with TensorRT support. "
    "Convert SavedModel to ONNX, and ONNX to TensorRT: targets 'onnx' and 'trt'"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One model.

    Args:
        module: adapter that saves it.
        make: returns the framework's own object, the same each time.
        sample: it is saved with.
        answer: what the object answers to inputs, by method, the default one first.
        questions: what every method is asked.
        good: variants that need no GPU.
        options: of the command, where the usual targets would take too long.
        specs: of the inputs, where the sample does not show them.
        plans: variants that are made without a GPU and executed with one.
        skipped: variants that are not made without a GPU, and the message.
        blocked: modules without which a package has to do.
    """

    module: Any
    make: Callable[[], Any]
    sample: Any
    answer: Mapping[str, Callable[[Any, Arrays], Any]]
    questions: Sequence[Arrays]
    good: Sequence[str]
    options: Sequence[str] = ()
    specs: Sequence[Mapping[str, Any]] = ()
    plans: Sequence[str] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    blocked: Sequence[str] = ()

    def keep(self, tag: str, store: ModelStore) -> None:
        """Save it."""
        signature = {**_ROWS, **({"inputs": self.specs} if self.specs else {})}
        signatures = dict.fromkeys(self.answer, signature)
        self.module.save_model(tag, self.make(), signatures=signatures, sample=self.sample, store=store)

    def answers(self) -> dict[str, list[Any]]:
        """What it answers to each question, by method."""
        model = self.make()
        return {name: [call(model, one) for one in self.questions] for name, call in self.answer.items()}


def _batches(name: str, rows: Any) -> list[Arrays]:
    """Batches of several sizes, each of other rows."""
    starts = np.cumsum((0, *BATCHES[:-1]))
    return [{name: rows[start : start + size]} for start, size in zip(starts, BATCHES, strict=True)]


_CELLS: Final = load_breast_cancer()
_CELL_ROWS: Final = ((_CELLS.data - _CELLS.data.mean(0)) / _CELLS.data.std(0)).astype(np.float32)
_DIGITS: Final = load_digits()
_DIGIT_ROWS: Final = (_DIGITS.images / 16).astype(np.float32)
_FLOWERS: Final = load_iris()
_FLOWER_ROWS: Final = _FLOWERS.data.astype(np.float32)

# -- torch


def _trained(kind: Callable[[], torch.nn.Module], x: Any, y: Any) -> torch.nn.Module:
    """A network after a few steps, after which no weight and no running mean is what it was."""
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


@cache
def _perceptron() -> torch.nn.Module:
    return _trained(Perceptron, _CELL_ROWS, _CELLS.target)


@cache
def _convolutions() -> torch.nn.Module:
    return _trained(Convolutions, _DIGIT_ROWS[:256, None], _DIGITS.target[:256])


def _of_torch(model: Any, given: Arrays) -> Any:
    with torch.no_grad():
        answer = model(**{name: torch.from_numpy(array) for name, array in given.items()})
    return getattr(answer, "logits", answer).numpy()


# -- transformers


@cache
def _bert() -> Any:
    from transformers import BertForSequenceClassification

    # Weights so large that attention, and with it the mask, matters.
    return hugging.build(BertForSequenceClassification, hugging.bert_config(initializer_range=0.5))


def _texts(rows: int, length: int) -> Arrays:
    """Rows of which every other one ends with padding."""
    ids = np.random.default_rng([rows, length]).integers(5, hugging.WORDS, (rows, length))
    mask = np.ones((rows, length), np.int64)
    mask[1::2, length - length // 3 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


_TEXTS: Final = [{"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in _texts(1, 1)]

# -- Keras


@cache
def _keras() -> Any:
    from frameworks.tf.library import tf  # before Keras, which it makes quiet

    import keras  # isort: skip

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Input((8, 8, 1), name="image"),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.2),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy")
    with tf.device("/CPU:0"):
        model.fit(_DIGIT_ROWS[:256, :, :, None], _DIGITS.target[:256], epochs=2, verbose=0)
    return model


def _of_keras(model: Any, given: Arrays) -> Any:
    return model(given["image"], training=False).numpy()


# -- trees


@cache
def _forest() -> Any:
    return RandomForestClassifier(n_estimators=20, random_state=1, n_jobs=1).fit(
        _FLOWER_ROWS, _FLOWERS.target
    )


@cache
def _boosted() -> Any:
    from xgboost import XGBClassifier

    model = XGBClassifier(n_estimators=20, max_depth=4, random_state=1, n_jobs=1)
    return model.fit(_CELL_ROWS, _CELLS.target)


def _of_method(name: str, model: Any, given: Arrays) -> Any:
    (rows,) = given.values()
    return getattr(model, name)(rows)


_OF_TREES: Final = {name: partial(_of_method, name) for name in ("predict", "predict_proba")}

SOURCES: Final[Mapping[str, Source]] = {
    "perceptron": Source(
        module=pytorch,
        make=_perceptron,
        sample=_CELL_ROWS[:12],
        answer={"__call__": _of_torch},
        questions=_batches("features", _CELL_ROWS[100:]),
        good=_TORCH,
        plans=("trt-fp32", "trt-fp16"),
        skipped=dict.fromkeys(("torch-trt-fp32", "torch-trt-fp16"), _TORCH_TRT),
    ),
    "convolutions": Source(
        module=pytorch,
        make=_convolutions,
        sample=_DIGIT_ROWS[:12, None],
        answer={"__call__": _of_torch},
        questions=_batches("image", _DIGIT_ROWS[300:, None]),
        options=("--to", "onnx,onnx-legacy"),
        good=("onnx", "onnx-legacy"),
    ),
    "bert": Source(
        module=transformers,
        make=_bert,
        sample=_texts(4, 7),
        specs=_TEXTS,
        answer={"__call__": _of_torch},
        questions=[_texts(rows, length) for rows in BATCHES for length in LENGTHS],
        options=("--to", "torchscript-trace,torch-export,onnx,onnx-legacy"),
        good=("torchscript-trace", "torch-export", "onnx", "onnx-legacy"),
        blocked=("transformers",),
    ),
    "keras": Source(
        module=tensorflow,
        make=_keras,
        sample=_DIGIT_ROWS[:12, :, :, None],
        answer={"__call__": _of_keras},
        questions=_batches("image", _DIGIT_ROWS[300:, :, :, None]),
        options=("--precision", "fp16"),
        good=("tf-savedmodel", "onnx"),
        plans=("trt-fp16",),
        skipped={"tf-trt-fp16": _TF_TRT},
        blocked=("keras",),
    ),
    "forest": Source(
        module=sklearn,
        make=_forest,
        sample=_FLOWER_ROWS[::10],
        answer=_OF_TREES,
        questions=_batches("X", _FLOWER_ROWS[1::3]),
        good=("onnx",),
        blocked=("sklearn",),
    ),
    "boosted": Source(
        module=xgboost,
        make=_boosted,
        sample=_CELL_ROWS[:20],
        answer=_OF_TREES,
        questions=_batches("features", _CELL_ROWS[100:]),
        good=("onnx",),
        blocked=("sklearn", "xgboost"),
    ),
}
