"""Tensors come back from their files as they were, and damage is told."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from frameworks.convert import npz
from frameworks.convert.npz import CorruptArrays
from store import datatypes
from tests.support.dtypes import edge_array

MIXED = {name: edge_array(name) for name in reversed(datatypes.NAMES)}


def same(actual: object, expected: object) -> bool:
    a, b = np.asarray(actual), np.asarray(expected)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool(a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes())


def test_every_datatype_comes_back_in_order_and_writable(tmp_path: Path) -> None:
    npz.write(MIXED, tmp_path / "0.npz")
    found = npz.read(tmp_path / "0.npz")
    assert list(found) == list(MIXED)
    assert all(same(found[name], MIXED[name]) and found[name].flags.writeable for name in MIXED)


@pytest.mark.parametrize(
    "name", ["x", "file", "a/b:0", "ünï", "x.npy", "datatypes.json", "../up", "/root", "with space"]
)
def test_any_name_is_kept(tmp_path: Path, name: str) -> None:
    npz.write({name: edge_array("BF16"), "other": edge_array("BYTES")}, tmp_path / "0.npz")
    assert list(npz.read(tmp_path / "0.npz")) == [name, "other"]


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_without_a_form_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorruptArrays, match="tensor name"):
        npz.write({name: np.zeros(1)}, tmp_path / "0.npz")
    assert list(tmp_path.iterdir()) == []


def test_numpy_reads_numeric_tensors_by_name(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    npz.write({"x": array, "scalar": np.float64(2.5)}, tmp_path / "0.npz")
    with np.load(tmp_path / "0.npz", allow_pickle=False) as loaded:
        assert loaded.files == ["x", "scalar"]
        assert same(loaded["x"], array)
        assert loaded["scalar"] == 2.5


def test_what_numpy_wrote_is_read(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "0.npz",
        x=np.asfortranarray(np.eye(3, 2)),
        big=np.arange(3, dtype=">i4"),
        text=np.array(["ü", "b"]),
    )
    found = npz.read(tmp_path / "0.npz")
    assert same(found["x"], np.eye(3, 2))
    assert found["x"].flags.c_contiguous
    assert same(found["big"], np.arange(3, dtype=np.int32))
    assert found["text"].tolist() == ["ü".encode(), b"b"]


def test_empty_and_scalar_texts_are_kept(tmp_path: Path) -> None:
    empty, scalar = np.empty((0, 3), dtype=object), np.array(b"one", dtype=object)
    npz.write({"empty": empty, "scalar": scalar}, tmp_path / "0.npz")
    found = npz.read(tmp_path / "0.npz")
    assert same(found["empty"], empty)
    assert same(found["scalar"], scalar)


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        npz.write(MIXED, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([{}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "0.npz", "w") as archive:
        archive.writestr("x.npy", content.getvalue())
        archive.writestr("y.npy", pickle.dumps(1))
    with pytest.raises(CorruptArrays, match=r"0\.npz cannot be read"):
        npz.read(tmp_path / "0.npz")


def test_damage_anywhere_is_told_and_never_another_error(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    npz.write({"x": np.arange(3, dtype=np.float32), "t": np.array([b"one", b"two"], dtype=object)}, path)
    whole, expected = path.read_bytes(), npz.read(path)
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    damaged += [bytes([*whole[:at], whole[at] ^ 0x41, *whole[at + 1 :]]) for at in range(len(whole))]
    for content in damaged:
        path.write_bytes(content)
        with contextlib.suppress(CorruptArrays):
            found = npz.read(path)  # bytes that say nothing of a tensor, such as a time
            assert list(found) == list(expected)
            assert all(same(found[name], array) for name, array in expected.items())


def test_a_tensor_longer_than_its_shape_is_told(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.zeros(2))
    with zipfile.ZipFile(tmp_path / "0.npz", "w") as archive:
        archive.writestr("x.npy", content.getvalue() + b"more")
    with pytest.raises(CorruptArrays, match="'x' is longer than its shape"):
        npz.read(tmp_path / "0.npz")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorruptArrays, match="No such file"):
        npz.read(tmp_path / "0.npz")


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ('{"x": {"datatype": "BYTES", "shape": [9]}}', "reshape"),
        ('{"x": {"datatype": "BF16"}}', "cannot be BF16"),
        ('{"x": {}}', "datatype"),
        ("[]", "list"),
        ('{"y": {"datatype": "BYTES", "shape": [1]}}', "cut off"),
    ],
)
def test_a_note_that_does_not_fit_is_told(tmp_path: Path, note: str, message: str) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.frombuffer(b"\1\0\0\0a", dtype=np.uint8))
    with zipfile.ZipFile(tmp_path / "0.npz", "w") as archive:
        archive.writestr("x.npy", content.getvalue())
        archive.writestr("y.npy", content.getvalue().replace(b"\1\0\0\0a", b"\2\0\0\0a"))
        archive.writestr(npz.NOTES, note)
    with pytest.raises(CorruptArrays, match=message):
        npz.read(tmp_path / "0.npz")


def test_a_kind_replaces_what_was_there_and_keeps_its_order(tmp_path: Path) -> None:
    folder = tmp_path / "model_output" / "correctness"
    npz.write_kind(folder, [{"x": np.array([index])} for index in range(12)])
    assert [int(item["x"][0]) for item in npz.read_kind(folder)] == list(range(12))
    npz.write_kind(folder, [{"x": np.array([7])}])
    assert [path.name for path in folder.parent.iterdir()] == ["correctness"]
    assert [int(item["x"][0]) for item in npz.read_kind(folder)] == [7]


def test_a_gap_in_a_kind_is_told(tmp_path: Path) -> None:
    npz.write_kind(tmp_path / "k", [{"x": np.zeros(1)}] * 3)
    (tmp_path / "k" / "1.npz").unlink()
    with pytest.raises(CorruptArrays, match=r"1\.npz"):
        npz.read_kind(tmp_path / "k")
    with pytest.raises(CorruptArrays, match="there are no tensors at"):
        npz.read_kind(tmp_path / "nowhere")
