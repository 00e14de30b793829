"""Samples span what varies, are the same for the same seed, and batches are made of them again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frameworks import python
from frameworks.convert.npz import CorruptArrays
from frameworks.convert.samples import InvalidSamples, Samples, collect, from_model, specs_of, stack
from store import Model, ModelStore, TensorSpec
from tests.support.dtypes import edge_array

ROWS = np.arange(300, dtype=np.float32).reshape(100, 3)


class Stream:
    """A dataloader that makes each item when it is asked for, counts them, and can be read once only."""

    def __init__(self, items: Iterable[Any], length: int) -> None:
        self._items = iter(items)
        self._length = length
        self.read = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self.read += 1
            yield item


def values(samples: Sequence[dict[str, Any]], name: str = "input_0") -> list[float]:
    return [float(arrays[name].ravel()[0]) for arrays in samples]


def test_all_rows_are_taken_in_order_when_there_are_few() -> None:
    samples = collect([ROWS[:2], ROWS[2:5], ROWS[5:6]])
    assert values(samples.correctness) == [0, 3, 6, 9, 12, 15]
    assert {arrays["input_0"].shape for arrays in samples.all} == {(1, 3)}
    assert values(samples.conversion) == [0]
    assert len(samples.profiling) == 1
    assert samples.batch_size == 2


def test_rows_are_random_seeded_and_different() -> None:
    items = [ROWS[start : start + 7] for start in range(0, 100, 7)]
    one, again, other = (values(collect(Stream(items, 15), count=20, seed=s).correctness) for s in (1, 1, 2))
    assert one == again
    assert one != other
    assert len(set(one)) == 20
    assert one == sorted(one)


def test_each_row_is_as_likely_as_any_other() -> None:
    items = [np.arange(start, start + 5.0).reshape(5, 1) for start in range(0, 20, 5)]
    taken = np.zeros(20)
    for seed in range(400):
        for value in values(collect(items, count=5, seed=seed).correctness):
            taken[int(value)] += 1
    assert taken.sum() == 2000
    assert taken.min() > 60  # 100 are expected, with a standard deviation of 9
    assert taken.max() < 140


def test_a_hundred_by_default_and_the_dataloader_is_read_once() -> None:
    stream = Stream([np.zeros((4, 1), np.float32)] * 50, 50)
    assert len(collect(stream).correctness) == 100
    assert stream.read == 50


def test_no_more_items_are_read_than_it_says_it_has() -> None:
    stream = Stream([ROWS[:1]] * 10, 3)
    assert len(collect(stream).correctness) == 3
    assert stream.read == 3


def test_samples_do_not_share_memory_with_the_dataloader() -> None:
    buffer = np.zeros((2, 3), np.float32)

    def refilled() -> Iterator[Any]:
        for value in range(4):
            buffer[:] = value
            yield buffer

    assert values(collect(Stream(refilled(), 4)).correctness) == [0, 0, 1, 1, 2, 2, 3, 3]


def pictures(*extents: tuple[int, int]) -> list[np.ndarray[Any, Any]]:
    return [np.full((2, height, width, 3), index, np.uint8) for index, (height, width) in enumerate(extents)]


def test_conversion_samples_span_every_axis_that_varies() -> None:
    samples = collect(pictures((8, 20), (4, 30), (16, 25), (9, 9), (5, 21)))
    shapes = [arrays["input_0"].shape for arrays in samples.conversion]
    assert sorted(shapes) == [(1, 4, 30, 3), (1, 9, 9, 3), (1, 16, 25, 3)]
    assert samples.profiling[0]["input_0"].shape == (1, 16, 25, 3)


def test_inputs_that_vary_together_share_their_conversion_samples() -> None:
    items = [{"ids": np.zeros((2, n), np.int64), "mask": np.ones((2, n), np.int64)} for n in (7, 3, 12, 5)]
    samples = collect(items)
    assert [arrays["mask"].shape for arrays in samples.conversion] == [(1, 3), (1, 12)]


def test_the_profiling_sample_is_random_among_the_largest() -> None:
    items = [np.full((3, size), 10 * index + size, np.float32) for index, size in enumerate((2, 5, 5, 4, 5))]
    found = {values(collect(items, seed=seed).profiling)[0] for seed in range(40)}
    assert found == {15, 25, 45}


def test_items_are_named_by_position_by_name_or_not_at_all() -> None:
    pair = (ROWS[:2], np.arange(2))
    assert list(collect([pair]).conversion[0]) == ["input_0", "input_1"]
    assert list(collect([list(pair)], names=("x", "n")).conversion[0]) == ["x", "n"]
    mapping = {"a": ROWS[:2], "label": np.zeros(2), "b": np.arange(2)}
    assert list(collect([mapping]).conversion[0]) == ["a", "label", "b"]
    assert list(collect([mapping], names=["b", "a"]).conversion[0]) == ["b", "a"]
    assert list(collect([ROWS[:2]], names=["x"]).conversion[0]) == ["x"]
    assert collect([[[1, 2], [3, 4]]]).conversion[0]["input_0"].tolist() == [[1, 2]]
    assert collect([["one", "two"]]).correctness[1]["input_0"].tolist() == [b"two"]


def test_mappings_may_change_their_order() -> None:
    items = [{"a": ROWS[:1], "b": ROWS[:1]}, {"b": ROWS[1:2], "a": ROWS[1:2]}]
    assert [list(arrays) for arrays in collect(items).correctness] == [["a", "b"], ["a", "b"]]


def test_whole_inputs_without_a_batch_axis() -> None:
    samples = collect([np.float32(1.5), np.float32(2.5)], batch_dim=None)
    assert [arrays["input_0"].shape for arrays in samples.correctness] == [(), ()]
    assert samples.batch_size == 1
    varying = collect([np.zeros((4, 2)), np.zeros((9, 2))], batch_dim=None)
    assert [arrays["input_0"].shape for arrays in varying.conversion] == [(4, 2), (9, 2)]


def test_rows_along_another_axis() -> None:
    samples = collect([ROWS[:4].T], batch_dim=1)
    assert samples.batch_size == 4
    assert samples.correctness[2]["input_0"].tolist() == [[6], [7], [8]]


def test_torch_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    from frameworks.pt.tensors import to_array

    samples = collect([torch.full((3, 5), 1.0, dtype=torch.bfloat16)], convert=to_array)
    assert specs_of(samples) == (TensorSpec("input_0", "BF16", (-1, 5)),)


@pytest.mark.parametrize(
    ("dataloader", "arguments", "message"),
    [
        ([], {}, "the dataloader has no items"),
        (Stream([], 2), {}, "the dataloader has no items"),
        (iter([ROWS]), {}, "needs len"),
        (7, {}, "needs len"),
        (ROWS, {}, "put it into a list"),
        ({"x": ROWS}, {}, "put it into a list"),
        ([{}], {}, "item 0 of the dataloader has no tensors"),
        ([(ROWS[:2], ROWS[:3])], {}, "item 0 .* equal rows along axis 0; .*'input_1': 3"),
        ([(ROWS[:2], ROWS[:2])], {"names": ["x"]}, "item 0 .* has 2 tensors, but there are 1 names: x"),
        ([ROWS[:1], (ROWS[:1],) * 2], {}, "item 1 .* has the inputs 'input_0', 'input_1', item 0"),
        ([{"x": ROWS}], {"names": ["y"]}, "item 0 .* has no input 'y'; it has 'x'"),
        ([ROWS[:1], ROWS[:1].astype(int)], {}, "item 1 .*'input_0' is INT64 with 2 axes; in item 0 .* FP32"),
        ([ROWS[:1], ROWS[0]], {}, "item 1 .*'input_0' is FP32 with 1 axes; in item 0 .* with 2"),
        ([3.0], {}, "item 0 .*'input_0' has shape .* no batch axis 0; .*batch_dim to None"),
        ([ROWS[:0]], {}, "item 0 .* has no rows"),
        ([np.zeros(2, complex)], {}, "item 0 .*'input_0' cannot be used: .*complex"),
        ([[[1], [1, 2]]], {}, "item 0 .*'input_0' cannot be used"),
        ([ROWS], {"count": 0}, "count must be an integer from 1 up"),
        ([ROWS], {"batch_dim": -1}, "batch_dim must be an integer from 0 up"),
        ([ROWS], {"names": ["a", "a"]}, "names must be different"),
    ],
)
def test_what_is_no_dataloader_is_refused_by_item_and_input(
    dataloader: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidSamples, match=message) as caught:
        collect(dataloader, **arguments)
    assert caught.value.reason == "invalid_samples"


def test_batches_are_made_of_rows_by_turns() -> None:
    rows = collect([ROWS[:3]]).correctness
    assert stack(rows, 5, 0)["input_0"].tolist() == ROWS[[0, 1, 2, 0, 1]].tolist()
    assert stack(collect([ROWS[:3].T], batch_dim=1).correctness, 4, 1)["input_0"].shape == (3, 4)
    assert stack(rows[:1], 1, 0)["input_0"].flags.c_contiguous


def test_batches_leave_out_rows_of_other_extents() -> None:
    rows = collect([np.full((1, size), size, np.int64) for size in (3, 5, 3, 4)]).correctness
    assert stack(rows, 4, 0)["input_0"].tolist() == [[3] * 3] * 4
    with pytest.raises(InvalidSamples, match="0 rows"):
        stack(rows, 0, 0)


def test_specs_show_what_varies_and_what_is_said_to() -> None:
    items = [
        {"ids": np.zeros((2, n), np.int64), "text": np.array([[b"a"]] * 2, dtype=object)} for n in (3, 4)
    ]
    samples = collect(items)
    assert specs_of(samples) == (TensorSpec("ids", "INT64", (-1, -1)), TensorSpec("text", "BYTES", (-1, 1)))
    assert specs_of(samples, {"text": {1: "words"}})[1].shape == (-1, -1)
    assert specs_of(collect([ROWS], batch_dim=None), {"input_0": [0]})[0].shape == (-1, 3)
    assert specs_of(collect([ROWS], batch_dim=None))[0].shape == (100, 3)


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [({"y": [0]}, "'y'; the inputs are input_0"), ({"input_0": [2]}, "2 is none of them")],
)
def test_dynamic_axes_that_are_not_there_are_refused(dynamic: Any, message: str) -> None:
    with pytest.raises(InvalidSamples, match=message):
        specs_of(collect([ROWS]), dynamic)


# -- storage ----------------------------------------------------------------------------------------


def mixed(batch_dim: int | None = 0) -> Samples:
    return collect(
        [{"bf": edge_array("BF16"), "text": edge_array("BYTES"), "x": edge_array("FP64")}],
        batch_dim=batch_dim,
    )


@pytest.mark.parametrize("batch_dim", [0, 1, None])
def test_saved_samples_come_back(tmp_path: Path, batch_dim: int | None) -> None:
    samples = mixed(batch_dim)
    samples.save(tmp_path / "model_input")
    found = Samples.load(tmp_path / "model_input")
    assert (found.batch_size, found.batch_dim, found.generated) == (samples.batch_size, batch_dim, False)
    for ours, theirs in zip(found.all, samples.all, strict=True):
        assert list(ours) == list(theirs)
        assert all(ours[n].tolist() == theirs[n].tolist() and ours[n].dtype == theirs[n].dtype for n in ours)
    assert (tmp_path / "model_input" / "correctness" / "0.npz").is_file()


def test_the_other_name_of_the_profiling_folder_is_read(tmp_path: Path) -> None:
    mixed().save(tmp_path)
    (tmp_path / "profiling").rename(tmp_path / "performance")
    assert len(Samples.load(tmp_path).profiling) == 1


def test_fewer_samples_replace_more(tmp_path: Path) -> None:
    collect([ROWS]).save(tmp_path)
    collect([ROWS], count=2).save(tmp_path)
    assert len(Samples.load(tmp_path).correctness) == 2


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "{}",
        '{"format_version": "2"}',
        '{"format_version": "1", "batch_size": 0, "batch_dim": 0, "generated": false}',
        '{"format_version": "1", "batch_size": 1, "batch_dim": "0", "generated": false}',
        '{"format_version": "1", "batch_size": 1, "batch_dim": 0, "generated": 1}',
    ],
)
def test_a_damaged_record_is_told(tmp_path: Path, record: str) -> None:
    mixed().save(tmp_path)
    (tmp_path / "samples.json").write_text(record)
    with pytest.raises(CorruptArrays, match=r"samples\.json"):
        Samples.load(tmp_path)


def test_samples_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    mixed().save(tmp_path)
    record = json.loads((tmp_path / "samples.json").read_text())
    (tmp_path / "samples.json").write_text(json.dumps({**record, "batch_dim": 1}))
    with pytest.raises(InvalidSamples, match="must have one row"):
        Samples.load(tmp_path)
    one = {"x": np.zeros((1, 2))}
    with pytest.raises(InvalidSamples, match="correctness sample 0: input 'x' is INT64"):
        Samples(conversion=(one,), correctness=({"x": np.zeros((1, 2), int)},), profiling=(one,))
    with pytest.raises(InvalidSamples, match="no profiling samples"):
        Samples(conversion=(one,), correctness=(one,), profiling=())


# -- of a saved model -------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def save(store: ModelStore, signature: dict[str, Any], **arguments: Any) -> Model:
    return python.save_model("m", lambda x: x, signatures={"__call__": signature}, store=store, **arguments)


def test_the_stored_sample_gives_its_rows(models: ModelStore) -> None:
    model = save(models, {"batchable": True}, sample=ROWS[:6])
    samples = from_model(model, "__call__")
    assert values(samples.correctness, "x") == [0, 3, 6, 9, 12, 15]
    assert (samples.batch_size, samples.batch_dim, samples.generated) == (6, 0, False)
    assert len(from_model(model, "__call__", 2).correctness) == 2


def test_the_stored_sample_of_a_method_that_is_not_batchable_stays_whole(models: ModelStore) -> None:
    samples = from_model(save(models, {"batchable": False}, sample=ROWS[:6]), "__call__")
    assert samples.batch_dim is None
    assert [arrays["x"].shape for arrays in samples.correctness] == [(6, 3)]


def spec(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def test_without_a_sample_numbers_are_made_up_and_it_is_told(models: ModelStore) -> None:
    inputs = [
        spec("ids", "INT32", -1, -1), spec("x", "FP16", -1, 4), spec("flag", "BOOL", -1),
        spec("text", "BYTES", -1, 1), spec("b", "BF16", -1, -1),
    ]  # fmt: skip
    model = save(models, {"batchable": True, "inputs": inputs})
    samples = from_model(model, "__call__")
    assert samples.generated
    assert len(samples.correctness) == 16
    assert specs_of(samples) == model.info.signatures["__call__"].inputs
    assert [arrays["ids"].shape for arrays in samples.conversion] == [(1, 8), (1, 16)]
    assert all(0 <= arrays["ids"].min() <= arrays["ids"].max() <= 9 for arrays in samples.all)
    again = from_model(model, "__call__")
    assert values(again.correctness, "x") == values(samples.correctness, "x")
    assert len(from_model(model, "__call__", 40).correctness) == 40


def test_made_up_inputs_of_fixed_extents_differ_in_content_only(models: ModelStore) -> None:
    samples = from_model(
        save(models, {"batchable": True, "inputs": [spec("x", "FP64", -1, 3)]}), "__call__", 5
    )
    assert len(set(values(samples.correctness, "x"))) == 5
    assert [arrays["x"].shape for arrays in samples.conversion] == [(1, 3)]


def test_made_up_inputs_without_rows_vary_too(models: ModelStore) -> None:
    samples = from_model(save(models, {"inputs": [spec("x", "FP32", -1, 2)]}), "__call__", 4)
    assert [arrays["x"].shape for arrays in samples.correctness] == [(8, 2), (16, 2), (8, 2), (16, 2)]


def test_made_up_inputs_keep_to_the_buckets_and_masks_of_padding(models: ModelStore) -> None:
    padding = {"inputs": {"ids": 1}, "buckets": [4, 10, 32], "mask": "mask"}
    inputs = [spec("ids", "INT64", -1, -1), spec("mask", "INT64", -1, -1)]
    model = save(models, {"batchable": True, "inputs": inputs, "padding": padding})
    samples = from_model(model, "__call__")
    assert [arrays["ids"].shape for arrays in samples.conversion] == [(1, 4), (1, 32)]
    assert all(arrays["mask"].shape == arrays["ids"].shape and arrays["mask"].all() for arrays in samples.all)


def test_a_model_of_which_nothing_is_known_has_no_samples(models: ModelStore) -> None:
    model = save(models, {"batchable": True})
    with pytest.raises(
        InvalidSamples, match="saved without a sample, and method '__call__' has no input specs"
    ):
        from_model(model, "__call__")
    with pytest.raises(InvalidSamples, match="no method 'predict'"):
        from_model(model, "predict")
