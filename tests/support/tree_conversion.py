"""Trees and other estimators beside what they are converted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_iris

from frameworks import LoadOptions, onnx, registry
from frameworks.convert.formats import Variant
from frameworks.convert.steps import trees
from frameworks.convert.work import Made, Settings, Work
from frameworks.row_errors import complete
from store import Model, ModelStore

X, Y = load_iris(return_X_y=True)
D, T = load_diabetes(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
BOTH = ("predict", "predict_proba")
STEPS = {"sklearn": trees.sklearn_onnx, "xgboost": trees.xgboost_onnx, "lightgbm": trees.lightgbm_onnx}
QUIET = {"n_estimators": 9, "verbose": -1, "n_jobs": 1}
FEW = {"n_estimators": 9, "random_state": 0, "n_jobs": 1}


@dataclass
class Converted:
    """A source, what it was converted to, and the adapters' methods of both."""

    made: Made
    target: Path
    model: Model
    source: Any
    result: Any

    def same(self, features: Any, method: str, **tolerance: float) -> None:
        """Compare for the batch sizes 1, 2, 7 and all: names, shapes and datatypes too."""
        for rows in (1, 2, 7, len(features)):
            expected = complete(self.source[method]({"X": features[:rows].copy()}))
            actual = complete(self.result[method]({"X": features[:rows].copy()}))
            assert list(actual) == list(expected)
            for name, value in expected.items():
                assert (actual[name].dtype, actual[name].shape) == (value.dtype, value.shape)
                if value.dtype.kind == "f":
                    np.testing.assert_allclose(
                        actual[name], value, **({"rtol": 1e-5, "atol": 1e-5} | tolerance)
                    )
                else:
                    np.testing.assert_array_equal(actual[name], value)


class Bench:
    """Saves, converts and opens models in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ModelStore(folder / "models")

    def work(self, module: str, model: Any, features: Any, methods: Sequence[str], **settings: Any) -> Work:
        arguments: Any = {
            "signatures": {method: {"batchable": True} for method in methods},
            "sample": {"X": features[:5]},
            "store": self.store,
        }
        saved = registry.adapter(module).save_model("source", model, **arguments)
        return Work(
            variant=Variant.parse("onnx"),
            start=None,
            model=saved,
            artifact=None,
            target=self.folder / "model.onnx",
            signatures=saved.info.signatures,
            samples=tuple({"X": features[row : row + 1].copy()} for row in range(0, len(features), 30)),
            settings=Settings(**settings),
        )

    def convert(
        self, module: str, model: Any, features: Any, methods: Sequence[str], **settings: Any
    ) -> Converted:
        work = self.work(module, model, features, methods, **settings)
        assert work.model is not None
        made = STEPS[module](work)
        signatures: Any = {method: work.signatures[method] for method in made.methods}
        result = onnx.save_model(
            "converted", work.target, signatures=signatures, sample={"X": features[:5]}, store=self.store
        )
        return Converted(
            made=made,
            target=work.target,
            model=result,
            source=registry.adapter(module).open_methods(work.model, LoadOptions()),
            result=onnx.open_methods(result, LoadOptions()),
        )
