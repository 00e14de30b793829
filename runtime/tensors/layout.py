"""The shape of a batch: which tensors it has, of which datatype, and which axis is the batch axis.

A layout is written once into a frame's head and parsed once per process: equal heads are equal layouts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.tensors.heads import HeadTable
from store.datatypes import itemsize, numpy_dtype

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """One tensor of a batch.

    Attributes:
        name: as on the wire.
        datatype: Open Inference Protocol name.
        dims: the extents, -1 at the batch axis if there is one.
        row_bytes: bytes of one row in wire form (of the whole tensor without a batch axis), 0 for BYTES.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    row_bytes: int

    @classmethod
    def of(cls, name: str, datatype: str, dims: Sequence[int]) -> TensorLayout:
        """Describe a tensor; ``dims`` has -1 at most once."""
        fixed = math.prod(dim for dim in dims if dim >= 0)
        return cls(name, datatype, tuple(dims), itemsize(datatype) * fixed)

    @property
    def variable(self) -> bool:
        """Whether the bytes of a row depend on its content."""
        return self.datatype == "BYTES"

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy datatype of an array that holds it."""
        return numpy_dtype(self.datatype)

    def shape(self, rows: int) -> tuple[int, ...]:
        """The extents of ``rows`` rows."""
        return tuple([rows if dim < 0 else dim for dim in self.dims])

    def row_elements(self) -> int:
        """Elements of one row (of the whole tensor without a batch axis)."""
        return math.prod(dim for dim in self.dims if dim >= 0)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """All tensors on one side of a call. Compared by identity: whoever decodes heads keeps one for each.

    Attributes:
        method: the method called; empty for outputs.
        axes: (input, output) batch axes, None where requests are not merged.
        tensors: in wire order.
    """

    method: str
    axes: tuple[int, int] | None
    tensors: tuple[TensorLayout, ...]

    def encode(self) -> bytes:
        """The frame head."""
        tensors = [[tensor.name, tensor.datatype, tensor.dims] for tensor in self.tensors]
        return json.dumps([self.method, self.axes, tensors], separators=(",", ":")).encode()

    @classmethod
    def decode(cls, head: bytes) -> Layout:
        """The layout that :meth:`encode` wrote."""
        method, axes, tensors = json.loads(head)
        return cls(
            method,
            tuple(axes) if axes is not None else None,
            tuple(TensorLayout.of(name, datatype, dims) for name, datatype, dims in tensors),
        )


class LayoutTable:
    """Gives the identical layout for equal heads, as long as they are kept; see ``HeadTable``."""

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table: HeadTable[Layout] = HeadTable()

    def __getitem__(self, head: bytes) -> Layout:
        layout = self._table.get(head)
        return self._table.keep(head, Layout.decode(head)) if layout is None else layout
