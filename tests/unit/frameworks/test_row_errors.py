"""Rows that a model cannot answer, on their way through the adapters."""

from __future__ import annotations

import numpy as np
import pytest

import frameworks
from frameworks import InvalidOutput, RowErrors, SampleFailed, python
from frameworks.calling import Caller
from frameworks.row_errors import complete
from store import ModelStore, Signature, TensorSpec

X = np.ones((3, 2), np.float32)


def call(result: object, signature: Signature | None = None) -> object:
    return Caller(lambda x: result, signature or Signature(batchable=True))({"x": X})


def test_errors_are_the_models_own_words() -> None:
    errors = RowErrors(None, {0: "too red", np.int64(2): ValueError("no date"), 3: KeyError()}).errors
    assert errors == {0: "too red", 2: "no date", 3: "KeyError"}
    assert all(type(row) is int for row in errors)


def test_errors_are_readable_where_somebody_looks_at_them() -> None:
    assert repr(RowErrors([1], {0: "no"})) == "RowErrors(outputs=[1], errors={0: 'no'})"


def test_a_row_is_a_whole_number() -> None:
    with pytest.raises(TypeError):
        RowErrors(None, {1.5: "half"})  # type: ignore[dict-item]


def test_outputs_beside_errors_are_named_like_others() -> None:
    signature = Signature(batchable=True, outputs=(TensorSpec("score", "INT64", (-1,)),))
    answer = call(RowErrors([1, 2, 3], {1: "no"}), signature)
    assert isinstance(answer, RowErrors)
    assert {name: array.tolist() for name, array in answer.outputs.items()} == {"score": [1, 2, 3]}
    assert answer.errors == {1: "no"}


def test_where_every_row_failed_there_need_be_no_outputs() -> None:
    answer = call(RowErrors(None, {0: "a", 1: "b", 2: "c"}))
    assert isinstance(answer, RowErrors)
    assert answer.outputs == {}


def test_outputs_beside_errors_must_be_tensors_too() -> None:
    with pytest.raises(InvalidOutput):
        call(RowErrors(object(), {1: "no"}))


def test_who_needs_every_row_is_told_which_failed() -> None:
    assert complete({"y": X}) == {"y": X}
    assert complete(RowErrors({"y": X}, {})) == {"y": X}
    with pytest.raises(InvalidOutput, match="row 2 failed: no"):
        complete(RowErrors({"y": X}, {2: "no"}))


def positive(x: np.ndarray) -> object:
    return frameworks.RowErrors(x, {int(row): "negative" for row in np.flatnonzero(x.min(axis=1) < 0)})


def test_a_sample_must_be_answered_whole(tmp_path: object) -> None:
    store = ModelStore(tmp_path)  # type: ignore[arg-type]
    signatures = {"__call__": {"batchable": True}}
    model = python.save_model("m", positive, signatures=signatures, sample=(X,), store=store)
    assert model.info.signatures["__call__"].outputs is not None
    with pytest.raises(SampleFailed, match="row 0 failed: negative"):
        python.save_model("m", positive, signatures=signatures, sample=(-X,), store=store)
