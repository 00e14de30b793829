"""The arguments of a call made in Python: bound to the signature's inputs, cast, and brought into wire form.

Values with a datatype of their own (arrays, tensors) are never cast: the model would see something else than
the caller has. Values without one (lists, numbers, text) take that of the input's spec, where they fit.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from frameworks.arrays import as_array
from frameworks.errors import FrameworkError
from runtime.batching.limits import Limits
from runtime.errors import DatatypeMismatch, InvalidInput, ShapeMismatch
from runtime.tensors import strings
from runtime.tensors.layout import Array, Layout, TensorLayout
from runtime.tensors.padding import Buffer, Crop, Padder
from store import Signature, TensorSpec
from store.datatypes import from_numpy, numpy_dtype

MAX_PADDED_BYTES: Final = Limits().max_batch_bytes
"""As of a batch that is served."""


class Encoded(NamedTuple):
    """A call in wire form: the frame head, rows, bytes of each BYTES input, and the writable payload.

    ``crops`` says what of each output is there only because the inputs were padded.
    """

    head: bytes
    rows: int
    sizes: list[int]
    payload: bytearray
    crops: Mapping[str, Sequence[Crop]]


def bind(signature: Signature, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Array]:
    """Return the inputs by name, in the signature's order.

    Raises:
        InvalidInput: an input is missing, unknown, given twice or no tensor.
        DatatypeMismatch, ShapeMismatch: an input is not what its spec says.
    """
    if not args and not kwargs:
        raise InvalidInput("the call has no inputs")
    if signature.inputs is None:
        return _bind_freely(args, kwargs)
    specs = {spec.name: spec for spec in signature.inputs}
    if len(args) > len(specs):
        raise InvalidInput(f"{len(args)} inputs are given by position; the inputs are {', '.join(specs)}")
    given = dict(zip(specs, args, strict=False))
    for name, value in kwargs.items():
        if name not in specs:
            raise InvalidInput(f"unexpected input {name!r}; the inputs are {', '.join(specs)}", field=name)
        if name in given:
            raise InvalidInput(f"input {name!r} is given by position and by name", field=name)
        given[name] = value
    for name in specs:
        if name not in given and name not in signature.masks:
            raise InvalidInput(f"input {name!r} is missing; the inputs are {', '.join(specs)}", field=name)
    return {name: _fit(given[name], spec) for name, spec in specs.items() if name in given}


def encode(method: str, signature: Signature, tensors: Mapping[str, Array]) -> Encoded:
    """Bring named arrays into wire form, padded as a service process would.

    Raises:
        ShapeMismatch: an input has no batch axis, the inputs have different numbers of rows, or one cannot be
            padded.
    """
    axes = signature.batch_dim if signature.batchable else None
    rows = _rows(tensors, axes[0]) if axes else 1
    layouts = [TensorLayout.of(name, from_numpy(array.dtype), array.shape) for name, array in tensors.items()]
    parts: list[Buffer] = [
        strings.encode(array) if layout.variable else array.reshape(-1).view(np.uint8).data
        for layout, array in zip(layouts, tensors.values(), strict=True)
    ]
    crops: Mapping[str, Sequence[Crop]] = {}
    if signature.padding:
        padder = Padder(signature, layouts, range(len(layouts)), max_bytes=MAX_PADDED_BYTES)
        layouts, parts, crops = padder.tensors, padder.pad(parts), padder.crops
    sizes = [len(part) for layout, part in zip(layouts, parts, strict=True) if layout.variable]
    return Encoded(_head(method, axes, layouts), rows, sizes, bytearray().join(parts), crops)


def _head(method: str, axes: tuple[int, int] | None, layouts: Sequence[TensorLayout]) -> bytes:
    opened = [
        TensorLayout.of(
            layout.name,
            layout.datatype,
            [-1 if axes and axis == axes[0] else extent for axis, extent in enumerate(layout.dims)],
        )
        for layout in layouts
    ]
    return Layout(method, axes, tuple(opened)).encode()


def from_bytes(data: bytearray, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """Return a writable array over raw bytes."""
    if not data:
        return np.empty(shape, dtype)
    array: Array = np.frombuffer(data, dtype=dtype)
    return array.reshape(shape)


def cast(array: Array, datatype: str, name: str) -> Array:
    """Return the values in another datatype.

    Raises:
        DatatypeMismatch: some value does not exist in it; nothing is ever rounded to a whole number, wrapped
            around or turned into infinity.
    """
    dtype = numpy_dtype(datatype)
    if array.dtype == dtype:
        return array
    if not array.size:
        return array.astype(dtype)
    if "O" in (dtype.kind, array.dtype.kind) or not _exists_in(array, dtype):
        found = from_numpy(array.dtype)
        raise DatatypeMismatch(f"input {name!r}: {found} values do not fit into {datatype}", field=name)
    return array.astype(dtype)


def _exists_in(array: Array, dtype: np.dtype[Any]) -> bool:
    """Return whether every value of a numeric array has a counterpart in a numeric datatype."""
    values: Any = array
    if dtype.kind == "b":
        return bool(np.isin(values, (0, 1)).all())
    if dtype.kind in "iu":
        if array.dtype.kind not in "biu" and not (np.isfinite(values) & (values == np.trunc(values))).all():
            return False
        limits = np.iinfo(dtype)
        return limits.min <= int(values.min()) and int(values.max()) <= limits.max
    with np.errstate(over="ignore"):
        narrow: Any = array.astype(dtype)
    return bool((np.isfinite(narrow.astype(np.float64)) | ~np.isfinite(values.astype(np.float64))).all())


def _bind_freely(args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Array]:
    """Name the inputs of a method that has no specs."""
    if args and kwargs:
        # adapters call by keyword or by position: a mixture could end up with the wrong parameters
        raise InvalidInput("the method has no input specs: give all inputs by position, or all by name")
    named = kwargs or {f"input_{index}": value for index, value in enumerate(args)}
    return {name: to_array(value, name) for name, value in named.items()}


def to_array(value: object, name: str) -> Array:
    """Return a contiguous array with the value's own datatype; BYTES are objects of ``bytes``.

    Raises:
        InvalidInput: it is no tensor.
    """
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            from frameworks.pt.tensors import to_array as tensor_to_array

            return tensor_to_array(value)
        return as_array(value)
    except FrameworkError as error:
        raise InvalidInput(f"input {name!r}: {error.message}", field=name) from error


def _fit(value: object, spec: TensorSpec) -> Array:
    array = to_array(value, spec.name)
    found = from_numpy(array.dtype)
    if found != spec.datatype:
        if hasattr(value, "dtype"):
            raise DatatypeMismatch(
                f"input {spec.name!r} is {found}, the model takes {spec.datatype}: cast it", field=spec.name
            )
        array = cast(array, spec.datatype, spec.name)
    pairs = zip(array.shape, spec.shape, strict=False)
    if array.ndim != len(spec.shape) or any(want not in (-1, have) for have, want in pairs):
        raise ShapeMismatch(
            f"input {spec.name!r} has shape {list(array.shape)}, the model takes {list(spec.shape)} "
            "(-1 is any size)",
            field=spec.name,
        )
    return array


def _rows(tensors: Mapping[str, Array], axis: int) -> int:
    rows: dict[str, int] = {}
    for name, array in tensors.items():
        if array.ndim <= axis:
            raise ShapeMismatch(
                f"input {name!r} has shape {list(array.shape)} and no batch axis {axis}: "
                "give [1, ...] for one row",
                field=name,
            )
        rows[name] = array.shape[axis]
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name}: {count}" for name, count in rows.items())
        raise ShapeMismatch(f"the inputs have different numbers of rows ({counts})", field=next(iter(rows)))
    return next(iter(rows.values()))
