"""What is written can be read again, whatever it is; what is read from anywhere never crashes the reader."""

from __future__ import annotations

import string

import hypothesis.strategies as st
from hypothesis import given, settings

from store import (
    InvalidManifest,
    InvalidSignature,
    InvalidTag,
    ModelInfo,
    Signature,
    Tag,
    TensorSpec,
    datatypes,
)
from store.plain import Plain
from store.signature import DYNAMIC, parse_signatures

EDGE = string.ascii_lowercase + string.digits
PARTS = st.from_regex(r"[a-z0-9]([-._a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
SHAPES = st.lists(st.integers(DYNAMIC, 1000), max_size=4)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    batchable, axes = draw(st.booleans()), (draw(st.integers(0, 2)), draw(st.integers(0, 2)))

    def specs(axis: int) -> tuple[TensorSpec, ...] | None:
        if draw(st.booleans()):
            return None
        names = draw(st.lists(TEXT.filter(bool), max_size=3, unique=True))
        return tuple(TensorSpec(name, draw(st.sampled_from(datatypes.NAMES)), shape(axis)) for name in names)

    def shape(axis: int) -> tuple[int, ...]:
        sizes = draw(SHAPES)
        if batchable:
            sizes += [1] * (axis + 1 - len(sizes))
            sizes[axis] = DYNAMIC
        return tuple(sizes)

    return Signature(batchable, axes, specs(axes[0]), specs(axes[1]))


@st.composite
def records(draw: st.DrawFn) -> ModelInfo:
    mapping = st.dictionaries(TEXT, VALUES, max_size=4)
    method = st.text(string.ascii_letters + "_", min_size=1, max_size=10)
    metadata: dict[str, Plain] = draw(mapping)
    return ModelInfo(
        name=draw(PARTS),
        version=draw(PARTS.filter(lambda part: part != "latest")),
        module=draw(TEXT),
        signatures=draw(st.dictionaries(method, signatures(), max_size=3)),
        labels=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        options=draw(mapping),
        metadata=metadata,
        checks=draw(mapping),
        pickled=draw(st.booleans()),
        digests=draw(st.dictionaries(PARTS, TEXT, max_size=3)),
    )


@given(records())
@settings(max_examples=60, deadline=None)
def test_every_manifest_that_can_be_made_can_be_read_again(info: ModelInfo) -> None:
    assert ModelInfo.load(info.dump()) == info


@given(signatures())
def test_every_signature_round_trips(signature: Signature) -> None:
    assert Signature.parse(signature.to_dict()) == signature


@given(PARTS, PARTS)
def test_every_tag_round_trips(name: str, version: str) -> None:
    assert Tag.parse(str(Tag(name, version))) == Tag(name, version)


@given(st.text(max_size=80))
def test_any_text_is_a_safe_tag_or_refused(text: str) -> None:
    try:
        tag = Tag.parse(text)
    except InvalidTag:
        return
    for part in (tag.name, tag.version):
        assert set(part) <= set(EDGE + "-._")
        assert part[0] in EDGE
        assert part[-1] in EDGE
        assert len(part) <= 63


@given(st.dictionaries(TEXT, VALUES, max_size=4) | VALUES)
def test_any_value_is_a_signature_or_refused(value: object) -> None:
    for parse in (Signature.parse, TensorSpec.parse, parse_signatures):
        try:
            parse(value)
        except InvalidSignature:
            continue


@given(records(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_manifest_is_read_or_refused(info: ModelInfo, data: st.DataObject) -> None:
    text = info.dump()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    damaged = text[:start] + data.draw(st.text(max_size=5)) + text[end:]
    try:
        ModelInfo.load(damaged)
    except InvalidManifest:
        return
