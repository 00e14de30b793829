"""numpy and TensorFlow: specs and values across the border without change.

BYTES are ``tf.string`` both ways. Results are views of TensorFlow's memory (CPU). Inputs are lent to
TensorFlow where they can be, and copied otherwise.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from frameworks.arrays import Array
from frameworks.errors import InvalidModel, UnsupportedInput
from frameworks.tf.library import tf
from store import TensorSpec, datatypes
from store.signature import DYNAMIC

_ALIGNMENT: Final = 64
"""Bytes. Source: ``Allocator::kAllocatorAlignment``; TensorFlow aborts the process on other addresses."""

_KEEPERS: Final = re.compile("Assign|Enqueue|Insert|Import|Stage|Push")
"""Operators that may hold a tensor, not its copy, after the call: variables, queues, tables."""


def _dtypes() -> dict[str, Any]:
    found = {name: tf.as_dtype(datatypes.numpy_dtype(name)) for name in datatypes.NAMES if name != "BYTES"}
    return {**found, "BYTES": tf.string}


DTYPES: Final[Mapping[str, Any]] = _dtypes()
"""Datatype to ``tf.DType``."""

_DATATYPES: Final = {dtype: name for name, dtype in DTYPES.items()}


def read_spec(name: str, value: Any) -> TensorSpec | None:
    """Return the spec of a ``tf.TensorSpec`` or a tensor under a name; None when its rank is unknown.

    Raises:
        InvalidModel: it is ragged or sparse, or of a type that no datatype holds.
    """
    if not isinstance(value, tf.TensorSpec | tf.Tensor):
        raise InvalidModel(
            f"tensor {name!r} is a {type(value).__name__}; take and return plain tensors (a ragged one has "
            "to_tensor, a sparse one tf.sparse.to_dense)",
            field=name,
        )
    if value.dtype not in _DATATYPES:
        raise InvalidModel(
            f"tensor {name!r} is {value.dtype.name}, for which there is no datatype; cast it in the model",
            field=name,
        )
    if value.shape.rank is None:
        return None
    shape = tuple(DYNAMIC if size is None else size for size in value.shape.as_list())
    return TensorSpec(name, _DATATYPES[value.dtype], shape)


def tensor_spec(spec: TensorSpec, name: str | None = None) -> Any:
    """Return TensorFlow's form of a spec, under its own name or another."""
    shape = [None if size == DYNAMIC else size for size in spec.shape]
    return tf.TensorSpec(shape, DTYPES[spec.datatype], name=name or spec.name)


def keeps_inputs(function: Any) -> bool:
    """Return whether a concrete function may still refer to its inputs after a call."""
    try:
        definition = function.graph.as_graph_def()
    except ValueError:  # constants of more than 2 GB
        return True
    nodes = itertools.chain(definition.node, *(inner.node_def for inner in definition.library.function))
    return any(_KEEPERS.search(node.op) for node in nodes)


def to_tensor(name: str, array: Array, dtype: Any, *, lend: bool) -> Any:
    """Return the tensor of an array.

    Args:
        name: of the input, for errors.
        array: what a caller sent.
        dtype: what the model takes.
        lend: share the array's memory where TensorFlow can use it; it must not change while in use.

    Raises:
        UnsupportedInput: the array is of another datatype, which TensorFlow would cast or misread.
    """
    expected = np.dtype(object) if dtype == tf.string else dtype.as_numpy_dtype
    if array.dtype != expected:
        raise UnsupportedInput(
            f"input {name!r} is {datatypes.from_numpy(array.dtype)}; the model takes {_DATATYPES[dtype]}",
            field=name,
        )
    if (
        lend
        and array.flags.c_contiguous
        and array.flags.writeable  # numpy lends nothing else
        and array.ctypes.data % _ALIGNMENT == 0
        and array.dtype.kind in "biuf"  # not bfloat16, which numpy calls void
    ):
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array, dtype=dtype)
