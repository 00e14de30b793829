"""From the store to a model that can serve."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frameworks import python
from runtime.errors import RuntimeServingError
from runtime.runner import loading
from runtime.runner.executor import Executor
from runtime.runner.order import Order
from store import Model, ModelStore, Signature, TensorSpec
from tests.support.execution import Inputs, group_of, head_of, outputs_of

X = np.ones((2, 3), np.float32)
BATCHABLE = {"__call__": {"batchable": True}}


def load(model: Model, path: Path, **options: Any) -> Executor:
    return loading.load(Order(store=str(path), tag=str(model.tag), instance="i", **options))


def saved(path: Path, function: object, **arguments: object) -> Model:
    return python.save_model("m", function, store=ModelStore(path), **arguments)  # type: ignore[arg-type]


class Sizes:
    """Remembers the shapes and sums of what a method was given."""

    def __init__(self, fail_at: int = 0) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.sums: list[object] = []
        self._fail_at = fail_at

    def __call__(self, inputs: Inputs) -> Inputs:
        for array in inputs.values():
            self.seen.append(array.shape)
            self.sums.append(array.tolist())
        if self._fail_at and self.seen[-1][0] >= self._fail_at:
            raise ValueError("too many")
        return inputs


def test_a_loaded_model_answers(tmp_path: Path) -> None:
    model = saved(tmp_path, lambda x: x * 2, signatures=BATCHABLE, sample=(X,))
    executor = load(model, tmp_path, max_batch_size=6)
    task: Inputs = {spec.name: X for spec in model.info.signatures["__call__"].inputs or ()}
    group = group_of([task], (0, 0))
    (share,) = executor.execute(head_of(task, (0, 0), "__call__"), [group]).shares
    (outputs,) = outputs_of(share, group)
    assert [array.tolist() for array in outputs.values()] == [(X * 2).tolist()]


def test_a_model_that_is_not_there_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nope"):
        loading.load(Order(store=str(tmp_path), tag="nope:1", instance="i"))


@pytest.mark.parametrize(
    ("signature", "shapes"),
    [
        (
            Signature(batchable=True, inputs=(TensorSpec("x", "FP32", (-1, 2)),)),
            [(1, 2), (4, 2), (6, 2)],
        ),
        (
            Signature(batchable=True, batch_dim=(1, 0), inputs=(TensorSpec("x", "INT8", (3, -1)),)),
            [(3, 1), (3, 4), (3, 6)],
        ),
        (Signature(inputs=(TensorSpec("x", "FP32", (-1, 5)),)), [(1, 5)]),
        (Signature(batchable=True, inputs=(TensorSpec("x", "BYTES", (-1,)),)), [(1,), (4,), (6,)]),
        (Signature(batchable=True), []),
    ],
)
def test_every_batch_size_is_tried_before_the_model_is_ready(
    tmp_path: Path, signature: Signature, shapes: list[tuple[int, ...]]
) -> None:
    model = saved(tmp_path, len, signatures={"__call__": signature})
    method = Sizes()
    loading.warm_up(model, {"__call__": method}, (1, 4, 6))
    assert method.seen == shapes


class Logged:
    """Writes down the number of rows of each call, in a place that outlives its pickle."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with self._path.open("a") as file:
            file.write(f"{len(x)} ")
        return x


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"max_batch_size": 1}, "1 "),
        ({"max_batch_size": 6}, "1 2 4 6 "),
        ({"max_batch_size": 8}, "1 2 4 8 "),
        ({"max_batch_size": 12, "allowed_batch_sizes": (3, 12)}, "3 12 "),
    ],
)
def test_every_size_that_may_come_was_run_when_a_model_is_ready(
    tmp_path: Path, options: dict[str, Any], sizes: str
) -> None:
    log = tmp_path / "sizes"
    model = saved(tmp_path, Logged(log), signatures=BATCHABLE, sample=(X,))
    log.unlink()
    load(model, tmp_path, **options)
    assert log.read_text() == sizes


def test_a_loaded_model_runs_allowed_sizes_only(tmp_path: Path) -> None:
    log = tmp_path / "sizes"
    model = saved(tmp_path, Logged(log), signatures=BATCHABLE, sample=(X,))
    executor = load(model, tmp_path, max_batch_size=8, allowed_batch_sizes=(4, 8))
    task: Inputs = {spec.name: X for spec in model.info.signatures["__call__"].inputs or ()}
    log.unlink()
    executor.execute(head_of(task, (0, 0), "__call__"), [group_of([task], (0, 0))])
    assert log.read_text() == "4 "


def test_sizes_are_the_same_after_a_journey_through_json() -> None:
    order = Order(store="/s", tag="m:1", instance="i", allowed_batch_sizes=(1, 4))
    assert Order(**json.loads(json.dumps(asdict(order)))) == order


def test_the_saved_sample_is_repeated(tmp_path: Path) -> None:
    sample = np.array([[1], [2], [3]], np.int64)
    model = saved(tmp_path, lambda x: x, signatures=BATCHABLE, sample=(sample,))
    method = Sizes()
    loading.warm_up(model, {"__call__": method}, (5,))
    assert method.sums[-1] == [[1], [2], [3], [1], [2]]


def test_a_model_that_fails_on_its_own_sample_cannot_be_loaded(tmp_path: Path) -> None:
    model = saved(tmp_path, lambda x: x, signatures=BATCHABLE, sample=(X,))
    with pytest.raises(ValueError, match="too many"):
        loading.warm_up(model, {"__call__": Sizes(fail_at=4)}, (1, 2, 4, 6))


def test_a_model_that_fails_on_zeros_is_only_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    signature = Signature(batchable=True, inputs=(TensorSpec("x", "FP32", (-1, 2)),))
    model = saved(tmp_path, len, signatures={"__call__": signature})
    method = Sizes(fail_at=2)
    loading.warm_up(model, {"__call__": method}, (1, 2, 4, 6))
    assert method.seen == [(1, 2), (2, 2)]
    assert "warm_up_skipped" in caplog.text


def test_an_error_is_said_in_one_line_with_its_place() -> None:
    assert loading.describe(RuntimeServingError("never raised")) == "RuntimeServingError: never raised"
    try:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise RuntimeServingError("cannot") from cause
    except RuntimeServingError as error:
        said = loading.describe(error)
    assert said.startswith("RuntimeServingError: cannot (")
    assert f"{Path(__file__).name}:" in said
