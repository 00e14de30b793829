"""Merge, execute, check, split: what happens to batches inside a worker. No I/O, one thread.

The same code runs in a worker process and, through ``Runner.init_local``, in the caller's process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runtime.clock import Clock, now_ns
from runtime.errors import MethodNotFound, OutputMismatch
from runtime.tensors import strings
from runtime.tensors.layout import Array, Layout, LayoutTable, TensorLayout
from store import Signature
from store.datatypes import from_numpy

Method = Callable[[dict[str, Array]], dict[str, Array]]
Buffer = bytes | bytearray | memoryview


class Group(NamedTuple):
    """One batch as it came from one service: rows of each task, sizes of BYTES inputs, and the payload."""

    rows: Sequence[int]
    sizes: Sequence[int]
    payload: Buffer


class Share(NamedTuple):
    """One group's outputs, ready to be framed."""

    head: bytes
    sizes: list[int]
    parts: list[Buffer]


class Execution(NamedTuple):
    """What became of the merged batch.

    ``executed`` is the instant at which the method returned; ``rows`` what it was given.
    """

    shares: list[Share]
    rows: int
    started: int
    executed: int


class Executor:
    """Calls a model's methods on merged batches.

    Args:
        methods: one callable per method, arrays by name in and out.
        signatures: what each method promises.
        clock: monotonic nanoseconds.
    """

    def __init__(
        self, methods: Mapping[str, Method], signatures: Mapping[str, Signature], *, clock: Clock = now_ns
    ) -> None:
        self._methods = methods
        self._signatures = signatures
        self._clock = clock
        self.layouts = LayoutTable()
        self._heads: dict[tuple[object, ...], bytes] = {}

    def execute(self, head: bytes, groups: Sequence[Group]) -> Execution:
        """Run groups of one batch key as one call of the method.

        Raises:
            OutputMismatch: the method returned other rows, names or datatypes than it should.
            Exception: whatever the method raised.
        """
        layout = self.layouts[head]
        method = self._methods.get(layout.method)
        if method is None:
            raise MethodNotFound(f"the model has no method {layout.method!r}", field="method")
        rows = [row for group in groups for row in group.rows]
        total = sum(rows)
        inputs = {
            tensor.name: _merge(layout, index, groups, total) for index, tensor in enumerate(layout.tensors)
        }
        started = self._clock()
        outputs = method(inputs)
        executed = self._clock()
        del inputs
        arrays = {name: _as_array(value) for name, value in outputs.items()}
        answer = self._describe(layout, arrays, total)
        return Execution(_split(layout, answer, arrays, groups), total, started, executed)

    def _describe(self, layout: Layout, arrays: Mapping[str, Array], total: int) -> bytes:
        """The head of the outputs, after checking them against the signature and the rows given."""
        key = (layout, total, *[(name, array.dtype.str, array.shape) for name, array in arrays.items()])
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= 4096:
                self._heads.clear()
            tensors = tuple(_output(layout, name, array, total) for name, array in arrays.items())
            _check_promise(self._signatures[layout.method], tensors, layout.method)
            head = self._heads[key] = Layout("", layout.axes, tensors).encode()
        return head


# -- merging ----------------------------------------------------------------------------------------


def _merge(layout: Layout, index: int, groups: Sequence[Group], total: int) -> Array:
    """One input of all groups, along the batch axis."""
    if len(groups) == 1:
        pieces = _pieces(layout, index, groups[0])
    else:
        pieces = [piece for group in groups for piece in _pieces(layout, index, group)]
    if len(pieces) == 1:
        return pieces[0]
    axis = layout.axes[0] if layout.axes else 0
    return np.concatenate(pieces, axis=axis)


def _pieces(layout: Layout, index: int, group: Group) -> list[Array]:
    """One input of one group: one array where the bytes lie as they must, else one per task."""
    tensor = layout.tensors[index]
    start, sizes = _locate(layout, index, group)
    if not layout.axes or layout.axes[0] == 0:
        return [_view(tensor, group.payload, start, sum(sizes), sum(group.rows))]
    pieces = []
    for rows, size in zip(group.rows, sizes, strict=True):
        pieces.append(_view(tensor, group.payload, start, size, rows))
        start += size
    return pieces


def _locate(layout: Layout, index: int, group: Group) -> tuple[int, list[int]]:
    """Where an input begins in a group's payload, and the bytes of each task's part of it."""
    start = 0
    variable = 0
    tasks = len(group.rows)
    for position, tensor in enumerate(layout.tensors):
        if tensor.variable:
            sizes = list(group.sizes[variable * tasks : (variable + 1) * tasks])
            variable += 1
        else:
            sizes = [tensor.row_bytes * rows for rows in group.rows]
        if position == index:
            return start, sizes
        start += sum(sizes)
    raise IndexError(index)


def _view(tensor: TensorLayout, payload: Buffer, start: int, size: int, rows: int) -> Array:
    """An array over a stretch of the payload; a copy only where the bytes must be unpacked or aligned."""
    shape = tensor.shape(rows)
    if tensor.variable:
        flat, _ = strings.decode(
            memoryview(payload)[start : start + size], tensor.row_elements() * _rows(tensor, rows)
        )
        return flat.reshape(shape)
    if not size:
        return np.empty(shape, dtype=tensor.dtype)
    dtype = tensor.dtype
    array: Array = np.frombuffer(payload, dtype=dtype, count=size // dtype.itemsize, offset=start)
    if start % dtype.itemsize:
        array = array.copy()
    return array.reshape(shape)


def _rows(tensor: TensorLayout, rows: int) -> int:
    return rows if -1 in tensor.dims else 1


# -- checking ---------------------------------------------------------------------------------------


def _as_array(value: object) -> Array:
    """A contiguous array in the machine's byte order."""
    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _output(layout: Layout, name: str, array: Array, total: int) -> TensorLayout:
    """Describe one output.

    Raises:
        OutputMismatch: its rows are not those of the batch, or its datatype has no wire form.
    """
    try:
        datatype = from_numpy(array.dtype)
    except Exception as error:
        raise OutputMismatch(
            f"output {name!r} has datatype {array.dtype}, which has no wire form", field=name
        ) from error
    dims = list(array.shape)
    if layout.axes:
        axis = layout.axes[1]
        if axis >= len(dims) or dims[axis] != total:
            found = f"{dims[axis]} rows" if axis < len(dims) else f"rank {len(dims)}"
            raise OutputMismatch(
                f"method {layout.method!r} was given {total} rows and returned {found} along axis {axis} "
                f"of output {name!r} {tuple(dims)}",
                field=name,
            )
        dims[axis] = -1
    return TensorLayout.of(name, datatype, dims)


def _check_promise(signature: Signature, tensors: Sequence[TensorLayout], method: str) -> None:
    """Compare outputs with the specs of the signature, if it has some.

    Raises:
        OutputMismatch: another name, datatype or shape than promised.
    """
    if signature.outputs is None:
        return
    found = {tensor.name: tensor for tensor in tensors}
    for spec in signature.outputs:
        tensor = found.get(spec.name)
        if tensor is None:
            raise OutputMismatch(
                f"method {method!r} did not return its output {spec.name!r}", field=spec.name
            )
        fits = len(tensor.dims) == len(spec.shape) and all(
            want in (-1, have) or have == -1 for have, want in zip(tensor.dims, spec.shape, strict=True)
        )
        if tensor.datatype != spec.datatype or not fits:
            raise OutputMismatch(
                f"method {method!r} returned {tensor.datatype} {tensor.dims} as {spec.name!r}, "
                f"its signature says {spec.datatype} {spec.shape}",
                field=spec.name,
            )


# -- splitting --------------------------------------------------------------------------------------


def _split(layout: Layout, head: bytes, arrays: Mapping[str, Array], groups: Sequence[Group]) -> list[Share]:
    """Cut the outputs along the output axis into the groups' shares."""
    shares: list[Share] = []
    begin = 0
    for group in groups:
        end = begin + sum(group.rows)
        share = Share(head, [], [])
        for array in arrays.values():
            _cut(layout, array, begin, end, group.rows, share)
        shares.append(share)
        begin = end
    return shares


def _cut(layout: Layout, array: Array, begin: int, end: int, rows: Sequence[int], share: Share) -> None:
    """Append one output's rows ``begin`` to ``end`` to a share, in wire form and task by task."""
    text = array.dtype.kind in "OSUT"
    if layout.axes is None:
        _append(array, text, share)
        return
    axis = layout.axes[1]
    if axis == 0 and not text:
        part = array[begin:end]
        share.parts.append(_buffer(part))
        return
    for count in rows:
        index = (slice(None),) * axis + (slice(begin, begin + count),)
        _append(array[index], text, share)
        begin += count


def _append(array: Array, text: bool, share: Share) -> None:
    if text:
        data = strings.encode(array)
        share.sizes.append(len(data))
        share.parts.append(data)
    else:
        share.parts.append(_buffer(array))


def _buffer(array: Array) -> Buffer:
    """The bytes of an array without a copy where it lies contiguous."""
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8).data
