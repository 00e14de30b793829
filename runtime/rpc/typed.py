"""Tensors in ``contents``: the typed, slow form of the protocol, next to the raw one.

Source: Open Inference Protocol v2, InferTensorContents; FP16 and BF16 exist in raw form only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from protos import open_inference_pb2 as pb
from runtime.errors import DatatypeMismatch, InvalidInput
from runtime.tensors import strings
from runtime.tensors.contents import FIELDS
from store.datatypes import numpy_dtype

_WIDEST: Final = {"i": np.dtype(np.int64), "u": np.dtype(np.uint64)}
"""By kind of numpy datatype: what holds whatever a field may hold."""


def has_contents(request: pb.ModelInferRequest) -> bool:
    """Whether any input carries its tensor in ``contents``."""
    return any([tensor.HasField("contents") for tensor in request.inputs])


def to_raw(request: pb.ModelInferRequest) -> list[bytes]:
    """The raw form of all inputs of a request that has no raw contents.

    Raises:
        DatatypeMismatch: a datatype that has no typed form, or a value that does not fit into it.
        InvalidInput: the values lie in another datatype's field.
    """
    return [_raw(tensor) for tensor in request.inputs]


def _raw(tensor: pb.ModelInferRequest.InferInputTensor) -> bytes:
    field = f"inputs[{tensor.name!r}].contents"
    name = FIELDS.get(tensor.datatype)
    if name is None:
        raise DatatypeMismatch(
            f"{field}: {tensor.datatype} can only be sent in raw_input_contents", field=field
        )
    for other, _ in tensor.contents.ListFields():
        if other.name != name:
            raise InvalidInput(
                f"{field}.{other.name} is set, {tensor.datatype} belongs into {name}", field=field
            )
    values: Sequence[Any] = getattr(tensor.contents, name)
    if tensor.datatype == "BYTES":
        return strings.encode_all(values)
    dtype = numpy_dtype(tensor.datatype)
    array = np.array(values, dtype=_WIDEST.get(dtype.kind, dtype))
    if dtype.kind in _WIDEST and array.size:  # to numpy itself, 300 as an INT8 is 44
        limits = np.iinfo(dtype.name)
        if array.min() < limits.min or array.max() > limits.max:
            raise DatatypeMismatch(f"{field}: a value does not fit into {tensor.datatype}", field=field)
    return array.astype(dtype, copy=False).tobytes()


def fill_contents(output: pb.ModelInferResponse.InferOutputTensor, raw: bytes) -> None:
    """Write a raw tensor into an output's ``contents``.

    Raises:
        DatatypeMismatch: the datatype exists in raw form only.
        ShapeMismatch: the bytes are no BYTES tensor.
    """
    name = FIELDS.get(output.datatype)
    if name is None:
        raise DatatypeMismatch(
            f"outputs[{output.name!r}]: {output.datatype} exists in raw form only: drop binary_data_output",
            field="parameters.binary_data_output",
        )
    values = getattr(output.contents, name)
    if output.datatype == "BYTES":
        elements, _ = strings.decode(raw, strings.count(raw, field=output.name))
        values.extend(elements.tolist())
    else:
        values.extend(np.frombuffer(raw, dtype=numpy_dtype(output.datatype)).tolist())
