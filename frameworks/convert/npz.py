"""Tensors in files that any numpy reads: samples and answers of a conversion.

Numeric tensors are plain members of an ``.npz`` by their names, so that ``numpy.load`` shows them. Two
datatypes need a note, which the member ``datatypes.json`` keeps: BF16 lies there as its bits (uint16), BYTES
as one uint8 tensor in which each text follows its length (four bytes, little-endian), as in the Open
Inference Protocol.

Invariants: nothing is pickled; the order of the tensors is kept; equal tensors give equal files; a process
that is killed leaves the old file or the new one.
"""

from __future__ import annotations

import io
import json
import secrets
import shutil
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from frameworks.arrays import Array, Arrays, as_array
from frameworks.errors import FrameworkError
from store import datatypes

NOTES: Final = "datatypes.json"
"""Name of the member with the notes; tensors' members end in ``.npy``, so none can have it."""

_SUFFIX: Final = ".npy"
_END: Final = struct.Struct("<4s6xH10x")
"""The record at the end of an archive without a comment: its signature, and the number of members."""

_MANY: Final = 0xFFFF
"""As that number: it stands elsewhere."""

_LENGTH: Final = struct.Struct("<I")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""Time of every member: the oldest that the format has."""


class CorruptArrays(FrameworkError):
    """A file of tensors is damaged, missing, or cannot be written as it is (DATA_LOSS)."""

    reason = "corrupt_arrays"


def write(arrays: Mapping[str, Array], path: Path) -> None:
    """Write tensors, whole or not at all, into a folder that exists.

    Raises:
        CorruptArrays: a name has no form in the file.
        InvalidOutput: a datatype without a protocol name.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with zipfile.ZipFile(unfinished, "x") as archive:
            notes: dict[str, dict[str, Any]] = {}
            for name, array in arrays.items():
                stored, note = _encode(as_array(array))
                if note is not None:
                    notes[name] = note
                with archive.open(_member(name + _SUFFIX), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, stored, allow_pickle=False)
            if notes:
                archive.writestr(_member(NOTES), json.dumps(notes))
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> Arrays:
    """Return the tensors of a file as fresh writable arrays; any ``.npz`` without pickles will do.

    Raises:
        CorruptArrays: it is missing, damaged, or holds something that is no tensor.
    """
    arrays: Arrays = {}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            _check_count(file, len(archive.infolist()))
            notes = json.loads(archive.read(NOTES)) if NOTES in archive.namelist() else {}
            for info in archive.infolist():
                if info.filename == NOTES:
                    continue
                name = info.filename.removesuffix(_SUFFIX)
                with archive.open(info) as member:
                    stored = np.lib.format.read_array(member, allow_pickle=False)
                    if member.read(1):  # reading to the end also compares the checksum
                        raise ValueError(f"tensor {name!r} is longer than its shape")
                arrays[name] = _decode(stored, notes.get(name))
    except Exception as error:  # whatever the damage makes the readers stumble on
        raise CorruptArrays(
            f"{path} cannot be read: {error or type(error).__name__}", field=str(path)
        ) from error
    return arrays


def write_kind(folder: Path, items: Sequence[Mapping[str, Array]]) -> None:
    """Write ``0.npz``, ``1.npz`` … into a folder, in the place of what it held.

    Raises:
        CorruptArrays: see ``write``.
    """
    staged = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    for index, arrays in enumerate(items):
        write(arrays, staged / f"{index}.npz")
    if folder.exists():
        shutil.rmtree(folder)
    staged.rename(folder)


def read_kind(folder: Path) -> list[Arrays]:
    """Return what ``write_kind`` wrote, in order.

    Raises:
        CorruptArrays: the folder or one of its files is missing or damaged.
    """
    if not folder.is_dir():
        raise CorruptArrays(f"there are no tensors at {folder}", field=str(folder))
    found = {path.stem for path in folder.glob("*.npz")}
    return [read(folder / f"{index}.npz") for index in range(1 + max(map(_number, found), default=-1))]


def _check_count(file: BinaryIO, found: int) -> None:
    """Compare the number of members with what the archive's last record says; ``zipfile`` does not."""
    file.seek(-_END.size, io.SEEK_END)
    signature, told = _END.unpack(file.read())
    if signature == b"PK\5\6" and told not in (found, _MANY):
        raise ValueError(f"{told} members are listed and {found} found")


def _number(stem: str) -> int:
    return int(stem) if stem.isascii() and stem.isdigit() else -1


def _member(name: str) -> zipfile.ZipInfo:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise CorruptArrays(f"tensor name {name!r} has no UTF-8 form", field=name) from error
    if "\0" in name:
        raise CorruptArrays(f"tensor name {name!r} has a zero byte", field=name)
    return zipfile.ZipInfo(name, _EPOCH)


def _encode(array: Array) -> tuple[Array, dict[str, Any] | None]:
    """Return what lies in the file, and the note that it needs."""
    datatype = datatypes.from_numpy(array.dtype)
    if datatype == "BF16":
        return array.view(np.uint16), {"datatype": datatype}
    if datatype == "BYTES":
        parts = [part for item in array.ravel().tolist() for part in (_LENGTH.pack(len(item)), item)]
        packed = np.frombuffer(b"".join(parts), dtype=np.uint8)
        return packed, {"datatype": datatype, "shape": list(array.shape)}
    return array, None


def _decode(stored: Array, note: Mapping[str, Any] | None) -> Array:
    if note is None:
        return as_array(stored)
    if note["datatype"] == "BF16" and stored.dtype == np.uint16:
        return stored.view(datatypes.numpy_dtype("BF16"))
    if note["datatype"] == "BYTES" and stored.dtype == np.uint8:
        return _texts(stored.tobytes()).reshape([int(extent) for extent in note["shape"]])
    raise ValueError(f"a {stored.dtype} tensor cannot be {note['datatype']}")


def _texts(data: bytes) -> Array:
    items: list[bytes] = []
    position = 0
    while position < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size + length
        items.append(data[position - length : position])
    if position != len(data):
        raise ValueError("the last text is cut off")
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
