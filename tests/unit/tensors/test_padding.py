"""Requests brought to their buckets, and outputs cropped again, in wire form."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import (
    DatatypeMismatch,
    InvalidInput,
    OutputMismatch,
    RuntimeServingError,
    ShapeMismatch,
    TaskTooLarge,
)
from runtime.tensors import strings
from runtime.tensors.layout import Array, Layout, TensorLayout
from runtime.tensors.padding import Crop, Padder, crop, cropped
from store import Signature
from tests.support.execution import array_of, raw

ENOUGH = 1 << 30


def signature(padding: object, **fields: object) -> Signature:
    return Signature.parse({"batchable": True, "padding": padding, **fields})


def layouts(arrays: dict[str, Array], **datatypes: str) -> list[TensorLayout]:
    return [
        TensorLayout.of(name, datatypes.get(name) or _datatype(array), array.shape)
        for name, array in arrays.items()
    ]


def _datatype(array: Array) -> str:
    return {"i8": "INT64", "f4": "FP32", "O": "BYTES"}[array.dtype.str.lstrip("<|")]


def padder(given: Signature, arrays: dict[str, Array], max_bytes: int = ENOUGH) -> Padder:
    return Padder(given, layouts(arrays), range(len(arrays)), max_bytes=max_bytes)


def padded(given: Signature, **arrays: Array) -> dict[str, Array]:
    """What the tasks of a request would have."""
    made = padder(given, arrays)
    parts = made.pad([raw(array) for array in arrays.values()])
    return {
        tensor.name: array_of(tensor, bytes(part), 0)
        for tensor, part in zip(made.tensors, parts, strict=True)
    }


IDS = np.arange(1, 7, dtype=np.int64).reshape(2, 3)


def test_inputs_are_filled_up_to_the_bucket_behind_their_content() -> None:
    (ids,) = padded(signature({"inputs": {"ids": 1}, "buckets": [5], "value": -1}), ids=IDS).values()
    assert ids.tolist() == [[1, 2, 3, -1, -1], [4, 5, 6, -1, -1]]


def test_what_has_the_buckets_extent_is_handed_on_as_it_is() -> None:
    made = padder(signature({"inputs": {"ids": 1}, "buckets": [3]}), {"ids": IDS})
    data = raw(IDS)
    assert made.pad([data])[0] is data
    assert made.crops == {}


def test_a_request_without_elements_is_all_padding() -> None:
    given = signature({"inputs": {"ids": 1}, "buckets": [2], "mask": "mask"})
    made = padded(given, ids=np.empty((2, 0), np.int64))
    assert made["ids"].tolist() == [[0, 0], [0, 0]]
    assert made["mask"].tolist() == [[0, 0], [0, 0]]


def test_a_request_without_rows_has_none_afterwards() -> None:
    given = signature({"inputs": {"ids": 1}, "buckets": [8], "mask": "mask"})
    made = padded(given, ids=np.empty((0, 3), np.int64))
    assert [array.shape for array in made.values()] == [(0, 8), (0, 8)]


def test_a_mask_tells_content_from_padding() -> None:
    given = signature({"inputs": {"ids": 1}, "buckets": [3, 4], "mask": "mask"})
    mask = padded(given, ids=IDS[:, :2])["mask"]
    assert (mask.dtype, mask.tolist()) == (np.int64, [[1, 1, 0], [1, 1, 0]])
    assert padded(given, ids=IDS)["mask"].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_mask_that_was_sent_is_padded_with_zeros() -> None:
    given = signature({"inputs": {"ids": 1}, "buckets": [4], "mask": "mask", "value": 9})
    sent = np.array([[1, 0, 1], [1, 1, 1]], np.int64)
    made = padded(given, mask=sent, ids=IDS)
    assert list(made) == ["mask", "ids"]
    assert made["mask"].tolist() == [[1, 0, 1, 0], [1, 1, 1, 0]]
    assert made["ids"].tolist() == [[1, 2, 3, 9], [4, 5, 6, 9]]


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("INT32", np.int32), ("BOOL", np.bool_), ("FP32", np.float32)]
)
def test_a_mask_has_its_specs_datatype_and_place(datatype: str, dtype: type) -> None:
    specs = [
        {"name": "mask", "datatype": datatype, "shape": [-1, -1]},
        {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
    ]
    made = padded(signature({"inputs": {"ids": 1}, "mask": "mask"}, inputs=specs), ids=IDS)
    assert list(made) == ["mask", "ids"]
    assert made["mask"].dtype == dtype
    assert made["mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0]]


def test_an_axis_before_the_batch_axis_is_padded() -> None:
    given = signature({"inputs": {"ids": 0}, "buckets": [4], "mask": "mask"}, batch_dim=1)
    made = padded(given, ids=IDS)  # 2 steps of 3 rows
    assert made["ids"].tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 0], [0, 0, 0]]
    assert made["mask"].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_texts_are_filled_up_with_empty_ones_or_those_named() -> None:
    words = np.array([[b"a", b"\0b"], [b"", b"ccc"]], object)
    empty = padded(signature({"inputs": {"w": 1}, "buckets": [3]}), w=words)["w"]
    assert empty.tolist() == [[b"a", b"\0b", b""], [b"", b"ccc", b""]]
    named = padded(signature({"inputs": {"w": 1}, "buckets": [3], "value": "é\0"}), w=words)["w"]
    assert named[:, 2].tolist() == ["é\0".encode()] * 2


def test_a_tensor_can_be_padded_along_two_axes_independently() -> None:
    given = signature([{"inputs": {"x": 1}, "buckets": [2]}, {"inputs": {"x": 2, "z": 1}, "buckets": [3]}])
    made = padded(given, x=np.ones((1, 1, 2), np.float32), z=np.ones((1, 2), np.float32))
    assert made["x"].tolist() == [[[1, 1, 0], [0, 0, 0]]]
    assert made["z"].tolist() == [[1, 1, 0]]


def test_inputs_that_are_not_named_stay_as_they_are() -> None:
    given = signature({"inputs": {"ids": 1}, "buckets": [4]})
    assert padded(given, other=IDS, ids=IDS)["other"].tolist() == IDS.tolist()


def test_views_of_a_request_need_not_lie_aligned() -> None:
    made = padder(signature({"inputs": {"ids": 1}, "buckets": [4]}), {"ids": IDS})
    (part,) = made.pad([memoryview(b"x" + raw(IDS))[1:]])
    assert bytes(part) == made.pad([raw(IDS)])[0]


BUCKETS = {"inputs": {"ids": 1, "types": 1}, "buckets": [4, 8], "mask": "mask"}


@pytest.mark.parametrize(
    ("padding", "shapes", "kind", "field", "text"),
    [
        (
            BUCKETS,
            {"ids": (1, 9), "types": (1, 9)},
            ShapeMismatch,
            "inputs['ids'].shape",
            "9 along axis 1, the",
        ),
        (
            BUCKETS,
            {"ids": (1, 3), "types": (1, 2)},
            ShapeMismatch,
            "inputs['types'].shape",
            "but 'ids' has 3",
        ),
        (
            BUCKETS,
            {"ids": (1, 3), "types": (1, 3), "mask": (1, 4)},
            ShapeMismatch,
            "inputs['mask'].shape",
            "4 along axis 1, but 'ids' has 3",
        ),
        (BUCKETS, {"ids": (1, 3), "types": (1,)}, ShapeMismatch, "inputs['types'].shape", "has no axis 1"),
        (BUCKETS, {"ids": (1, 3)}, InvalidInput, "inputs['types']", "'types' is missing"),
        (
            {"inputs": {"ids": 1}, "value": 0.5},
            {"ids": (1, 3)},
            DatatypeMismatch,
            "inputs['ids'].datatype",
            "INT64 cannot hold",
        ),
    ],
)
def test_what_cannot_be_padded_is_refused_by_name(
    padding: object,
    shapes: dict[str, tuple[int, ...]],
    kind: type[RuntimeServingError],
    field: str,
    text: str,
) -> None:
    arrays: dict[str, Array] = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
    with pytest.raises(RuntimeServingError, match=text) as caught:
        padder(signature(padding), arrays)
    assert (type(caught.value), caught.value.field) == (kind, field)


@pytest.mark.parametrize("dims", [(1, 0, 1 << 30), (1, 3, 1 << 20), (0, 3, 1 << 44)])
def test_a_few_bytes_cannot_ask_for_any_number_of_them(dims: tuple[int, ...]) -> None:
    given = signature({"inputs": {"x": 1}, "buckets": [1 << 20]})
    for datatype in ("FP32", "BYTES"):
        with pytest.raises(TaskTooLarge, match="padded, the request has"):
            Padder(given, [TensorLayout.of("x", datatype, dims)], [0], max_bytes=1 << 28)


def test_the_bound_is_on_all_tensors_together() -> None:
    given = signature({"inputs": {"ids": 1}, "buckets": [4], "mask": "mask"})
    assert padder(given, {"ids": IDS}, max_bytes=2 * 4 * 8 * 2)
    with pytest.raises(TaskTooLarge):
        padder(given, {"ids": IDS}, max_bytes=2 * 4 * 8 * 2 - 1)


# -- outputs ----------------------------------------------------------------------------------------

LAYOUT = Layout("", (0, 0), (TensorLayout.of("y", "FP32", (-1, 4, 2)), TensorLayout.of("n", "INT64", (-1,))))


def test_outputs_are_shown_with_the_requests_own_extents() -> None:
    shown = cropped(LAYOUT, {"y": [Crop(1, 4, 3)]})
    assert [(tensor.name, tensor.dims, tensor.row_bytes) for tensor in shown] == [
        ("y", (-1, 3, 2), 24),
        ("n", (-1,), 8),
    ]
    assert shown[1] is LAYOUT.tensors[1]


@pytest.mark.parametrize(
    ("crops", "text"),
    [
        ({"z": [Crop(1, 4, 3)]}, "did not return 'z'"),
        ({"y": [Crop(1, 8, 3)]}, "padded to 8"),
        ({"y": [Crop(3, 4, 3)]}, "along axis 3"),
        ({"n": [Crop(0, 4, 3)]}, "along axis 0"),
    ],
)
def test_an_output_without_the_promised_extent_is_a_mismatch(crops: dict[str, list[Crop]], text: str) -> None:
    with pytest.raises(OutputMismatch, match=text):
        cropped(LAYOUT, crops)


def test_a_crop_keeps_the_first_of_each_axis() -> None:
    whole = np.arange(16, dtype=np.float32).reshape(2, 4, 2)
    tensor = LAYOUT.tensors[0]
    kept = crop(tensor, memoryview(raw(whole)), (2, 4, 2), (2, 3, 2))
    assert kept == np.ascontiguousarray(whole[:, :3]).tobytes()
    assert crop(tensor, raw(whole), (2, 4, 2), (2, 0, 2)) == b""
    data = raw(whole)
    assert crop(tensor, data, (2, 4, 2), (2, 4, 2)) is data


def test_texts_are_cropped_too() -> None:
    words = np.array([[b"a", b"bb", b""], [b"c", b"", b"dd"]], object)
    tensor = TensorLayout.of("w", "BYTES", (-1, 3))
    assert crop(tensor, strings.encode(words), (2, 3), (2, 2)) == strings.encode(words[:, :2])
    assert crop(tensor, b"", (0, 3), (0, 2)) == b""
