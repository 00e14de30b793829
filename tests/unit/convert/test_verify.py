"""Verification finds what a conversion breaks, and says where."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from frameworks import RowErrors
from frameworks.arrays import Arrays
from frameworks.base import LoadOptions
from frameworks.calling import Caller, Opened
from frameworks.convert.formats import TensorRTPrecision
from frameworks.convert.samples import InvalidSamples, Samples, collect
from frameworks.convert.verify import Verified, arrange, outputs_of, sizes_up_to, verify
from frameworks.errors import SampleFailed
from store import Signature

WEIGHTS = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
ROWS = np.random.default_rng(1).standard_normal((30, 5)).astype(np.float32)
SAMPLES = collect([ROWS], names=["x"])

Function = Callable[..., Any]


def tensor(name: str, *shape: int, datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


LINEAR = Signature.parse({"batchable": True, "inputs": [tensor("x", -1, 5)], "outputs": [tensor("y", -1, 4)]})


def linear(x: Any) -> Any:
    return x @ WEIGHTS


def answers(
    function: Function, signature: Signature = LINEAR, samples: Samples = SAMPLES
) -> dict[str, list[Arrays]]:
    method = Caller(function, signature)
    return {
        kind: outputs_of(method, signature, getattr(samples, kind)) for kind in ("conversion", "correctness")
    }


def check(
    converted: Function,
    source: Function = linear,
    signature: Signature = LINEAR,
    samples: Samples = SAMPLES,
    **arguments: Any,
) -> Verified:
    return verify(
        {"predict": Caller(converted, signature)},
        {"predict": signature},
        samples,
        {"predict": answers(source, signature, samples)},
        **{"max_batch_size": 8, **arguments},
    )


def test_a_faithful_conversion_passes_with_all_figures() -> None:
    found = check(lambda x: (x.astype(np.float64) @ WEIGHTS).astype(np.float32))
    assert (found.passed, found.message, found.skipped) == (True, "", {})
    output = found.outputs["predict/y"]
    assert output.within
    assert 0 < output.max_abs < 1e-5
    assert output.cosine == pytest.approx(1.0)
    assert output.top1 == 1.0
    assert found.invariance["predict"].invariant
    assert found.invariance["predict"].sizes == (1, 2, 3, 4, 5, 8)


def test_disturbed_weights_fail_with_figures_in_words() -> None:
    found = check(lambda x: x @ (WEIGHTS * np.float32(1.1)))
    assert not found.passed
    assert found.outputs["predict/y"].max_rel == pytest.approx(0.1, rel=0.01)
    assert "output 'y' of method 'predict' differs by up to 0." in found.message
    assert "(relative 0.1) where" in found.message
    assert "·|reference| is allowed, in " in found.message
    assert found.message.endswith(" % of its elements")
    assert found.invariance["predict"].invariant


def test_precision_and_given_tolerances_count() -> None:
    def rough(x: Any) -> Any:
        return (x.astype(np.float16) @ WEIGHTS.astype(np.float16)).astype(np.float32)

    assert not check(rough).passed
    assert check(rough, precision=TensorRTPrecision.FP16).passed
    assert check(rough, atol=0.05, rtol=0.0).passed
    strict = check(
        lambda x: linear(x) + np.float32(1e-3), precision=TensorRTPrecision.INT8, atol=1e-6, rtol=0.0
    )
    assert not strict.passed
    assert (strict.outputs["predict/y"].atol, strict.outputs["predict/y"].rtol) == (1e-6, 0.0)


def test_results_that_are_wrong_from_some_batch_size_on_are_found() -> None:
    found = check(lambda x: linear(x) if len(x) < 4 else linear(x) * 2)
    assert not found.passed
    assert "single rows agree, rows of batches from 4 on do not" in found.message
    assert not found.invariance["predict"].invariant
    assert found.invariance["predict"].max_rel == pytest.approx(1.0)
    assert check(lambda x: linear(x) if len(x) < 4 else linear(x) * 2, max_batch_size=3).passed


def test_rows_that_change_places_or_influence_each_other_are_found() -> None:
    for mixing in (lambda x: linear(x)[::-1], lambda x: linear(x - x.mean(axis=0) if len(x) > 1 else x)):
        found = check(mixing)
        assert not found.passed
        assert "rows of batches from 2 on do not" in found.message
        assert not found.invariance["predict"].invariant


def test_a_batch_size_that_cannot_be_run_is_named() -> None:
    def limited(x: Any) -> Any:
        if len(x) > 4:
            raise ValueError("Guard failed: batch <= 4")
        return linear(x)

    found = check(limited)
    assert not found.passed
    assert found.message == (
        "method 'predict' fails on a batch of 5, with shapes {'x': [5, 5]}: "
        "ValueError('Guard failed: batch <= 4')"
    )
    assert found.outputs["predict/y"].within
    assert found.invariance["predict"].sizes == (1, 2, 3, 4)


def test_a_sample_that_cannot_be_run_is_named() -> None:
    def picky(x: Any) -> Any:
        if x[0, 0] == ROWS[3, 0]:
            raise ValueError("not this one")
        return linear(x)

    found = check(picky)
    assert "method 'predict' fails on sample 4, with shapes" in found.message  # after one for conversion
    assert not found.passed
    assert found.invariance == {}


def test_a_batch_with_too_few_rows_is_told() -> None:
    found = check(lambda x: linear(x)[:2])
    assert "a batch of 3: output 'y' has shape [2, 4]; it needs 3 rows along axis 0" in found.message


def test_a_failure_does_not_hide_a_difference() -> None:
    found = check(lambda x: linear(x)[:2] + 1)
    assert found.message.startswith("output 'y' of method 'predict' differs by up to 1")
    assert "; method 'predict' fails on a batch of 3" in found.message


def test_outputs_whose_extents_depend_on_the_row_cannot_stand_in_one_batch() -> None:
    signature = Signature.parse(
        {"batchable": True, "inputs": [tensor("x", -1, 1)], "outputs": [tensor("y", -1, -1)]}
    )
    samples = collect([np.array([[1.0], [2.0], [3.0]], np.float32)], names=["x"])

    def counted(x: Any) -> Any:
        return np.ones((len(x), int(x.max())), np.float32)

    found = check(counted, counted, signature, samples, max_batch_size=3)
    assert "it has shape [1, 2], the reference [1, 1]; single rows agree" in found.message
    assert "rows of batches from 2 on do not" in found.message


def test_rows_that_a_method_cannot_answer_count_as_failed() -> None:
    found = check(lambda x: RowErrors(linear(x), {0: "no"}) if len(x) > 2 else linear(x))
    assert "a batch of 3" in found.message
    assert "row 0 failed: no" in found.message


def test_answers_of_another_shape_or_datatype_are_told() -> None:
    found = check(lambda x: linear(x).astype(np.float64))
    assert (
        "output 'y' of method 'predict' cannot be compared: it is FP64, the reference FP32" in found.message
    )
    assert math.isinf(found.outputs["predict/y"].max_abs)
    squeezed = check(lambda x: linear(x).squeeze())
    assert "it has shape [4], the reference [1, 4]" in squeezed.message


def test_a_method_without_rows_runs_its_samples_only() -> None:
    signature = Signature.parse({"inputs": [tensor("x", -1, 5)], "outputs": [tensor("y", -1, 4)]})
    samples = collect([ROWS[:4], ROWS[:9]], names=["x"], batch_dim=None)
    found = check(linear, signature=signature, samples=samples)
    assert found.passed
    assert found.invariance == {}
    assert not check(lambda x: linear(x) + 1, signature=signature, samples=samples).passed


def test_integers_and_texts_have_to_be_equal() -> None:
    signature = Signature.parse(
        {
            "batchable": True,
            "inputs": [tensor("x", -1, 5)],
            "outputs": [tensor("n", -1, datatype="INT64"), tensor("t", -1, datatype="BYTES")],
        }
    )

    def label(x: Any, step: int = 0) -> Any:
        numbers = linear(x).argmax(axis=1) + step * (x[:, 0] > 1)
        return {"n": numbers, "t": numbers.astype(str)}

    assert check(label, label, signature).passed
    found = check(lambda x: label(x, 1), label, signature, precision=TensorRTPrecision.INT8)
    assert "where it has to be equal, in " in found.message
    assert "(and 1 more of its outputs)" in found.message


def test_rows_along_another_axis_and_outputs_along_a_third() -> None:
    signature = Signature.parse(
        {
            "batchable": True,
            "batch_dim": (1, 0),
            "inputs": [tensor("x", 5, -1)],
            "outputs": [tensor("y", -1, 4)],
        }
    )
    samples = collect([ROWS.T], names=["x"], batch_dim=1)
    assert check(lambda x: x.T @ WEIGHTS, lambda x: x.T @ WEIGHTS, signature, samples).passed


def test_rows_of_several_extents_stand_in_batches_of_their_own() -> None:
    signature = Signature.parse(
        {"batchable": True, "inputs": [tensor("x", -1, -1)], "outputs": [tensor("y", -1, -1)]}
    )
    items = [ROWS[:, :width] for width in (2, 3, 3, 5)]
    seen: set[tuple[int, ...]] = set()

    def double(x: Any) -> Any:
        seen.add(x.shape)
        return x * 2

    found = check(double, lambda x: x * 2, signature, collect(items, names=["x"]))
    assert found.passed
    assert {(8, 2), (8, 3), (8, 5), (5, 5)} <= seen


def test_batches_are_made_of_different_rows() -> None:
    batches: list[Any] = []

    def watch(x: Any) -> Any:
        batches.append(x)
        return linear(x)

    check(watch)
    largest = max(batches, key=len)
    assert len({row.tobytes() for row in largest}) == 8


def test_a_method_may_change_its_inputs_and_reuse_its_outputs() -> None:
    buffer = np.empty((8, 4), np.float32)

    def careless(x: Any) -> Any:
        result = buffer[: len(x)]
        result[:] = linear(x)
        x[:] = np.nan
        return result

    assert check(careless).passed


def test_methods_that_cannot_be_compared_are_skipped_and_told() -> None:
    other = Signature.parse({"inputs": [tensor("ids", -1, datatype="INT64")], "outputs": [tensor("y", -1)]})
    renamed = Signature.parse(
        {"batchable": True, "inputs": [tensor("features", -1, 5)], "outputs": [tensor("z", -1, 4)]}
    )
    signatures = {"predict": LINEAR, "other": other, "renamed": renamed, "gone": LINEAR, "new": LINEAR}
    methods: dict[str, Opened] = {
        name: Caller(linear, signature) for name, signature in signatures.items() if name != "gone"
    }
    reference: dict[str, Any] = {name: answers(linear) for name in ("predict", "other", "gone")}
    reference["renamed"] = answers(linear, renamed)
    found = verify(methods, signatures, SAMPLES, reference, max_batch_size=2)
    assert found.passed
    assert sorted(found.outputs) == ["predict/y", "renamed/z"]
    assert list(found.skipped) == ["other", "gone", "new"]
    assert "do not fit" in found.skipped["other"]
    assert "does not have it" in found.skipped["gone"]
    assert "no answers" in found.skipped["new"]


def test_nothing_compared_is_not_passed() -> None:
    found = verify({}, {"predict": LINEAR}, SAMPLES, {"predict": answers(linear)})
    assert not found.passed
    assert found.message == "nothing was compared: 'predict': the converted model does not have it"


def test_one_failing_method_does_not_stop_the_others() -> None:
    def broken(x: Any) -> Any:
        raise ValueError("broken")

    signatures = {"broken": LINEAR, "predict": LINEAR}
    methods: dict[str, Opened] = {"broken": Caller(broken, LINEAR), "predict": Caller(linear, LINEAR)}
    reference = dict.fromkeys(signatures, answers(linear))
    found = verify(methods, signatures, SAMPLES, reference)
    assert not found.passed
    assert found.message.startswith("method 'broken' fails on sample 0")
    assert found.outputs["predict/y"].within


def test_answers_that_do_not_belong_to_the_samples_are_refused() -> None:
    given = answers(linear)
    short = {**given, "correctness": given["correctness"][:3]}
    with pytest.raises(InvalidSamples, match="'predict' has 3 answers to 30 correctness samples"):
        verify({"predict": Caller(linear, LINEAR)}, {"predict": LINEAR}, SAMPLES, {"predict": short})
    nameless = {**given, "conversion": [{"z": given["conversion"][0]["y"]}]}
    with pytest.raises(InvalidSamples, match="conversion samples lacks output 'y'"):
        verify({"predict": Caller(linear, LINEAR)}, {"predict": LINEAR}, SAMPLES, {"predict": nameless})


def test_outputs_come_in_the_order_of_the_signature() -> None:
    signature = Signature.parse(
        {"inputs": [tensor("x", -1, 5)], "outputs": [tensor("a", -1), tensor("b", -1)]}
    )
    (found,) = outputs_of(
        Caller(lambda x: {"b": x[0], "c": x, "a": x[1]}, signature), signature, [{"x": ROWS}]
    )
    assert list(found) == ["a", "b"]
    with pytest.raises(SampleFailed, match="sample 0: output 'b' is missing"):
        outputs_of(Caller(lambda x: {"a": x}, signature), signature, [{"x": ROWS}])
    with pytest.raises(SampleFailed, match="do not fit the input specs"):
        outputs_of(Caller(lambda x: x, signature), signature, [{"x": ROWS[0]}])


def test_samples_go_by_name_else_by_position() -> None:
    signature = Signature.parse({"inputs": [tensor("a", -1), tensor("b", -1)]})
    one, two = np.zeros(1, np.float32), np.ones(1, np.float32)
    assert arrange([{"b": two, "a": one}], signature) == [{"a": one, "b": two}]
    assert arrange([{"x": one, "y": two}], signature) == [{"a": one, "b": two}]
    assert arrange([{"x": one}], signature) is None
    assert arrange([{"x": one}], Signature()) == [{"x": one}]


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, (1,)), (2, (1, 2)), (4, (1, 2, 3, 4)), (6, (1, 2, 3, 4, 5, 6)), (32, (1, 2, 3, 4, 5, 8, 16, 32))],
)
def test_sizes_are_small_ones_powers_of_two_and_the_largest(most: int, sizes: Sequence[int]) -> None:
    assert sizes_up_to(most) == sizes


def test_a_graph_in_onnxruntime_is_as_good_as_numpy() -> None:
    onnx = pytest.importorskip("onnx")
    from frameworks.ort.session import SessionMethod, open_session

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", kind, ["batch", 5])],
        [helper.make_tensor_value_info("y", kind, ["batch", 4])],
        [onnx.numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    method = SessionMethod(open_session(model.SerializeToString(), LoadOptions()))
    found = verify(
        {"predict": method}, {"predict": LINEAR}, SAMPLES, {"predict": answers(linear)}, max_batch_size=32
    )
    assert found.passed, found.message
    assert found.invariance["predict"].sizes[-1] == 32
