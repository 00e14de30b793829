"""What is known of a saved model without serving it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frameworks import python
from runtime.profiling.model import curve, facts, row_counts
from runtime.profiling.records import Load
from store import ModelStore
from tests.support.runs import SERVER, make_run

ROWS = {"batchable": True}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


class Loud:
    def __call__(self, x: Any) -> Any:
        sys.stdout.write("never on stdout")
        return x


def test_torch_tells_parameters_and_flops(store: ModelStore) -> None:
    torch = pytest.importorskip("torch")
    from frameworks import pytorch

    model = torch.nn.Linear(8, 4)
    saved = pytorch.save_model(
        "linear", model, signatures={"__call__": ROWS}, sample=(np.ones((3, 8), np.float32),), store=store
    )
    found = facts(saved, store)
    assert (found["parameters"], found["buffers"], found["flops_per_row"]) == (8 * 4 + 4, 0, 2 * 8 * 4)
    assert found["artifact_bytes"] == saved.size_bytes


def test_sklearn_tells_the_weights_of_linear_models(store: ModelStore) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    from frameworks import sklearn

    fitted = linear.LinearRegression().fit(np.eye(3), np.arange(3))
    assert facts(sklearn.save_model("line", fitted, store=store), store)["parameters"] == 4


def test_what_a_model_prints_does_not_disturb(store: ModelStore) -> None:
    module = sys.modules[__name__]
    saved = python.save_model("loud", Loud(), external_modules=[module], store=store)
    assert facts(saved, store) == {"module": "python", "artifact_bytes": saved.size_bytes}


def test_a_model_that_cannot_be_examined_says_why(store: ModelStore) -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LinearRegression

    from frameworks import sklearn

    saved = sklearn.save_model("line", LinearRegression().fit(np.eye(3), np.arange(3)), store=store)
    next(path for path in saved.path.iterdir() if path.name != "model.yaml").write_bytes(b"damaged")
    found = facts(saved, store)
    assert "digest" in found["error"]
    assert "parameters" not in found


@pytest.mark.parametrize(
    ("limit", "counts"), [(1, [1]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])]
)
def test_the_curve_has_powers_of_two_and_the_limit(limit: int, counts: list[int]) -> None:
    assert row_counts(limit) == counts


def test_the_curve_takes_the_servers_own_time_where_it_tells() -> None:
    load = Load(mode="closed", concurrency=1)
    runs = [
        make_run(load=load, labels={"rows": "1"}, server=SERVER),
        make_run((8.0,), load=load, labels={"rows": "2"}),
        make_run((), load=load, labels={"rows": "4"}),
    ]
    assert curve(runs) == {"1": 2.5, "2": pytest.approx(4.0, rel=1 / 128)}
