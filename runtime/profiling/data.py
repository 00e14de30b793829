"""What is inside the tensors of generated requests: rows that are drawn in turn from a pool.

A pool holds, for each input, one array whose first axis is the row (or the only value of an input without a
batch axis). It comes from the model's metadata (random, zeros), from a file (npz; JSON in the form that
perf_analyzer reads) or from arrays such as the model's saved sample.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtime.errors import InvalidInput
from runtime.tensors import strings
from store import datatypes

if TYPE_CHECKING:
    from runtime.client.results import TensorMetadata
    from runtime.tensors.layout import Array

Shapes = Mapping[str, Sequence[int]]

_TEXT_BYTES: Final = 16
_INTEGERS_BELOW: Final = 100
"""Random integers are small: most models take them as indexes of something."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One input to fill.

    Attributes:
        name: of the tensor.
        datatype: as in the protocol.
        shape: extents of one row; -1 only where the data decides.
        is_batched: whether rows are stacked along a leading axis that ``shape`` does not have.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    is_batched: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array that holds it."""
        return datatypes.numpy_dtype(self.datatype)

    def fixed_shape(self) -> tuple[int, ...]:
        """The extents of one row.

        Raises:
            InvalidInput: an axis may have any length and nothing says which.
        """
        if any(extent < 0 for extent in self.shape):
            raise InvalidInput(
                f"input {self.name!r} has the shape {list(self.shape)}: give its extents, or data with them",
                field="shape",
            )
        return self.shape


def slots(tensors: Sequence[TensorMetadata], shapes: Shapes) -> tuple[Slot, ...]:
    """Read a model's metadata.

    The leading axis is the batch axis if every input has it and it may have any length: the protocol itself
    has no word for it.

    Args:
        tensors: the model's inputs.
        shapes: extents to use instead, by input, without the batch axis.

    Raises:
        InvalidInput: the model tells of no inputs, or a shape is given for an input that it does not have.
    """
    if not tensors:
        raise InvalidInput(
            "the server tells of no inputs of the model: give the data in a file", field="data"
        )
    if unknown := sorted(set(shapes) - {tensor.name for tensor in tensors}):
        raise InvalidInput(
            f"no input {unknown[0]!r}; there are {', '.join(tensor.name for tensor in tensors)}",
            field="shape",
        )
    batched = all(tensor.shape[:1] == (-1,) for tensor in tensors)
    return tuple(
        Slot(t.name, t.datatype, tuple(shapes.get(t.name, t.shape[1:] if batched else t.shape)), batched)
        for t in tensors
    )


class Pool:
    """Rows to draw from, in turn, beginning again after the last.

    Args:
        inputs: what they are for.
        arrays: by input; the first axis counts the rows where the input is batched.
    """

    def __init__(self, inputs: Sequence[Slot], arrays: Mapping[str, Array]) -> None:
        self._arrays = [(slot, _fit(slot, arrays[slot.name])) for slot in inputs if slot.name in arrays]
        if missing := [slot.name for slot in inputs if slot.name not in arrays]:
            raise InvalidInput(f"the data lacks the input {missing[0]!r}", field="data")
        self._at = 0

    def draw(self, rows: int) -> dict[str, Array]:
        """The next rows.

        Raises:
            InvalidInput: several rows, for a model without a batch axis.
        """
        drawn = {}
        for slot, array in self._arrays:
            if slot.is_batched:
                drawn[slot.name] = array.take(range(self._at, self._at + rows), axis=0, mode="wrap")
            elif rows == 1:
                drawn[slot.name] = array
            else:
                raise InvalidInput(f"{rows} rows, but input {slot.name!r} has no batch axis", field="rows")
        self._at += rows
        return drawn


def generated(kind: str, inputs: Sequence[Slot], rows: int, seed: int) -> Pool:
    """A pool of made-up rows.

    Args:
        kind: ``random`` or ``zeros``.
        inputs: what to fill.
        rows: how many different ones.
        seed: the same seed gives the same values.

    Raises:
        InvalidInput: another kind, or a shape that is open.
    """
    if kind not in {"random", "zeros"}:
        raise InvalidInput(f"data is random, zeros, sample or a file, not {kind!r}", field="data")
    random = np.random.default_rng(seed)
    arrays = {}
    for slot in inputs:
        shape = (rows, *slot.fixed_shape()) if slot.is_batched else slot.fixed_shape()
        arrays[slot.name] = _random(random, slot, shape) if kind == "random" else _zeros(slot, shape)
    return Pool(inputs, arrays)


def _zeros(slot: Slot, shape: tuple[int, ...]) -> Array:
    return np.full(shape, b"", dtype=object) if slot.datatype == "BYTES" else np.zeros(shape, slot.dtype)


def _random(random: np.random.Generator, slot: Slot, shape: tuple[int, ...]) -> Array:
    """Uniform in [0, 1) for floats, small for integers, letters for text."""
    if slot.datatype == "BYTES":
        letters = random.integers(ord("a"), ord("z") + 1, (math.prod(shape), _TEXT_BYTES), dtype=np.uint8)
        array = np.empty(len(letters), dtype=object)
        array[:] = [row.tobytes() for row in letters]
        return array.reshape(shape)
    if slot.datatype == "BOOL":
        return random.integers(0, 2, shape).astype(bool)
    if slot.datatype.startswith(("INT", "UINT")):
        return random.integers(0, _INTEGERS_BELOW, shape).astype(slot.dtype)
    return random.random(shape, dtype=np.float32).astype(slot.dtype)


def from_file(path: str, inputs: Sequence[Slot]) -> Pool:
    """The rows in a file: ``.npz`` with an array for each input, otherwise JSON.

    Raises:
        InvalidInput: it cannot be read or does not fit the inputs.
    """
    file = Path(path).expanduser()
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as members:
                return Pool(inputs, dict(members))
        return from_json(json.loads(file.read_text(encoding="utf-8")), inputs)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}", field="data") from error
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror or error}", field="data") from error
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path} cannot be read as data: {error}", field="data") from error


def from_json(document: Any, inputs: Sequence[Slot]) -> Pool:
    """The rows of ``{"data": [{INPUT: VALUE, …}, …]}``; sequences (lists of such lists) are joined.

    VALUE is a list of elements, flat or nested, or ``{"content": […], "shape": […]}``, or
    ``{"b64": "…", "shape": […]}`` with the tensor's raw bytes. Shapes are those of one row.

    Source: perf_analyzer's documented form of real input data.

    Raises:
        InvalidInput: the document has another form, or values do not fit the inputs.
    """
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InvalidInput('JSON data has the form {"data": [{"INPUT": [...]}, ...]}', field="data")
    steps = [step for entry in entries for step in (entry if isinstance(entry, list) else [entry])]
    arrays: dict[str, Array] = {}
    for slot in inputs:
        if missing := [step for step in steps if not isinstance(step, dict) or slot.name not in step]:
            raise InvalidInput(f"an entry lacks the input {slot.name!r}: {missing[0]!r:.80}", field="data")
        values = [_value(slot, step[slot.name]) for step in steps]
        if len({value.shape for value in values}) > 1:
            raise InvalidInput(f"input {slot.name!r}: all rows must have one shape", field="data")
        arrays[slot.name] = np.stack(values) if slot.is_batched else values[0]
    return Pool(inputs, arrays)


def _value(slot: Slot, value: Any) -> Array:
    shape = slot.shape
    if isinstance(value, dict):
        shape = tuple(value.get("shape", shape))
        if "b64" in value:
            return _reshaped(slot, _from_base64(slot, value["b64"]), shape)
        value = value.get("content")
    if slot.datatype == "BYTES":
        flat = np.empty(0, dtype=object) if value is None else np.array(value, dtype=object).ravel()
        flat[:] = [item if isinstance(item, bytes) else str(item).encode() for item in flat]
        return _reshaped(slot, flat, shape)
    try:
        array = np.array(value, dtype=slot.dtype)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"input {slot.name!r}: {error}", field="data") from error
    return _reshaped(slot, array, shape)


def _from_base64(slot: Slot, text: Any) -> Array:
    try:
        raw = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidInput(
            f"input {slot.name!r}: its b64 cannot be decoded: {error}", field="data"
        ) from error
    if slot.datatype == "BYTES":
        return strings.decode(raw, strings.count(raw, field=slot.name))[0]
    if len(raw) % slot.dtype.itemsize:
        raise InvalidInput(f"input {slot.name!r}: {len(raw)} bytes are no {slot.datatype}", field="data")
    return np.frombuffer(raw, slot.dtype)


def _reshaped(slot: Slot, array: Array, shape: tuple[int, ...]) -> Array:
    if sum(extent < 0 for extent in shape) > 1:  # only the nesting of the list can tell
        return array
    try:
        return array.reshape(shape)
    except ValueError:
        raise InvalidInput(
            f"input {slot.name!r}: {array.size} elements do not fill the shape {list(shape)}", field="data"
        ) from None


def _fit(slot: Slot, array: Array) -> Array:
    """Check the extents of what a file holds, and bring it to the input's datatype."""
    found = array.shape[1:] if slot.is_batched else array.shape
    fits = len(found) == len(slot.shape) and all(
        want in {-1, have} for want, have in zip(slot.shape, found, strict=True)
    )
    if not fits or not array.size or (slot.is_batched and not array.ndim):
        rows = "[rows, …] " if slot.is_batched else ""
        raise InvalidInput(
            f"input {slot.name!r}: the data has the shape {list(array.shape)}; "
            f"wanted is {rows}{list(slot.shape)}",
            field="data",
        )
    if slot.datatype == "BYTES" or array.dtype == slot.dtype:
        return array
    return array.astype(slot.dtype)
