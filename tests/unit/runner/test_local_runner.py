from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from frameworks import RowErrors, python, pytorch, sklearn
from runtime.errors import (
    ConfigError,
    DatatypeMismatch,
    InvalidInput,
    MethodNotFound,
    ModelError,
    OutputMismatch,
    ShapeMismatch,
    WrongState,
)
from runtime.runner import arguments
from runtime.runner.local import Runner, RunnerMethod
from store import Model, ModelStore
from store.datatypes import numpy_dtype

ROWS = {"batchable": True, "batch_dim": 0}
FLOATS = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


def save(store: ModelStore, model: object, sample: Any = None, **signatures: Any) -> Model:
    return python.save_model(
        "m", model, signatures=signatures or {"__call__": ROWS}, sample=sample, store=store
    )


def opened(store: ModelStore, model: object, sample: Any = None, **signatures: Any) -> Runner:
    runner = Runner(save(store, model, sample, **signatures))
    runner.init_local()
    return runner


def add(x: Any, y: Any) -> Any:
    return x + 2 * y


class Several:
    def predict(self, x: Any) -> Any:
        return x + 1

    def pair(self, x: Any) -> Any:
        return x, x.sum(axis=1)

    def named(self, x: Any) -> Any:
        return {"mean": x.mean(axis=1), "x": x}

    def run(self, x: Any) -> Any:
        return x * 0


SEVERAL = {"predict": ROWS, "pair": ROWS, "named": ROWS, "run": ROWS}


def test_a_classifier_answers_as_the_loaded_model_does(store: ModelStore) -> None:
    x = np.random.default_rng(1).normal(size=(40, 4))
    model = LogisticRegression().fit(x, np.array(["no", "yes"])[(x[:, 0] > 0).astype(int)])
    saved = sklearn.save_model(
        "iris", model, signatures={"predict": ROWS, "predict_proba": ROWS}, store=store
    )
    loaded = sklearn.load_model("iris", store=store)
    with Runner(saved) as runner:
        assert runner.predict_proba.run(x).tobytes() == loaded.predict_proba(x).tobytes()
        assert [text.decode() for text in runner.predict.run(x)] == loaded.predict(x).tolist()
        assert runner.run([[5.9, 3.0, 5.1, 1.8]]).shape == (1,)


def test_a_torch_module_answers_as_the_loaded_module_does(store: ModelStore) -> None:
    module = torch.nn.Linear(4, 3)
    saved = pytorch.save_model("linear", module, signatures={"__call__": ROWS}, store=store)
    x = torch.randn(5, 4, requires_grad=True)
    expected = pytorch.load_model("linear", store=store)(x).detach().numpy()
    with Runner(saved, threads=1) as runner:
        np.testing.assert_array_equal(runner.run(x), expected)
        np.testing.assert_array_equal(runner.run(x.detach().numpy()), expected)


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP64", "INT8", "UINT64", "BOOL"])
def test_every_datatype_goes_through_unchanged(store: ModelStore, datatype: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(numpy_dtype(datatype))
    answer = opened(store, lambda x: x).run(array)
    assert (answer.dtype, answer.tobytes()) == (array.dtype, array.tobytes())


def test_text_comes_back_as_bytes(store: ModelStore) -> None:
    answer = opened(store, lambda x: x).run([["a", "é"], ["", "b\0"]])
    assert answer.tolist() == [[b"a", "é".encode()], [b"", b"b\0"]]


def test_inputs_go_by_position_by_name_or_both_when_there_are_specs(store: ModelStore) -> None:
    runner = opened(store, add, {"x": FLOATS, "y": FLOATS})
    for args, kwargs in (
        ((FLOATS, FLOATS), {}),
        ((FLOATS,), {"y": FLOATS}),
        ((), {"y": FLOATS, "x": FLOATS}),
    ):
        np.testing.assert_array_equal(runner.run(*args, **kwargs), 3 * FLOATS)


def test_inputs_go_by_position_or_by_name_when_there_are_no_specs(store: ModelStore) -> None:
    runner = opened(store, add)
    np.testing.assert_array_equal(runner.run([1, 2], [10, 20]), [21, 42])
    np.testing.assert_array_equal(runner.run(y=[10, 20], x=[1, 2]), [21, 42])
    with pytest.raises(InvalidInput, match="all inputs by position, or all by name"):
        runner.run([1, 2], y=[10, 20])


def test_several_outputs_come_as_the_method_returns_them(store: ModelStore) -> None:
    runner = opened(store, Several(), **SEVERAL)
    values, sums = runner.pair.run(FLOATS)
    np.testing.assert_array_equal(values, FLOATS)
    np.testing.assert_array_equal(sums, FLOATS.sum(axis=1))
    assert list(runner.named.run(FLOATS)) == ["mean", "x"]


def test_run_without_a_method_is_call_or_predict_or_the_only_one(store: ModelStore) -> None:
    runner = opened(store, Several(), **SEVERAL)
    np.testing.assert_array_equal(runner.run(FLOATS), FLOATS + 1)
    only = opened(store, Several(), pair=ROWS)
    assert isinstance(only.run(FLOATS), tuple)
    with pytest.raises(InvalidInput, match="several methods: call one of pair, named"):
        opened(store, Several(), pair=ROWS, named=ROWS).run(FLOATS)


def test_a_method_with_a_name_of_ours_is_reached_through_methods(store: ModelStore) -> None:
    runner = opened(store, Several(), **SEVERAL)
    np.testing.assert_array_equal(runner.methods["run"].run(FLOATS), FLOATS * 0)
    assert runner.methods["pair"].signature.batchable


def test_an_unknown_method_is_an_attribute_error_that_lists_the_methods(store: ModelStore) -> None:
    runner = opened(store, Several(), **SEVERAL)
    with pytest.raises(AttributeError, match="no method 'predictt'; the model's are: predict, pair"):
        _ = runner.predictt
    with pytest.raises(MethodNotFound, match="no method 'nope'"):
        RunnerMethod(runner, "nope").run(FLOATS)
    assert "pair" in dir(runner)


@pytest.mark.parametrize("axes", [0, 1, (1, 0)])
def test_any_batch_axis_is_cut_and_put_together(store: ModelStore, axes: Any) -> None:
    turn = isinstance(axes, tuple)
    model = (lambda x: x.T) if turn else (lambda x: x)
    runner = opened(store, model, __call__={"batchable": True, "batch_dim": axes})
    np.testing.assert_array_equal(runner.run(FLOATS), FLOATS.T if turn else FLOATS)


def test_a_method_that_is_not_batchable_gets_its_input_whole(store: ModelStore) -> None:
    runner = opened(store, lambda x: x.sum(), __call__={"batchable": False})
    assert runner.run(FLOATS) == 28
    assert runner.run(np.float64(3)) == 3
    assert runner.run(np.zeros((0, 3))) == 0


def test_no_rows_and_inputs_out_of_order_are_fine(store: ModelStore) -> None:
    runner = opened(store, lambda x: x)
    assert runner.run(np.zeros((0, 3))).shape == (0, 3)
    turned = np.asfortranarray(FLOATS)[:, ::-1]
    np.testing.assert_array_equal(runner.run(turned), turned)


def test_the_callers_array_and_the_models_own_stay_untouched(store: ModelStore) -> None:
    def doubled(x: Any) -> Any:
        x *= 2
        return x

    given = FLOATS.copy()
    runner = opened(store, doubled)
    answer = runner.run(given)
    np.testing.assert_array_equal(given, FLOATS)
    answer += 1
    np.testing.assert_array_equal(runner.run(given), 2 * FLOATS)


def test_lists_take_the_datatype_of_the_spec_and_arrays_keep_theirs(store: ModelStore) -> None:
    runner = opened(store, lambda x: x, {"x": FLOATS})
    assert runner.run([[1, 2, 3, 4]]).dtype == np.float32
    with pytest.raises(DatatypeMismatch, match="input 'x' is FP64, the model takes FP32: cast it"):
        runner.run(FLOATS.astype(np.float64))


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, InvalidInput, "no inputs"),
        ({"x": FLOATS}, InvalidInput, "input 'y' is missing; the inputs are x, y"),
        ({"x": FLOATS, "y": FLOATS, "z": FLOATS}, InvalidInput, "unexpected input 'z'"),
        ({"x": FLOATS, "y": FLOATS[:1]}, ShapeMismatch, r"different numbers of rows \(x: 2, y: 1\)"),
        ({"x": FLOATS, "y": FLOATS[:, :3]}, ShapeMismatch, r"shape \[2, 3\], the model takes \[-1, 4\]"),
        ({"x": FLOATS, "y": [[1], [1, 2]]}, InvalidInput, "input 'y': a list is no tensor"),
        ({"x": FLOATS, "y": object()}, InvalidInput, "input 'y'"),
    ],
)
def test_wrong_inputs_are_refused_with_their_name(
    store: ModelStore, inputs: dict[str, Any], error: type[Exception], message: str
) -> None:
    runner = opened(store, add, {"x": FLOATS, "y": FLOATS})
    with pytest.raises(error, match=message):
        runner.run(**inputs)


def test_positions_that_do_not_fit_are_refused(store: ModelStore) -> None:
    runner = opened(store, add, {"x": FLOATS, "y": FLOATS})
    with pytest.raises(InvalidInput, match="3 inputs are given by position"):
        runner.run(FLOATS, FLOATS, FLOATS)
    with pytest.raises(InvalidInput, match="'x' is given by position and by name"):
        runner.run(FLOATS, x=FLOATS)
    with pytest.raises(ShapeMismatch, match="no batch axis 0"):
        opened(store, add).run(1, 2)


def test_wrong_rows_are_refused_as_a_worker_does(store: ModelStore) -> None:
    with pytest.raises(OutputMismatch, match="was given 2 rows and returned 1 rows"):
        opened(store, lambda x: x[:1]).run(FLOATS)


def test_what_the_model_raises_arrives(store: ModelStore) -> None:
    def broken(x: Any) -> Any:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        opened(store, broken).run(FLOATS)


def refuse_negatives(x: Any) -> Any:
    return RowErrors(x, {int(row): f"{x[row]} is negative" for row in np.flatnonzero(x < 0)})


def test_a_row_that_the_model_fails_fails_the_call_with_its_words(store: ModelStore) -> None:
    with opened(store, refuse_negatives) as runner:
        with pytest.raises(ModelError, match=r"^-2 is negative$"):
            runner.run([1, -2, -3])
        assert runner.run([1, 2]).tolist() == [1, 2]  # type: ignore[union-attr]


def test_allowed_sizes_are_kept_to_here_as_well(store: ModelStore) -> None:
    with Runner(save(store, lambda x: x + 100 * len(x)), allowed_batch_sizes="4,8") as runner:
        assert runner.run([1, 2, 3]).tolist() == [401, 402, 403]  # type: ignore[union-attr]


def test_a_runner_says_that_it_is_not_initialised(store: ModelStore) -> None:
    runner = Runner(save(store, add))
    with pytest.raises(WrongState, match=r"not initialised: call init_local\(\) first"):
        runner.run()
    with pytest.raises(WrongState, match="not initialised"):
        asyncio.run(runner.async_run(FLOATS))


def test_a_closed_runner_stays_closed(store: ModelStore) -> None:
    with Runner(save(store, add)) as runner:
        runner.init_local()
    runner.close()
    with pytest.raises(WrongState, match="is closed; make a new one"):
        runner.run(FLOATS, FLOATS)
    with pytest.raises(WrongState, match="is closed"):
        runner.init_local()


def test_options_of_the_manifest_apply_unless_chosen_here(store: ModelStore) -> None:
    saved = python.save_model(
        "m", add, signatures={"__call__": ROWS}, options={"threads": 2, "max_batch_size": 8}, store=store
    )
    assert Runner(saved).config.threads == 2
    assert (Runner(saved, threads=3).config.threads, Runner(saved, threads=3).config.max_batch_size) == (3, 8)
    with pytest.raises(ConfigError, match=r"no option thread; did you mean threads\?"):
        Runner(saved, thread=3)


def test_async_calls_run_one_at_a_time_beside_the_loop(store: ModelStore) -> None:
    runner = opened(store, Several(), **SEVERAL)

    async def many() -> list[Any]:
        calls = [runner.predict.async_run(np.full((1, 4), index)) for index in range(20)]
        return [*await asyncio.gather(*calls), await runner.async_run(FLOATS)]

    *answers, last = asyncio.run(many())
    assert [int(answer[0, 0]) for answer in answers] == list(range(1, 21))
    np.testing.assert_array_equal(last, FLOATS + 1)


def test_threads_share_a_runner(store: ModelStore) -> None:
    runner = opened(store, lambda x: x)
    answers: dict[int, Any] = {}

    def call(index: int) -> None:
        answers[index] = runner.run(np.full((3, 2), index))

    threads = [threading.Thread(target=call, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all((answers[index] == index).all() for index in range(8))


@pytest.mark.parametrize(
    ("values", "datatype", "fits"),
    [
        ([1, 2], "FP16", True),
        ([70_000.0], "FP16", False),
        ([float("inf"), float("nan")], "FP16", True),
        ([1.0, -2.0], "INT8", True),
        ([1.5], "INT8", False),
        ([float("nan")], "INT8", False),
        ([300], "UINT8", False),
        ([-1], "UINT64", False),
        ([2**64 - 1], "UINT64", True),
        ([0, 1], "BOOL", True),
        ([2], "BOOL", False),
        ([True], "INT32", True),
        (["a"], "FP32", False),
        ([1], "BYTES", False),
        ([], "BYTES", True),
        ([1.5], "BF16", True),
    ],
)
def test_values_are_cast_only_where_they_exist(values: list[Any], datatype: str, fits: bool) -> None:
    array = arguments.to_array(values, "x")
    if fits:
        assert arguments.cast(array, datatype, "x").dtype == numpy_dtype(datatype)
    else:
        with pytest.raises(DatatypeMismatch, match=f"do not fit into {datatype}"):
            arguments.cast(array, datatype, "x")


def test_a_saved_model_becomes_a_runner(store: ModelStore) -> None:
    import runtime

    runner = save(store, add).to_runner(threads=1)
    assert isinstance(runner, runtime.Runner)
    assert repr(runner).startswith('Runner(tag="m:')


FRESH = """
import sys
{first}
{second}
assert not {{"numpy", "grpc", "yaml"}} & set(sys.modules) or {late}
import store.model
from pathlib import Path
model = store.Model(Path("a/v1"), store.ModelInfo(name="a", version="v1", module="python"))
assert type(model.to_runner()) is runtime.Runner
assert not any(type(finder).__name__ == "_StoreFinder" for finder in sys.meta_path)
assert store.model.__spec__.loader is store.model.__loader__
"""


@pytest.mark.parametrize(
    ("first", "second", "late"),
    [
        ("import runtime", "", False),
        ("import store", "import runtime", True),
        ("import runtime", "import store", True),
    ],
)
def test_importing_runtime_lends_the_store_its_runners_in_any_order(
    first: str, second: str, late: bool
) -> None:
    code = FRESH.format(first=first, second=second, late=late)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
