from __future__ import annotations

import enum
from typing import Any

import numpy as np
import pytest

from store import Context, InvalidManifest, InvalidTag, ModelInfo, Signature, TensorSpec
from store.plain import MAX_DEPTH, MAX_VALUES, to_plain

FULL = ModelInfo(
    name="iris",
    version="v1",
    module="sklearn",
    signatures={
        "predict": Signature(
            True, (0, 0), (TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "INT64", (-1,)),)
        ),
        "encode": Signature(True, (1, 0)),
    },
    labels={"owner": "nlp_team", "stage": "yes", "number": "123"},
    options={"max_batch_size": 32},
    metadata={"acc": 0.97, "folds": [1, 2.5, None], "text": "1e5", "nested": {"ü": True}},
    context=Context(
        framework_name="sklearn",
        framework_versions={"scikit-learn": "1.1.0"},
        runtime_version="0.1.0",
        python_version="3.11.7",
    ),
    checks={"batch_invariance": {"predict": {"max_abs": float("inf")}}},
    pickled=True,
    digests={"model.pkl": "sha256:00", "more/a.txt": "sha256:11"},
    creation_time="2022-05-19T08:36:52.456990+00:00",
)


def test_a_manifest_round_trips_through_its_text() -> None:
    assert ModelInfo.load(FULL.dump()) == FULL


def test_versions_that_look_like_numbers_stay_text() -> None:
    info = ModelInfo(name="1", version="2345672345672345", module="python")
    assert ModelInfo.load(info.dump()) == info


def test_the_fields_stand_in_the_documented_order() -> None:
    assert list(FULL.to_dict())[:4] == ["name", "version", "module", "labels"]
    assert FULL.dump().startswith("name: iris\nversion: v1\nmodule: sklearn\n")


def test_creation_time_defaults_to_now_with_a_zone() -> None:
    assert ModelInfo(name="a", version="b", module="python").created.tzinfo is not None


def test_unknown_fields_are_passed_over() -> None:
    assert ModelInfo.load(FULL.dump() + "later_addition: 1\n") == FULL


@pytest.mark.parametrize("missing", [name for name in FULL.to_dict() if name not in ("checks", "parent")])
def test_a_missing_field_is_named_with_the_file(missing: str) -> None:
    import yaml

    document = {name: value for name, value in FULL.to_dict().items() if name != missing}
    with pytest.raises(InvalidManifest, match=r"here/model\.yaml") as caught:
        ModelInfo.load(yaml.safe_dump(document), "here/model.yaml")
    assert caught.value.field == missing


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("api_version: v2", "api_version"),
        ("name: [1]", "name"),
        ("name: Upper", "name"),
        ("version: latest", "version"),
        ("pickled: 1", "pickled"),
        ("labels: [a]", "labels"),
        ("labels: {a: 1}", "labels.a"),
        ("metadata: 3", "metadata"),
        ("metadata: {1: 2}", "manifest.metadata"),
        ("context: {python_version: 3.1}", "context.python_version"),
        ("signatures: {predict: {batchable: maybe}}", "signatures.predict.batchable"),
        ("creation_time: yesterday", "creation_time"),
        ("creation_time: '2022-05-19T08:36:52'", "creation_time"),
        ("creation_time: 2022-05-19T08:36:52Z", "manifest.creation_time"),
        ("digests: {../../etc/passwd: x}", "digests"),
        ("digests: {/etc/passwd: x}", "digests"),
        ("digests: {a//b: x}", "digests"),
        ("digests: {'': x}", "digests"),
    ],
)
def test_a_wrong_field_is_named(line: str, field: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        ModelInfo.load(FULL.dump() + line + "\n")
    assert caught.value.field == field


@pytest.mark.parametrize(
    "text",
    ["", "- a", "a: [", "!!python/object/apply:os.system ['true']", "a: 2022-99-99", "x" * (5 << 20), "\0"],
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(InvalidManifest):
        ModelInfo.load(text)


def test_a_text_that_names_itself_a_billion_times_is_refused_quickly() -> None:
    lines = ["l0: &l0 [x, x]"] + [f"l{n}: &l{n} [*l{n - 1}, *l{n - 1}]" for n in range(1, 31)]
    with pytest.raises(InvalidManifest, match="aliases"):
        ModelInfo.load("\n".join(lines))


def test_text_without_a_utf8_form_is_refused() -> None:
    with pytest.raises(InvalidManifest, match="UTF-8"):
        to_plain({"a": "\ud800"}, "metadata")


def test_too_many_values_are_refused() -> None:
    with pytest.raises(InvalidManifest, match="more than"):
        to_plain([0] * MAX_VALUES, "metadata")


def test_deep_nesting_is_refused() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(InvalidManifest, match="levels"):
        to_plain(value, "metadata")
    with pytest.raises(InvalidManifest):
        ModelInfo.load("a: " + "[" * 100_000)


def test_metadata_of_other_types_names_the_key() -> None:
    scores: Any = [1.0, np.float32(2)]
    with pytest.raises(InvalidManifest, match=r"metadata\.scores\[1\] is a float32") as caught:
        ModelInfo(name="a", version="b", module="m", metadata={"scores": scores})
    assert caught.value.field == "metadata.scores[1]"


def test_subclasses_of_plain_types_become_plain() -> None:
    class Stage(enum.StrEnum):
        DEV = "dev"

    class Level(enum.IntEnum):
        ONE = 1

    plain = to_plain({"acc": np.float64(0.5), "stage": Stage.DEV, "level": Level.ONE}, "metadata")
    assert plain == {"acc": 0.5, "stage": "dev", "level": 1}
    assert isinstance(plain, dict)
    assert [type(value) for value in plain.values()] == [float, str, int]


def test_the_record_shares_nothing_with_what_it_was_made_of() -> None:
    scores: list[object] = [1]
    info = ModelInfo(name="a", version="b", module="m", metadata={"scores": scores})  # type: ignore[dict-item]
    scores.append(2)
    assert info.metadata == {"scores": [1]}


def test_bad_names_are_refused_at_construction() -> None:
    with pytest.raises(InvalidTag):
        ModelInfo(name="a/b", version="v", module="m")
    with pytest.raises(InvalidManifest):
        ModelInfo(name="a", version="latest", module="m")
