from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from runtime.cli import inputs, outputs
from runtime.cli.inputs import Input
from runtime.client import InferResult
from store.datatypes import numpy_dtype


def read(text: str, **specs: str) -> Any:
    return inputs.read(inputs.split(text), specs)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.array([[1, 2]], np.int16))
    np.savez("one.npz", only=np.array([1.5]))
    np.savez("two.npz", a=np.array([1]), b=np.array([2]))
    np.save("objects.npy", np.array([{}], object))
    Path("a.json").write_text("[[1, 2]]", encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("x=[1]", Input("x", "", "[1]")),
        ("x:FP32=[1]", Input("x", "FP32", "[1]")),
        ("x:bf16=[1]", Input("x", "BF16", "[1]")),
        ("x:0=[1]", Input("x:0", "", "[1]")),
        ("x:0:INT8=@a.npy", Input("x:0", "INT8", "@a.npy")),
        ('x=["a=b"]', Input("x", "", '["a=b"]')),
    ],
)
def test_name_datatype_and_value_are_told_apart(text: str, given: Input) -> None:
    assert inputs.split(text) == given


@pytest.mark.parametrize("text", ["x", "x=", "=1", ":FP32=1", "=", ""])
def test_what_has_no_name_or_value_is_bad_usage(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not NAME=VALUE"):
        inputs.split(text)


@pytest.mark.parametrize(
    ("text", "needs"),
    [("x=1", True), ("x=@a.json", True), ("x=@a.npy", False), ("x:FP32=1", False), ("x:FP32=@a.json", False)],
)
def test_only_json_without_a_datatype_needs_the_models_spec(text: str, needs: bool) -> None:
    assert inputs.split(text).needs_spec is needs


def test_numpy_files_keep_their_datatype() -> None:
    array = read("x=@a.npy", x="FP32")
    assert (array.dtype, array.tolist()) == (np.int16, [[1, 2]])
    assert read("x=@one.npz").tolist() == [1.5]
    assert read("x=@two.npz:b").tolist() == [2]


def test_a_datatype_behind_the_name_is_taken_for_every_kind_of_value() -> None:
    for value in ("@a.npy", "@a.json", "[[1, 2]]"):
        array = read(f"x:FP16={value}", x="FP64")
        assert (array.dtype, array.tolist()) == (np.float16, [[1, 2]])


def test_json_takes_the_datatype_of_the_spec() -> None:
    assert read("x=[[1, 2]]", x="FP32").dtype == np.float32
    assert read("x=@a.json", x="BF16").dtype == numpy_dtype("BF16")
    assert read("x=[1, 2]", y="FP32").dtype == np.int64
    assert read("x=[true]").dtype == np.bool_


def test_json_text_becomes_bytes() -> None:
    assert read('x=["a", "é"]', x="BYTES").tolist() == [b"a", "é".encode()]
    assert read('x="a"').shape == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=[1", "is not JSON"),
        ("x=a.npy", "a file begins with @"),
        ("x=[[1],[1,2]]", "is no tensor"),
        ("x=[null]", "neither a number nor a string"),
        ("x:INT8=[1.5]", "FP64 values do not fit into INT8"),
        ("x:UINT8=[300]", "INT64 values do not fit into UINT8"),
        ("x=@no.npy", "no.npy: No such file"),
        ("x=@no.json", "no.json: No such file"),
        ("x=@a.json:k", "no file of numpy's|No such file"),
        ("x=@objects.npy", "no file of numpy's, or has pickled objects"),
        ("x=@two.npz", "has the arrays a, b; choose one with @two.npz:KEY"),
        ("x=@two.npz:c", "has the arrays a, b"),
    ],
)
def test_a_value_that_cannot_be_read_is_bad_usage(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        read(text)


def result(**arrays: Any) -> InferResult:
    return InferResult(arrays, model="m", version="v", id="", timings={})


def test_outputs_are_shown_with_name_datatype_shape_and_values() -> None:
    shown = outputs.text(
        result(
            label=np.array([3, 1]), text=np.array([b"\xff", "é".encode()], object), big=np.zeros((2000, 3))
        )
    )
    assert shown.startswith("model m, version v\nlabel INT64 [2]\n[3, 1]\ntext BYTES [2]\n")
    assert "é" in shown
    assert "\\xff" in shown
    assert "..." in shown
    assert len(shown) < 1000


def test_outputs_as_json_are_plain_values() -> None:
    document = outputs.document(
        result(x=np.array([[1.5]], numpy_dtype("BF16")), t=np.array(["é".encode()], object), n=np.float32(2))
    )
    assert json.loads(json.dumps(document)) == {
        "model": "m",
        "version": "v",
        "outputs": {
            "x": {"datatype": "BF16", "shape": [1, 1], "data": [[1.5]]},
            "t": {"datatype": "BYTES", "shape": [1], "data": ["é"]},
            "n": {"datatype": "FP32", "shape": [], "data": 2.0},
        },
    }


def test_outputs_are_stored_without_pickles() -> None:
    arrays = {
        "file": np.arange(6, dtype=np.float16).reshape(2, 3).T,
        "half": np.array([1.5], numpy_dtype("BF16")),
        "a/b": np.array([[b"long", b""]], object),
    }
    outputs.save(arrays, Path("out.npz"))
    with np.load("out.npz", allow_pickle=False) as stored:
        assert set(stored) == set(arrays)
        np.testing.assert_array_equal(stored["file"], arrays["file"])
        assert (stored["half"].dtype, stored["half"].tolist()) == (np.float32, [1.5])
        assert stored["a/b"].tolist() == [["long", ""]]
