"""Running an onnxruntime session by its own tensor values: for bfloat16, and for devices other than the CPU.

numpy has no bfloat16 of its own and onnxruntime takes and gives none, so such tensors travel as raw memory. A
value does not keep the array alive that it was made of: each run holds its arrays until it has ended.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np

from frameworks import base
from frameworks.arrays import Array, Arrays, as_array
from store import datatypes

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise base.missing("onnxruntime", "onnx") from error

BF16: Final = "tensor(bfloat16)"
STRING: Final = "tensor(string)"

_BF16_ELEMENT_TYPE: Final = 16
"""Number of bfloat16 in ``TensorProto.DataType``. Source: onnx.proto."""


class ByValue:
    """Runs a session with values on the CPU.

    Args:
        session: an onnxruntime session.
        outputs: the graph's names of what to compute.
    """

    def __init__(self, session: Any, outputs: list[str]) -> None:
        self._session = session
        self._outputs = outputs

    def __call__(self, feeds: Arrays) -> list[Array]:
        """Return the outputs in their order."""
        values = {name: to_value(array) for name, array in feeds.items()}
        return [from_value(value) for value in self._session.run_with_ort_values(self._outputs, values)]


class Bound:
    """Runs a session with inputs and outputs bound to memory of the CPU; for GPU providers.

    onnxruntime then copies each input to the card once, and each output straight into the memory that is
    answered. Strings cannot be bound.

    Args:
        session: an onnxruntime session.
        outputs: the graph's names of what to compute.
    """

    def __init__(self, session: Any, outputs: list[str]) -> None:
        self._session = session
        self._outputs = outputs

    def __call__(self, feeds: Arrays) -> list[Array]:
        """Return the outputs in their order."""
        binding = self._session.io_binding()
        values = {name: to_value(array) for name, array in feeds.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return [from_value(value) for value in binding.get_outputs()]


def to_value(array: Array) -> Any:
    """Return the value of an array, whose memory it uses: the array must outlive it."""
    if array.dtype.name == "bfloat16":
        bits = array.view(np.uint16)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BF16_ELEMENT_TYPE)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def from_value(value: Any) -> Array:
    """Return the array of a value on the CPU; one that shares the value's memory keeps it alive."""
    if value.data_type() != BF16:
        return as_array(value.numpy())
    # onnxruntime has no numpy type for bfloat16, so its memory is copied as it is.
    array = np.empty(value.shape(), dtype=datatypes.numpy_dtype("BF16"))
    ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array
