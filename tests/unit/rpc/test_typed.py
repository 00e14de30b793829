"""Tensors in typed contents."""

from __future__ import annotations

import numpy as np
import pytest

from protos import open_inference_pb2 as pb
from runtime.errors import DatatypeMismatch, InvalidInput, ShapeMismatch
from runtime.rpc import typed
from runtime.tensors import strings
from runtime.tensors.contents import FIELDS
from store.datatypes import NAMES, numpy_dtype

NUMBERS = [name for name in FIELDS if name != "BYTES"]


def request(datatype: str, field: str, values: list[object]) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest()
    tensor = message.inputs.add(name="x", datatype=datatype, shape=[len(values)])
    tensor.contents.SetInParent()
    getattr(tensor.contents, field).extend(values)
    return message


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_become_their_bytes_and_come_back(datatype: str) -> None:
    dtype = numpy_dtype(datatype)
    array = np.array([0, 1, 1, 0]).astype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        array[:2] = limits.min, limits.max
    message = request(datatype, FIELDS[datatype], array.tolist())
    assert typed.has_contents(message)
    (data,) = typed.to_raw(message)
    assert data == array.tobytes()
    output = pb.ModelInferResponse.InferOutputTensor(name="x", datatype=datatype)
    typed.fill_contents(output, data)
    assert output.contents == message.inputs[0].contents


def test_texts_become_elements_and_come_back() -> None:
    items = [b"a", b"", b"\xff\0"]
    message = request("BYTES", "bytes_contents", list(items))
    (data,) = typed.to_raw(message)
    assert data == strings.encode_all(items)
    output = pb.ModelInferResponse.InferOutputTensor(name="x", datatype="BYTES")
    typed.fill_contents(output, data)
    assert list(output.contents.bytes_contents) == items


def test_empty_contents_are_an_empty_tensor() -> None:
    message = request("FP32", "fp32_contents", [])
    assert typed.has_contents(message)
    assert typed.to_raw(message) == [b""]
    assert typed.to_raw(request("INT8", "int_contents", [])) == [b""]
    assert not typed.has_contents(pb.ModelInferRequest())


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("INT8", 128), ("INT8", -129), ("INT16", 40_000), ("UINT8", 256), ("UINT16", 1 << 17)],
)
def test_a_value_that_does_not_fit_is_refused(datatype: str, value: int) -> None:
    with pytest.raises(DatatypeMismatch, match="does not fit") as caught:
        typed.to_raw(request(datatype, FIELDS[datatype], [value]))
    assert caught.value.field == "inputs['x'].contents"


def test_values_in_anothers_field_are_refused() -> None:
    with pytest.raises(InvalidInput, match="int64_contents is set, INT32 belongs into int_contents"):
        typed.to_raw(request("INT32", "int64_contents", [1]))


@pytest.mark.parametrize("datatype", [*sorted(set(NAMES) - set(FIELDS)), "NONSENSE"])
def test_datatypes_without_typed_form_are_refused(datatype: str) -> None:
    with pytest.raises(DatatypeMismatch, match="raw_input_contents"):
        typed.to_raw(request(datatype, "fp32_contents", [1.0]))


def test_bytes_that_are_no_texts_are_refused_on_the_way_out() -> None:
    output = pb.ModelInferResponse.InferOutputTensor(name="x", datatype="BYTES")
    with pytest.raises(ShapeMismatch):
        typed.fill_contents(output, b"\x05\0\0\0ab")
