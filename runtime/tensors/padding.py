"""Pads a request's tensors to the extents of their buckets, and crops the outputs again. Wire form, no I/O.

It happens once, before a task is queued, so that everything behind sees requests of equal shapes: the batch
key is that of the bucket. What is padded, with what and how far, a signature says (``store.padding``). What
that means for requests of one head is found out once, in a :class:`Padder`; only filling the tensors is left
for each call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from runtime.errors import DatatypeMismatch, InvalidInput, OutputMismatch, ShapeMismatch, TaskTooLarge
from runtime.tensors import strings
from runtime.tensors.layout import Array, Layout, TensorLayout
from store import Signature
from store.datatypes import itemsize
from store.padding import Axes, Padding, Scalar, fits

Buffer = bytes | bytearray | memoryview

MASK_DATATYPE: Final = "INT64"
"""Of a mask of which the signature has no spec."""

_MADE: Final = -1
_LENGTH_BYTES: Final = 4


class Crop(NamedTuple):
    """An output comes with the bucket's extent along an axis and is answered with the request's own."""

    axis: int
    bucket: int
    extent: int


class Padder:
    """Pads the requests of one head.

    Args:
        signature: with paddings, of a batchable method.
        tensors: of the request, in its order, with their own extents; all with equally many rows.
        order: for each tensor of a batch its position in the request, without the masks that were not sent.
        max_bytes: most bytes of one padded request: a few bytes can ask for many.

    Attributes:
        tensors: what the tasks have: padded, in the order of the signature, masks included.
        crops: by name of output.

    Raises:
        InvalidInput: an input to be padded is missing.
        ShapeMismatch: an extent is beyond the last bucket, or not that of the inputs padded with it.
        DatatypeMismatch: what an input is padded with does not exist in its datatype.
        TaskTooLarge: the padded tensors have more bytes than that.
    """

    __slots__ = ("_steps", "crops", "tensors")

    def __init__(
        self, signature: Signature, tensors: Sequence[TensorLayout], order: Sequence[int], *, max_bytes: int
    ) -> None:
        axis = signature.batch_dim[0]
        drafts = _drafts(signature, tensors, order)
        self.crops: dict[str, list[Crop]] = {}
        for padding in signature.padding:
            extent, bucket = _extents(padding, drafts, axis)
            for name, along in padding.inputs:
                drafts[name].dims[along] = bucket
                drafts[name].value = padding.value(name)
            if padding.mask is not None:
                drafts[padding.mask].stretch(1 - axis, extent, bucket)
            for name, along in padding.outputs:
                self.crops.setdefault(name, []).append(Crop(along, bucket, extent))
        _check_bytes(drafts, max_bytes)
        self._steps = [draft.step() for draft in drafts.values()]
        self.tensors = [step.tensor for step in self._steps]

    def pad(self, raws: Sequence[Buffer]) -> list[Buffer]:
        """The tensors of a task, from those of a request, which have the sizes that its head says."""
        return [raws[step.source] if step.is_whole else _fill(step, raws) for step in self._steps]


def cropped(layout: Layout, crops: Mapping[str, Sequence[Crop]]) -> list[TensorLayout]:
    """The outputs of a batch as one of its requests is answered with them.

    Raises:
        OutputMismatch: an output does not have the extent that its inputs were padded to.
    """
    tensors = {tensor.name: tensor for tensor in layout.tensors}
    for name, each in crops.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise OutputMismatch(f"the model did not return {name!r}, which its padding names", field=name)
        dims = list(tensor.dims)
        for axis, bucket, extent in each:
            if axis >= len(dims) or dims[axis] != bucket:
                raise OutputMismatch(
                    f"the inputs were padded to {bucket}, so its padding promises as many along axis {axis} "
                    f"of output {name!r}; the model returned {tensor.dims}",
                    field=name,
                )
            dims[axis] = extent
        tensors[name] = TensorLayout.of(name, tensor.datatype, dims)
    return list(tensors.values())


def crop(tensor: TensorLayout, data: Buffer, shape: Sequence[int], kept: Sequence[int]) -> Buffer:
    """The first ``kept`` elements along each axis of a tensor of this shape."""
    if kept == shape:
        return data
    part = _array(tensor, data, shape)[tuple([slice(extent) for extent in kept])]
    return strings.encode(part) if tensor.variable else part.tobytes()


# -- once for each head -----------------------------------------------------------------------------


class _Step(NamedTuple):
    """How one tensor of a task is made: from one of the request, or as a mask.

    ``own`` are its extents in the request (of a mask: of its part that is 1), ``tensor`` has those of the
    bucket. ``is_whole`` if nothing is to be done.
    """

    tensor: TensorLayout
    source: int
    own: tuple[int, ...]
    value: int | float | bytes
    is_whole: bool


class _Draft:
    """What becomes a step."""

    __slots__ = ("datatype", "dims", "name", "own", "source", "value")

    def __init__(self, name: str, datatype: str, dims: Sequence[int], source: int) -> None:
        self.name = name
        self.datatype = datatype
        self.own = tuple(dims)
        self.dims = list(dims)
        self.source = source
        self.value: Scalar = 0

    def stretch(self, axis: int, extent: int, bucket: int) -> None:
        """Give a mask its extents."""
        self.dims[axis] = bucket
        if self.source == _MADE:
            self.own = (*self.own[:axis], extent, *self.own[axis + 1 :])

    def step(self) -> _Step:
        """The step.

        Raises:
            DatatypeMismatch: the value does not exist in the datatype.
        """
        value = self.value
        if not fits(value, self.datatype):
            field = f"inputs[{self.name!r}].datatype"
            raise DatatypeMismatch(
                f"{field}: the model pads it with {value!r}, which {self.datatype} cannot hold", field=field
            )
        is_text = self.datatype == "BYTES"
        return _Step(
            TensorLayout.of(self.name, self.datatype, self.dims),
            self.source,
            self.own,
            str(value or "").encode() if is_text or isinstance(value, str) else value,
            self.source != _MADE and self.own == tuple(self.dims),
        )


def _drafts(signature: Signature, tensors: Sequence[TensorLayout], order: Sequence[int]) -> dict[str, _Draft]:
    """The tensors of a task in their order: the signature's, or the request's with made masks behind."""
    sent = {
        tensors[position].name: _Draft(
            tensors[position].name, tensors[position].datatype, tensors[position].dims, position
        )
        for position in order
    }
    axis = signature.batch_dim[0]
    rows = tensors[0].dims[axis]
    specs = {spec.name: spec.datatype for spec in signature.inputs or ()}
    for name in sorted(signature.masks - sent.keys()):
        sent[name] = _Draft(name, specs.get(name, MASK_DATATYPE), [0, rows] if axis else [rows, 0], _MADE)
    return {name: sent[name] for name in specs or sent}


def _extents(padding: Padding, drafts: Mapping[str, _Draft], batch_axis: int) -> tuple[int, int]:
    """The extent of a request along the axes of a padding, the same in all inputs, and its bucket."""
    axes: Axes = padding.inputs
    if padding.mask is not None and drafts[padding.mask].source != _MADE:
        axes = (*axes, (padding.mask, 1 - batch_axis))
    first, extent = axes[0][0], -1
    for name, axis in axes:
        field = f"inputs[{name!r}].shape"
        if name not in drafts:
            raise InvalidInput(f"input {name!r} is missing", field=f"inputs[{name!r}]")
        own = drafts[name].own
        if len(own) <= axis:
            raise ShapeMismatch(
                f"{field}: shape {list(own)} has no axis {axis}, which is padded", field=field
            )
        if extent not in (-1, own[axis]):
            raise ShapeMismatch(
                f"{field}: {own[axis]} along axis {axis}, but {first!r} has {extent}", field=field
            )
        extent = own[axis]
    bucket = padding.bucket(extent)
    if bucket < 0:
        field = f"inputs[{first!r}].shape"
        raise ShapeMismatch(
            f"{field}: {extent} along axis {axes[0][1]}, the model takes at most {padding.buckets[-1]}",
            field=field,
        )
    return extent, bucket


def _check_bytes(drafts: Mapping[str, _Draft], limit: int) -> None:
    """Extents of 0 count as 1, so that no array is asked for that numpy refuses, though it be empty."""
    size = sum(
        (itemsize(draft.datatype) or _LENGTH_BYTES) * math.prod(dim or 1 for dim in draft.dims)
        for draft in drafts.values()
    )
    if size > limit:
        raise TaskTooLarge(
            f"padded, the request has {size} bytes, a batch holds at most {limit}: send fewer rows",
            field="inputs",
        )


# -- each time --------------------------------------------------------------------------------------


def _fill(step: _Step, raws: Sequence[Buffer]) -> Buffer:
    tensor = step.tensor
    array: Array = np.empty(tensor.dims, tensor.dtype)
    array.fill(step.value)
    inside = tuple([slice(extent) for extent in step.own])
    array[inside] = 1 if step.source == _MADE else _array(tensor, raws[step.source], step.own)
    return strings.encode(array) if tensor.variable else array.reshape(-1).view(np.uint8).data


def _array(tensor: TensorLayout, data: Buffer, shape: Sequence[int]) -> Array:
    """The array that bytes of a tensor hold."""
    if not len(data):
        return np.empty(shape, tensor.dtype)
    if tensor.variable:
        return strings.decode(data, math.prod(shape))[0].reshape(shape)
    array: Array = np.frombuffer(data, tensor.dtype)
    return array.reshape(shape)
