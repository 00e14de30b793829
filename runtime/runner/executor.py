"""Merge, pad, execute, check, split: what happens to batches inside a worker. No I/O, one thread.

The same code runs in a worker process and, through ``Runner.init_local``, in the caller's process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from frameworks.row_errors import Answer, RowErrors
from runtime.clock import Clock, now_ns
from runtime.errors import MethodNotFound, OutputMismatch
from runtime.runner.merging import Group, merge, without_skipped
from runtime.runner.splitting import Share, refuse, split, split_without
from runtime.tensors.layout import Array, Layout, LayoutTable, TensorLayout
from store import Signature
from store.datatypes import from_numpy

Method = Callable[[dict[str, Array]], Answer]


class Execution(NamedTuple):
    """What became of the merged batch.

    ``rows`` belong to tasks, ``padded`` is what the method was given; ``executed`` is the instant at which it
    returned.
    """

    shares: list[Share]
    rows: int
    padded: int
    started: int
    executed: int


_NO_OUTPUTS: Final = Layout("", None, ()).encode()


class Executor:
    """Calls a model's methods on merged batches.

    Args:
        methods: one callable per method, arrays by name in and out.
        signatures: what each method promises.
        allowed_batch_sizes: rows, ascending; batches of other sizes are padded to the next one with copies
            of their last row. A batch of more than the largest runs as it is. None given: nothing is padded.
        clock: monotonic nanoseconds.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        signatures: Mapping[str, Signature],
        *,
        allowed_batch_sizes: Sequence[int] = (),
        clock: Clock = now_ns,
    ) -> None:
        self._methods = methods
        self._sizes = allowed_batch_sizes
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
        merged = without_skipped(layout, groups)
        total = sum([sum(group.rows) for group in merged])
        padded = self._padded(total) if self._sizes and layout.axes else total
        inputs = merge(layout, merged, padded - total)
        started = self._clock()
        outputs = method(inputs)
        executed = self._clock()
        del inputs
        if merged is not groups or isinstance(outputs, RowErrors):
            shares = self._answer_some(layout, outputs, groups, padded)
        else:
            arrays = {name: _as_array(value) for name, value in outputs.items()}
            shares = split(layout, self._describe(layout, arrays, padded), arrays, groups)
        return Execution(shares, total, padded, started, executed)

    def _padded(self, rows: int) -> int:
        """The size at which so many rows are executed; without a row there is nothing to pad with."""
        at = bisect_left(self._sizes, rows)
        return self._sizes[at] if rows and at < len(self._sizes) else rows

    def _answer_some(
        self, layout: Layout, outputs: Answer, groups: Sequence[Group], padded: int
    ) -> list[Share]:
        """The shares where some tasks were skipped or failed by themselves."""
        errors: Mapping[int, str] = {}
        if isinstance(outputs, RowErrors):
            errors, outputs = outputs.errors, outputs.outputs or {}
        refused = refuse(layout, groups, errors, padded)
        if all(len(left_out) == len(group.rows) for group, left_out in zip(groups, refused, strict=True)):
            return split_without(layout, _NO_OUTPUTS, {}, groups, refused)
        if errors and not outputs:
            raise OutputMismatch(
                f"method {layout.method!r} was given {padded} rows and returned no outputs, but errors for "
                f"{len(errors)} rows only"
            )
        arrays = {name: _as_array(value) for name, value in outputs.items()}
        return split_without(layout, self._describe(layout, arrays, padded), arrays, groups, refused)

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
