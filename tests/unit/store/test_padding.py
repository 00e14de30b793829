"""What a signature says about padding: read, written, and checked against the rest of it."""

from __future__ import annotations

import math

import pytest

from store import InvalidSignature, ModelInfo, Signature
from store.padding import Padding, fits, open_axes

IDS = {"name": "ids", "datatype": "INT64", "shape": [-1, -1]}
TYPES = {"name": "types", "datatype": "INT8", "shape": [-1, -1]}
TEXT = {"name": "text", "datatype": "BYTES", "shape": [-1, -1]}
MASK = {"name": "mask", "datatype": "INT32", "shape": [-1, -1]}
FIXED = {"name": "fixed", "datatype": "FP32", "shape": [-1, 4]}
LOGITS = {"name": "logits", "datatype": "FP32", "shape": [-1, -1, 2]}
FULL = {
    "inputs": {"ids": 1, "types": 1},
    "value": {"types": 3},
    "buckets": [16, 32],
    "mask": "mask",
    "outputs": {"logits": 1},
}


def signature(*paddings: object, **fields: object) -> dict[str, object]:
    return {
        "batchable": True,
        "batch_dim": 0,
        "inputs": [IDS, TYPES, TEXT, MASK, FIXED],
        "outputs": [LOGITS],
        "padding": paddings[0] if len(paddings) == 1 else list(paddings),
        **fields,
    }


def bare(*paddings: object, **fields: object) -> dict[str, object]:
    """Without specs."""
    made = signature(*paddings, **fields)
    del made["inputs"], made["outputs"]
    return made


def test_only_inputs_need_be_named() -> None:
    padding = Padding.parse({"inputs": {"ids": 1}})
    assert padding == Padding(inputs=(("ids", 1),), values=(), buckets=(), mask=None, outputs=())
    assert padding.value("ids") == 0
    assert Padding.parse(padding) is padding


@pytest.mark.parametrize(
    "padding",
    [
        {"inputs": {"ids": 1}},
        FULL,
        {"inputs": {"ids": 1, "types": 1}, "value": 7},
        {"inputs": {"text": 1}, "value": "[PAD]"},
        {"inputs": {"ids": 1}, "value": -1},
    ],
)
def test_the_written_form_round_trips_alone_and_in_a_manifest(padding: dict[str, object]) -> None:
    form = signature(padding)
    made = Signature.parse(form)
    assert made.to_dict() == form
    assert Signature.parse(made.to_dict()) == made
    info = ModelInfo(name="m", version="1", module="python", signatures={"predict": made})
    assert ModelInfo.load(info.dump()).signatures == {"predict": made}


def test_several_paddings_are_a_list() -> None:
    form = signature({"inputs": {"ids": 1}}, {"inputs": {"text": 1}, "buckets": [4]})
    made = Signature.parse(form)
    assert [padding.buckets for padding in made.padding] == [(), (4,)]
    assert made.to_dict() == form
    assert Signature.parse(bare({"inputs": {"x": 1}}, {"inputs": {"x": 2}})).padding[1].inputs == (("x", 2),)


def test_a_signature_without_padding_says_nothing_of_it() -> None:
    assert "padding" not in Signature.parse({"batchable": True}).to_dict()
    assert Signature.parse({"batchable": True, "padding": []}).padding == ()


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (7, (("a", 7), ("b", 7))),
        ({"b": 7}, (("b", 7),)),
        ({"a": 0, "b": b""}, ()),
        (False, ()),
        (True, (("a", 1), ("b", 1))),
        (-math.inf, (("a", -math.inf), ("b", -math.inf))),
    ],
)
def test_one_value_is_for_all_inputs_and_a_mapping_for_each(value: object, values: object) -> None:
    assert Padding.parse({"inputs": {"a": 1, "b": 1}, "value": value}).values == values


@pytest.mark.parametrize(("extent", "bucket"), [(0, 16), (1, 16), (16, 16), (17, 32), (32, 32), (33, -1)])
def test_an_extent_belongs_to_the_next_bucket(extent: int, bucket: int) -> None:
    assert Padding.parse({"inputs": {"ids": 1}, "buckets": [16, 32]}).bucket(extent) == bucket


@pytest.mark.parametrize(("extent", "bucket"), [(0, 1), (1, 1), (2, 2), (3, 4), (64, 64), (65, 128)])
def test_without_buckets_extents_are_powers_of_two(extent: int, bucket: int) -> None:
    assert Padding.parse({"inputs": {"ids": 1}}).bucket(extent) == bucket


def test_masks_need_not_be_sent_and_padded_axes_are_open() -> None:
    made = Signature.parse(signature(FULL))
    assert made.masks == {"mask"}
    assert open_axes(made.padding, 0) == ({("ids", 1), ("types", 1), ("mask", 1)}, {("logits", 1)})
    assert open_axes(Signature.parse(bare({"inputs": {"x": 0}, "mask": "m"}, batch_dim=1)).padding, 1) == (
        {("x", 0), ("m", 0)},
        set(),
    )


def test_unknown_keys_name_the_nearest() -> None:
    with pytest.raises(InvalidSignature, match="did you mean 'buckets'") as caught:
        Signature.parse(signature({"inputs": {"ids": 1}, "bucket": [1]}))
    assert caught.value.field == "padding.bucket"
    with pytest.raises(InvalidSignature) as caught:
        Signature.parse(signature({"inputs": {"ids": 1}}, {"inputs": {"ids": 1}, "masks": "m"}))
    assert caught.value.field == "padding[1].masks"


@pytest.mark.parametrize(
    ("padding", "field"),
    [
        (3, "padding"),
        ({}, "padding.inputs"),
        ({"inputs": ["ids"]}, "padding.inputs"),
        ({"inputs": {"ids": "1"}}, "padding.inputs"),
        ({"inputs": {"ids": True}}, "padding.inputs"),
        ({"inputs": {"ids": -1}}, "padding.inputs"),
        ({"inputs": {"ids": 0}}, "padding.inputs"),
        ({"inputs": {"ids": 2}}, "padding.inputs"),
        ({"inputs": {"fixed": 1}}, "padding.inputs"),
        ({"inputs": {"nope": 1}}, "padding.inputs"),
        ({"inputs": {"ids": 1}, "outputs": {"logits": 0}}, "padding.outputs"),
        ({"inputs": {"ids": 1}, "outputs": {"logits": 2}}, "padding.outputs"),
        ({"inputs": {"ids": 1}, "outputs": {"nope": 1}}, "padding.outputs"),
        ({"inputs": {"ids": 1}, "outputs": 1}, "padding.outputs"),
        ({"inputs": {"ids": 1}, "buckets": 16}, "padding.buckets"),
        ({"inputs": {"ids": 1}, "buckets": [16.5]}, "padding.buckets"),
        ({"inputs": {"ids": 1}, "buckets": [0, 16]}, "padding.buckets"),
        ({"inputs": {"ids": 1}, "buckets": [32, 16]}, "padding.buckets"),
        ({"inputs": {"ids": 1}, "buckets": [16, 16]}, "padding.buckets"),
        ({"inputs": {"ids": 1}, "value": None}, "padding.value"),
        ({"inputs": {"ids": 1}, "value": b"x"}, "padding.value"),
        ({"inputs": {"ids": 1}, "value": {"idz": 0}}, "padding.value"),
        ({"inputs": {"ids": 1}, "value": 0.5}, "padding.value"),
        ({"inputs": {"types": 1}, "value": 200}, "padding.value"),
        ({"inputs": {"ids": 1, "text": 1}, "value": "x"}, "padding.value"),
        ({"inputs": {"ids": 1}, "mask": 1}, "padding.mask"),
        ({"inputs": {"ids": 1}, "mask": ""}, "padding.mask"),
        ({"inputs": {"ids": 1}, "mask": "ids"}, "padding.mask"),
        ({"inputs": {"ids": 1}, "mask": "fixed"}, "padding.mask"),
        ({"inputs": {"ids": 1}, "mask": "text"}, "padding.mask"),
        ({"inputs": {"ids": 1}, "mask": "nope"}, "padding.inputs"),
    ],
)
def test_what_contradicts_the_signature_is_refused_with_the_field(padding: object, field: str) -> None:
    with pytest.raises(InvalidSignature) as caught:
        Signature.parse(signature(padding))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"inputs": {"x": 1}}, {"inputs": {"x": 1}}),
        ({"inputs": {"x": 1}, "outputs": {"y": 1}}, {"inputs": {"x": 2}, "outputs": {"y": 1}}),
        ({"inputs": {"x": 1}, "mask": "m"}, {"inputs": {"x": 2}, "mask": "m"}),
        ({"inputs": {"x": 1}, "mask": "m"}, {"inputs": {"m": 1}}),
        ({"inputs": {"x": 1}, "value": 1}, {"inputs": {"x": 2}, "value": 2}),
    ],
)
def test_two_paddings_do_not_get_in_each_others_way(one: object, other: object) -> None:
    with pytest.raises(InvalidSignature):
        Signature.parse(bare(one, other))


def test_padding_is_for_methods_whose_rows_are_merged() -> None:
    with pytest.raises(InvalidSignature, match="batchable"):
        Signature.parse(bare({"inputs": {"x": 1}}, batchable=False))
    with pytest.raises(InvalidSignature, match="no batch axis 2"):
        Signature.parse(bare({"inputs": {"x": 1}, "mask": "m"}, batch_dim=2))


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        (0, "BYTES", True),
        ("x", "BYTES", True),
        (1, "BYTES", False),
        ("", "INT8", False),
        (True, "BOOL", True),
        (2, "BOOL", False),
        (-128, "INT8", True),
        (128, "INT8", False),
        (255, "UINT8", True),
        (-1, "UINT8", False),
        (2**64 - 1, "UINT64", True),
        (1.0, "INT64", False),
        (65504, "FP16", True),
        (65505, "FP16", False),
        (math.inf, "FP16", True),
        (math.nan, "BF16", True),
        (10**400, "FP64", False),
        (1, "FP32", True),
    ],
)
def test_a_value_must_exist_in_the_datatype(value: int | float | str, datatype: str, expected: bool) -> None:
    assert fits(value, datatype) is expected
