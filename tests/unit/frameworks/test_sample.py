from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from frameworks import InvalidOutput, SampleFailed, python, sample
from frameworks.sample import NotBatchInvariant
from store import CorruptArtifact, Model, ModelStore, TensorSpec, datatypes
from tests.support.dtypes import edge_array

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
BATCHABLE = {"__call__": {"batchable": True}}


def save(models: ModelStore, function: Any, given: Any, signatures: Any = None) -> Model:
    return python.save_model("m", function, signatures=signatures, sample=given, store=models)


def invariance_of(model: Model, method: str = "__call__") -> Any:
    checks: Any = model.info.checks
    return checks["batch_invariance"][method]


def test_specs_are_inferred_with_a_dynamic_batch_axis(models: ModelStore) -> None:
    model = save(models, lambda x: {"sum": x.sum(axis=1), "all": x}, ROWS, BATCHABLE)
    signature = model.info.signatures["__call__"]
    assert signature.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    assert signature.outputs == (TensorSpec("sum", "FP32", (-1,)), TensorSpec("all", "FP32", (-1, 3)))


def test_specs_of_a_method_that_is_not_batchable_are_fixed(models: ModelStore) -> None:
    signature = save(models, lambda x: x.sum(), ROWS).info.signatures["__call__"]
    assert signature.inputs == (TensorSpec("x", "FP32", (4, 3)),)
    assert signature.outputs == (TensorSpec("output_0", "FP32", ()),)


def test_input_and_output_axes_may_differ(models: ModelStore) -> None:
    signatures = {"__call__": {"batchable": True, "batch_dim": (1, 0)}}
    model = save(models, lambda x: x.T.copy(), ROWS, signatures)
    signature = model.info.signatures["__call__"]
    assert signature.inputs == (TensorSpec("x", "FP32", (4, -1)),)
    assert signature.outputs == (TensorSpec("output_0", "FP32", (-1, 4)),)
    assert invariance_of(model)["invariant"]


def test_a_tuple_goes_by_position_and_a_mapping_by_name(models: ModelStore) -> None:
    for given in ((ROWS, ROWS[:, 0]), {"a": ROWS, "b": ROWS[:, 0]}):
        inputs = (
            save(models, lambda a, b: a * b[:, None], given, BATCHABLE).info.signatures["__call__"].inputs
        )
        assert inputs == (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "FP32", (-1,)))


def test_a_list_is_one_array(models: ModelStore) -> None:
    inputs = save(models, lambda x: x, [[5.9, 3.0, 5.1, 1.8]], BATCHABLE).info.signatures["__call__"].inputs
    assert inputs == (TensorSpec("x", "FP64", (-1, 4)),)


def test_given_specs_are_kept_and_missing_ones_filled_in(models: ModelStore) -> None:
    spec = {"name": "rows", "datatype": "FP32", "shape": [-1, -1]}
    signatures = {"__call__": {"batchable": True, "inputs": [spec]}}
    signature = save(models, lambda x: x, ROWS, signatures).info.signatures["__call__"]
    assert signature.inputs == (TensorSpec("rows", "FP32", (-1, -1)),)
    assert signature.outputs == (TensorSpec("output_0", "FP32", (-1, -1)),)


TWO = [{"name": name, "datatype": "FP32", "shape": [-1, -1]} for name in ("long", "short")]


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda long, short: {"kept": long, "sums": long.sum(1) + short.sum(1)}, [(-1, -1), (-1,)]),
        (lambda long, short: {"joined": np.hstack([long, short]), "fixed": long[:, :1]}, [(-1, -1), (-1, 1)]),
        (lambda long, short: {"short": short, "only_three": long + np.ones(3)}, [(-1, -1), (-1, 3)]),
    ],
)
def test_an_output_axis_that_changes_with_a_dynamic_input_axis_is_dynamic(
    function: Any, shapes: list[tuple[int, ...]], models: ModelStore
) -> None:
    given = {"long": ROWS, "short": ROWS[:, :2]}
    model = save(models, function, given, {"__call__": {"batchable": True, "inputs": TWO}})
    assert [spec.shape for spec in model.info.signatures["__call__"].outputs or ()] == shapes


class Codec:
    def encode(self, text: Any) -> Any:
        return text + 1

    def decode(self, code: Any) -> Any:
        return code - 1


def test_a_method_whose_specs_do_not_fit_the_sample_is_left_alone(models: ModelStore) -> None:
    signatures = {
        "decode": {"inputs": [{"name": "code", "datatype": "INT64", "shape": [-1]}]},
        "encode": {"batchable": True},
    }
    model = python.save_model("codec", Codec(), signatures=signatures, sample=ROWS, store=models)
    assert model.info.signatures["decode"].outputs is None
    assert model.info.signatures["encode"].inputs == (TensorSpec("text", "FP32", (-1, 3)),)
    assert sample.load(model, "decode") is None
    by_name = python.save_model("codec", Codec(), signatures=signatures, sample={"text": ROWS}, store=models)
    assert by_name.info.signatures["decode"].outputs is None


def test_a_sample_that_fits_no_method_is_refused(models: ModelStore) -> None:
    signatures = {"__call__": {"inputs": [{"name": "x", "datatype": "INT64", "shape": [-1]}]}}
    for given in (ROWS, (ROWS, ROWS), {"y": ROWS}):
        with pytest.raises(SampleFailed, match="no method"):
            save(models, lambda x: x, given, signatures)


def test_the_stored_sample_takes_the_names_of_each_method(models: ModelStore) -> None:
    signatures = {"encode": {"batchable": True}, "decode": {"batchable": True}}
    model = python.save_model("codec", Codec(), signatures=signatures, sample=ROWS, store=models)
    for method, name in ((None, "text"), ("encode", "text"), ("decode", "code")):
        arrays = sample.load(model, method)
        assert arrays is not None
        assert list(arrays) == [name]
        np.testing.assert_array_equal(arrays[name], ROWS)


@pytest.mark.parametrize("name", datatypes.NAMES)
def test_the_stored_sample_is_bit_for_bit_the_given_one(models: ModelStore, name: str) -> None:
    array = edge_array(name)
    arrays = sample.load(save(models, lambda x, empty: x, (array, array[:0])))
    assert arrays is not None
    assert arrays["x"].dtype == arrays["empty"].dtype == array.dtype
    assert arrays["empty"].shape == (0, 2)
    assert arrays["x"].flags.writeable
    assert (
        arrays["x"].tolist() == array.tolist()
        if name == "BYTES"
        else arrays["x"].tobytes() == array.tobytes()
    )


def test_a_model_without_a_sample_has_none(models: ModelStore) -> None:
    model = python.save_model("m", lambda x: x, store=models)
    assert sample.load(model) is None
    assert model.info.checks == {}


def test_a_damaged_sample_is_corrupt(models: ModelStore) -> None:
    model = save(models, lambda x: x, ROWS)
    (model.path / "sample.npz").write_bytes(b"")
    with pytest.raises(CorruptArtifact):
        sample.load(model)


def test_a_sample_file_of_another_make_is_corrupt(models: ModelStore) -> None:
    from store import ModelInfo

    with models.create(ModelInfo(name="m", version="v1", module="python")) as draft:
        np.savez(draft.path / "sample.npz", other=np.zeros(1))
    with pytest.raises(CorruptArtifact, match="unreadable"):
        sample.load(draft.model)


@pytest.mark.parametrize("given", [(), {}, object(), {"x": None}])
def test_what_is_no_sample_is_refused(models: ModelStore, given: Any) -> None:
    with pytest.raises(SampleFailed, match="sample"):
        save(models, lambda x: x, given)


def test_rows_that_do_not_match_are_refused(models: ModelStore) -> None:
    with pytest.raises(SampleFailed, match=r"shape \[1, 3\] for 4 input rows") as caught:
        save(models, lambda x: x.sum(axis=0, keepdims=True), ROWS, BATCHABLE)
    assert caught.value.field == "output_0"
    with pytest.raises(SampleFailed, match=r"shape \[\] for 4"):
        save(models, lambda x: x.sum(), ROWS, BATCHABLE)
    assert models.list() == []


def test_outputs_that_contradict_each_other_are_refused(models: ModelStore) -> None:
    with pytest.raises(SampleFailed, match="needs a name"):
        save(models, lambda x: {"": x}, ROWS)


def test_a_model_that_only_takes_one_batch_size_is_refused(models: ModelStore) -> None:
    with pytest.raises(SampleFailed, match="reshape"):
        save(models, lambda x: x.reshape(4, 3), ROWS, BATCHABLE)


@pytest.mark.parametrize("given", [(ROWS, ROWS[:2]), (ROWS[:0], ROWS[:0]), (ROWS, np.array(1.0))])
def test_inputs_without_common_rows_are_refused(models: ModelStore, given: Any) -> None:
    with pytest.raises(SampleFailed):
        save(models, lambda a, b: a, given, BATCHABLE)


def test_independent_rows_are_recorded_as_invariant(models: ModelStore) -> None:
    figures = invariance_of(save(models, lambda x: x * 2, ROWS, BATCHABLE))
    assert figures == {
        "max_abs": 0.0,
        "max_rel": 0.0,
        "rows_match": True,
        "invariant": True,
        "distinct_rows": 4,
    }


def test_dependent_rows_are_recorded_and_warned_of_with_figures(models: ModelStore) -> None:
    with pytest.warns(NotBatchInvariant, match="differs by up to"):
        figures = invariance_of(save(models, lambda x: x - x.mean(axis=0), ROWS, BATCHABLE))
    assert not figures["invariant"]
    assert figures["max_abs"] > 1


def test_differences_within_tolerance_are_recorded_but_not_warned_of(models: ModelStore) -> None:
    figures = invariance_of(save(models, lambda x: x + 1 + 1e-4 * len(x), ROWS, BATCHABLE))
    assert figures["invariant"]
    assert 0 < figures["max_abs"] < 1e-3


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 0 + len(x)).astype(np.int64),
        lambda x: x > x.mean(),
        lambda x: np.array([str(len(x))] * len(x)),
        lambda x: np.full(x.shape, np.nan if len(x) == 2 else 1.0),
        lambda x: np.full(x.shape, np.inf if len(x) == 1 else 1.0),
        lambda x: np.zeros((len(x), len(x))),
        lambda x: x.astype(np.float64) if len(x) == 3 else x,
        lambda x: {f"out_{len(x) == 3}": x},
    ],
    ids=["integer", "bool", "text", "nan", "infinity", "shape", "datatype", "names"],
)
def test_each_kind_of_dependence_is_seen(models: ModelStore, function: Any) -> None:
    with pytest.warns(NotBatchInvariant):
        save(models, function, ROWS, BATCHABLE)


def test_equal_nan_and_infinity_are_no_difference(models: ModelStore) -> None:
    odd = np.array([[np.nan], [np.inf], [-np.inf], [0.0]], dtype=np.float32)
    assert invariance_of(save(models, lambda x: x, odd, BATCHABLE))["max_abs"] == 0.0


def test_answers_that_differ_from_run_to_run_are_seen(models: ModelStore) -> None:
    class Noisy:
        calls = 0

        def __call__(self, x: Any) -> Any:
            self.calls += 1
            return x + self.calls

    with pytest.warns(NotBatchInvariant):
        save(models, Noisy(), ROWS[:1], BATCHABLE)


def test_half_precision_is_judged_by_its_own_step(models: ModelStore) -> None:
    half = np.ones((2, 3), np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(models, lambda x: x * np.float16(1.001 if len(x) == 2 else 1.0), half, BATCHABLE)


def test_a_model_that_writes_into_its_input_does_not_spoil_the_sample(models: ModelStore) -> None:
    def negate(x: Any) -> Any:
        x *= -1
        return x

    model = save(models, negate, ROWS.copy(), BATCHABLE)
    arrays = sample.load(model)
    assert arrays is not None
    np.testing.assert_array_equal(arrays["x"], ROWS)
    assert invariance_of(model)["invariant"]


def test_output_without_a_datatype_is_refused(models: ModelStore) -> None:
    with pytest.raises(SampleFailed) as caught:
        save(models, lambda x: x + 1j, ROWS)
    assert isinstance(caught.value.__cause__, InvalidOutput)
