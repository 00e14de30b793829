"""Small torch models of all kinds, saved, converted, and compared with what they were made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from frameworks import LoadOptions, pytorch, registry
from frameworks.base import FileAdapter
from frameworks.calling import Opened
from frameworks.convert.formats import Variant
from frameworks.convert.steps import torch as steps
from frameworks.convert.work import ADAPTERS, ARTIFACTS, Made, Settings, Work
from frameworks.row_errors import complete
from store import Model, ModelStore, Signature, TensorSpec

STEPS: dict[str, Callable[[Work], Made]] = {
    "torchscript-script": steps.script,
    "torchscript-trace": steps.trace,
    "torch-export": steps.export,
    "torch-aoti": steps.aoti,
    "onnx": steps.onnx,
    "onnx-legacy": steps.onnx_legacy,
}
EVERY = [name for name in STEPS if name != "torch-aoti"]
EXPORTED = ["torch-export", "onnx"]


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


class Wide(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


class Cnn(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4, 3),
        )

    def forward(self, image: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        result: torch.Tensor = self.layers(image) * scale
        return result


class Pair(torch.nn.Module):
    """Two inputs, given in another order than the signature's, and a mapping with more than it names."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"product": left * right, "total": (left - right).sum(-1), "more": left}


class Same(torch.nn.Module):
    """Results that share values with each other, with an input, and with nothing."""

    def forward(self, x: torch.Tensor, ignored: torch.Tensor):  # type: ignore[no-untyped-def]
        y = x * 2
        return y, y, x, torch.ones(3)


class Branch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x.sum() > 0).item()):
            return x * 2
        return -x


class Embedder(torch.nn.Module):
    """A method that is not ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def embed(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x)
        return result


class Counting(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[int, torch.Tensor]:
        return len(x), x


class TwoRows(torch.nn.Module):
    """Works for batches of two only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(2, 4)


def spec(name: str, *shape: int, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(name, datatype, shape)


def batchable(inputs: Any, outputs: Any) -> dict[str, Signature]:
    return {"__call__": Signature(batchable=True, inputs=tuple(inputs), outputs=tuple(outputs))}


MLP = batchable([spec("x", -1, 4)], [spec("scores", -1, 3)])
CNN = batchable([spec("image", -1, 3, 8, 8)], [spec("scores", -1, 3)])
PAIR = batchable([spec("right", -1, -1), spec("left", -1, -1)], [spec("total", -1), spec("product", -1, -1)])
SAME = {
    "__call__": Signature(
        inputs=(spec("x", -1, 3), spec("ignored", -1, 2)),
        outputs=(spec("y", -1, 3), spec("z", -1, 3), spec("x", -1, 3), spec("c", 3)),
    )
}
ROWS = {"__call__": Signature(inputs=(spec("x", -1, 3),), outputs=(spec("y", -1, 3),))}
INDEXES = {"datatype": "INT64"}
BERT = batchable(
    [spec("input_ids", -1, -1, **INDEXES), spec("attention_mask", -1, -1, **INDEXES)], [spec("logits", -1, 3)]
)

random = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return random.standard_normal(shape).astype(np.float32)


def tokens(rows: int, length: int) -> dict[str, Any]:
    mask = np.ones((rows, length), np.int64)
    mask[-1, length - 1 :] = length < 2
    return {"input_ids": random.integers(0, 100, (rows, length)), "attention_mask": mask}


def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            vocab_size=100,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            num_labels=3,
        )
    )


def scripted(module: torch.nn.Module) -> Any:
    compile_code: Any = torch.jit.script
    return compile_code(module)


def task(model: Model | None, variant: str, folder: Path, *samples: Any, **settings: Any) -> Work:
    assert model is not None
    found = Variant.parse(variant)
    return Work(
        variant=found,
        start=None,
        model=model,
        artifact=None,
        target=folder / ARTIFACTS[found.format],
        signatures=model.info.signatures,
        samples=samples,
        settings=Settings(**settings),
    )


def opened(work: Work, made: Made) -> Opened:
    adapter = cast(FileAdapter, registry.adapter(ADAPTERS[work.variant.format]))
    (method,) = made.methods
    return adapter.open_artifact(work.target, {method: work.signatures[method]}, LoadOptions())[method]


def answers(method: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    return complete(method({name: array.copy() for name, array in inputs.items()}))


def convert_and_compare(work: Work, *inputs: dict[str, Any]) -> Made:
    """Convert, and compare with the source on other inputs than the one that was converted with."""
    made = STEPS[str(work.variant)](work)
    method = opened(work, made)
    assert work.model is not None
    source = registry.adapter(work.model.info.module).open_methods(work.model, LoadOptions())[made.methods[0]]
    names = [one.name for one in work.signatures[made.methods[0]].outputs or ()]
    for given in inputs:
        wanted, found = answers(source, given), answers(method, given)
        for name in names:
            assert found[name].dtype == wanted[name].dtype
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, rtol=1e-5)
    leftovers = [path.name for path in work.target.parent.iterdir() if path != work.target]
    assert leftovers == []
    return made


class Shelf:
    """Saves each model once."""

    def __init__(self, root: Path) -> None:
        self.store = ModelStore(root)
        self._saved: dict[str, Model] = {}

    def __call__(self, name: str, make: Callable[[], Any], signatures: Any, adapter: Any = pytorch) -> Model:
        """Return the saved model of a name, made when it is first asked for."""
        if name not in self._saved:
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                model = adapter.save_model(name, make(), signatures=signatures, store=self.store)
            self._saved[name] = model
        return self._saved[name]


def export_pair(save: Shelf, folder: Path) -> Path:
    """Return an exported program of ``Pair`` that takes six rows at most."""
    sample = {"right": floats(1, 4), "left": floats(1, 4)}
    work = task(save("pair", Pair, PAIR), "torch-export", folder, sample, max_batch_size=6)
    steps.export(work)
    return work.target
