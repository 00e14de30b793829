"""One tensor between numpy and the wire.

Tensors travel as raw bytes: little-endian, row-major, without padding. Arrays in that form already
are sent from where they are. Received tensors are views of the response when it happens to hold
them at an aligned address, and copies when not: an unaligned array is legal in numpy but slow, and
much of what arrays are handed to does not expect it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from runtime.client.errors import bad_response
from runtime.errors import DatatypeMismatch, InvalidInput
from runtime.tensors import strings
from runtime.tensors.contents import FIELDS
from store import datatypes
from store.errors import UnknownDatatype

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from protos.open_inference_pb2 import InferTensorContents

MAX_BYTES: Final = (1 << 31) - (1 << 16)
"""protobuf parses no message of 2 GiB; some room is left for names and shapes."""

_TEXT: Final = frozenset({bytes, str, np.bytes_, np.str_})


class Encoded(NamedTuple):
    """A tensor ready to send; ``data`` may share memory with the caller's array."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def encode(name: str, value: ArrayLike) -> Encoded:
    """Bring an input into wire form.

    Raises:
        InvalidInput: ``value`` is too large, or not an array, as with rows of different lengths.
        DatatypeMismatch: the protocol has no datatype for its elements.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidInput(f"input {name!r} is not an array: {error}", field=name) from error
    if array.dtype.kind in "OSTU":
        return Encoded("BYTES", array.shape, _encode_text(name, array))
    try:
        datatype = datatypes.from_numpy(array.dtype)
    except UnknownDatatype as error:
        raise DatatypeMismatch(f"input {name!r}: {error}", field=name) from error
    if array.nbytes > MAX_BYTES:  # before it is copied
        raise InvalidInput(
            f"input {name!r} has {array.nbytes} bytes; at most {MAX_BYTES} can be sent", field=name
        )
    return Encoded(datatype, array.shape, _raw(array))


def _encode_text(name: str, array: NDArray[Any]) -> bytes:
    items = array.ravel().tolist()
    if other := set(map(type, items)) - _TEXT:
        kinds = ", ".join(sorted(kind.__name__ for kind in other))
        raise DatatypeMismatch(f"input {name!r}: elements must be str or bytes, some are {kinds}", field=name)
    return strings.encode_all(items)


def _raw(array: NDArray[Any]) -> memoryview:
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    # The way over uint8 is for datatypes that the buffer protocol does not know, such as bfloat16.
    return np.ravel(array).view(np.uint8).data


def decode(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> NDArray[Any]:
    """Make an array of an output in wire form.

    Raises:
        RpcFailed: datatype, shape and bytes do not fit together (INTERNAL).
    """
    elements = _elements(name, shape)
    if datatype == "BYTES":
        return _decode_text(name, shape, elements, data)
    dtype = _dtype(name, datatype)
    if elements * dtype.itemsize != len(data):
        raise bad_response(f"output {name!r} is {datatype}{list(shape)} but has {len(data)} bytes")
    if not elements:
        return _frozen(np.empty(shape, dtype))
    array = np.frombuffer(data, dtype)
    if not array.flags.aligned:
        array = array.copy()
    return _frozen(array.reshape(shape))


def decode_typed(
    name: str, datatype: str, shape: Sequence[int], contents: InferTensorContents
) -> NDArray[Any]:
    """Make an array of an output whose elements came one by one, as some servers send them.

    Raises:
        RpcFailed: datatype, shape and elements do not fit together (INTERNAL).
    """
    if datatype not in FIELDS:
        raise bad_response(f"output {name!r}: {datatype} must be sent as raw bytes")
    items = getattr(contents, FIELDS[datatype])
    if len(items) != _elements(name, shape):
        raise bad_response(f"output {name!r} has shape {list(shape)} but {len(items)} elements")
    array = np.empty(len(items), _dtype(name, datatype))
    array[:] = items
    return _frozen(array.reshape(shape))


def _decode_text(name: str, shape: Sequence[int], elements: int, data: memoryview) -> NDArray[Any]:
    if 4 * elements > len(data):  # before room is made for what cannot be there
        raise bad_response(f"output {name!r} has the shape {list(shape)} but only {len(data)} bytes")
    try:
        array, end = strings.decode(data, elements)
    except struct.error:
        end = -1
    if end != len(data):
        raise bad_response(f"output {name!r}: its {len(data)} bytes are not {elements} strings")
    return _frozen(array.reshape(shape))


def _elements(name: str, shape: Sequence[int]) -> int:
    if any(extent < 0 for extent in shape):
        raise bad_response(f"output {name!r} has the shape {list(shape)}")
    return math.prod(shape)


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype not in datatypes.NAMES:
        raise bad_response(f"output {name!r} has the unknown datatype {datatype!r}")
    return datatypes.numpy_dtype(datatype)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
