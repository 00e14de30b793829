"""What an executor accepts of a model and what it says when a promise is broken."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from runtime.errors import MethodNotFound, OutputMismatch
from runtime.runner.executor import Executor
from store import Signature, TensorSpec
from tests.support.clock import FakeClock
from tests.support.execution import Inputs, assert_equal, executor, group_of, head_of, run

X = np.arange(6, dtype=np.float32).reshape(3, 2)


def returning(value: object, *, tasks: int = 1, signature: Signature | None = None) -> Inputs:
    """What the last of some tasks of three rows gets from a model that returns this as ``y``."""
    (outputs,) = run(lambda _: {"y": value}, [[{"x": X}] * tasks], signature=signature)  # type: ignore[dict-item]
    return outputs[-1]


def test_the_method_sees_one_array_per_input_with_all_rows() -> None:
    seen: list[Inputs] = []
    text = np.array([b"a", b"bc", b""], dtype=object)

    def look(inputs: Inputs) -> Inputs:
        seen.append(inputs)
        return {"y": inputs["x"]}

    run(look, [[{"x": X, "t": text}] * 2, [{"x": X, "t": text}]])
    (inputs,) = seen
    assert list(inputs) == ["x", "t"]
    assert inputs["x"].tolist() == [*X.tolist()] * 3
    assert inputs["t"].tolist() == [b"a", b"bc", b""] * 3


def test_the_method_may_write_into_its_inputs() -> None:
    def double(inputs: Inputs) -> Inputs:
        np.multiply(inputs["x"], 2, out=inputs["x"])
        return {"y": inputs["x"]}

    ((outputs,),) = run(double, [[{"x": X}]])
    assert_equal(outputs, {"y": X * 2})


def test_inputs_that_lie_at_odd_places_are_aligned() -> None:
    task: Inputs = {"a": np.ones((3, 1), np.uint8), "x": X.astype(np.float64)}

    def check(inputs: Inputs) -> Inputs:
        assert inputs["x"].flags.aligned
        return {"y": inputs["x"]}

    ((outputs,),) = run(check, [[task]])
    assert_equal(outputs, {"y": task["x"]})


READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "value",
    [X.T.copy().T, X.astype(">f4"), READ_ONLY, np.repeat(X, 2, axis=1)[:, ::2], X[::-1][::-1]],
    ids=["column-major", "big-endian", "read-only", "strided", "reversed"],
)
def test_outputs_lie_in_memory_as_they_like(value: np.ndarray) -> None:
    assert_equal(returning(value), {"y": X})


@pytest.mark.parametrize(
    "value",
    [
        ["a", "bc", "d"],
        [b"a", b"bc", b"d"],
        np.array(["a", "bc", "d"], dtype="T"),
        np.array(["a", "bc", "d"]),
    ],
)
@pytest.mark.parametrize("tasks", [1, 2])
def test_texts_of_every_kind_are_bytes(value: object, tasks: int) -> None:
    outputs = returning(np.concatenate([np.asarray(value)] * tasks), tasks=tasks)
    assert outputs["y"].tolist() == [b"a", b"bc", b"d"]


def test_lists_and_several_outputs_are_taken_in_the_order_of_the_answer() -> None:
    ((outputs,),) = run(
        lambda _: {"b": [[1, 2], [3, 4], [5, 6]], "a": np.zeros(3, ml_dtypes.bfloat16)},  # type: ignore[dict-item]
        [[{"x": X}]],
    )
    assert_equal(outputs, {"b": np.array([[1, 2], [3, 4], [5, 6]]), "a": np.zeros(3, ml_dtypes.bfloat16)})


def test_a_scalar_is_fine_where_nothing_is_merged() -> None:
    ((outputs,),) = run(lambda _: {"y": 7.5}, [[{"x": X}]], None, Signature())  # type: ignore[dict-item]
    assert_equal(outputs, {"y": np.array(7.5)})


@pytest.mark.parametrize(
    ("value", "axes", "found"),
    [
        (X[:2], (0, 0), "returned 2 rows along axis 0 of output 'y' (2, 2)"),
        (np.zeros((4, 2)), (0, 0), "returned 4 rows along axis 0"),
        (X, (0, 1), "returned 2 rows along axis 1"),
        (np.zeros(3), (0, 1), "returned rank 1 along axis 1"),
        (np.float32(1), (0, 0), "returned rank 0 along axis 0"),
        (None, (0, 0), "returned rank 0"),
    ],
)
def test_a_wrong_number_of_rows_is_named_with_its_figures(
    value: object, axes: tuple[int, int], found: str
) -> None:
    with pytest.raises(OutputMismatch) as caught:
        run(lambda _: {"y": value}, [[{"x": X}]], axes)  # type: ignore[dict-item]
    assert "method 'f' was given 3 rows" in caught.value.message
    assert found in caught.value.message
    assert caught.value.field == "y"


def test_rows_are_counted_each_time_and_not_only_the_first() -> None:
    answers = iter([X, X[:2], X])
    model = executor(lambda _: {"y": next(answers)})
    head, group = head_of({"x": X}, (0, 0)), group_of([{"x": X}], (0, 0))
    model.execute(head, [group])
    with pytest.raises(OutputMismatch):
        model.execute(head, [group])
    assert model.execute(head, [group]).rows == 3


@pytest.mark.parametrize("value", [np.zeros(3, complex), np.zeros(3, "M8[s]"), np.zeros(3, np.longdouble)])
def test_a_datatype_without_wire_form_is_named(value: np.ndarray) -> None:
    with pytest.raises(OutputMismatch, match=r"'y' has datatype .* no wire form"):
        returning(value)


def promise(*outputs: TensorSpec) -> Signature:
    return Signature(batchable=True, outputs=outputs)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (TensorSpec("y", "FP64", (-1, 2)), r"returned FP32 \(-1, 2\) as 'y', its signature says FP64"),
        (TensorSpec("y", "FP32", (-1, 3)), "its signature says FP32"),
        (TensorSpec("y", "FP32", (-1, 2, 1)), "its signature says FP32"),
        (TensorSpec("z", "FP32", (-1, 2)), "did not return its output 'z'"),
    ],
)
def test_another_output_than_promised_is_named(spec: TensorSpec, text: str) -> None:
    with pytest.raises(OutputMismatch, match=text) as caught:
        returning(X, signature=promise(spec))
    assert caught.value.field == spec.name


def test_a_kept_promise_passes() -> None:
    spec = TensorSpec("y", "FP32", (-1, -1))
    assert_equal(returning(X, signature=promise(spec)), {"y": X})


def test_an_unknown_method_is_named() -> None:
    model = Executor({}, {})
    with pytest.raises(MethodNotFound, match="'f'"):
        model.execute(head_of({"x": X}, (0, 0)), [group_of([{"x": X}], (0, 0))])


def test_what_the_method_raises_comes_through() -> None:
    def fail(_: Inputs) -> Inputs:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail, [[{"x": X}]])


def test_the_time_of_the_method_is_taken_around_it_alone() -> None:
    clock = FakeClock(100)

    def work(inputs: Inputs) -> Inputs:
        clock.advance(7)
        return inputs

    model = Executor({"f": work}, {"f": Signature(batchable=True)}, clock=clock)
    done = model.execute(head_of({"x": X}, (0, 0)), [group_of([{"x": X}], (0, 0))])
    assert (done.started, done.executed) == (100, 107)


def test_shapes_without_end_do_not_fill_the_memory() -> None:
    width = iter(range(1, 10_000))
    model = executor(lambda _: {"y": np.empty((3, next(width)), np.uint8)})
    head, group = head_of({"x": X}, (0, 0)), group_of([{"x": X}], (0, 0))
    heads = {model.execute(head, [group]).shares[0].head for _ in range(4100)}
    assert len(heads) == 4100
