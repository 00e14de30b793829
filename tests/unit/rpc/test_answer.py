"""Responses built from templates are those that protobuf would build."""

from __future__ import annotations

import struct

import ml_dtypes
import numpy as np
import pytest

from protos import open_inference_pb2 as pb
from runtime.errors import DatatypeMismatch, InvalidInput, OutputMismatch
from runtime.rpc.answer import Template
from runtime.tensors import strings
from runtime.tensors.layout import Layout, TensorLayout
from runtime.tensors.padding import Crop

Y = TensorLayout.of("y", "FP32", (-1, 2))
T = TensorLayout.of("t", "BYTES", (-1,))
N = TensorLayout.of("n", "INT64", (3,))
BUFFERS = [
    struct.pack("<4f", 1, 2, 3, 4),
    strings.encode_all([b"a" * 200, b""]),
    struct.pack("<3q", -1, 0, 1),
]
LAYOUT = Layout("", (0, 0), (Y, T, N))


def template(
    layout: Layout = LAYOUT, wanted: tuple[str, ...] | None = None, *, rows: int = 2, typed: bool = False
) -> Template:
    return Template("m", "7", layout, rows, wanted, typed=typed)


def expected(*names: str, identity: str = "") -> pb.ModelInferResponse:
    """What protobuf would build of the outputs with these names."""
    response = pb.ModelInferResponse(model_name="m", model_version="7", id=identity)
    shapes = {"y": [2, 2], "t": [2], "n": [3]}
    for name in names:
        position = [tensor.name for tensor in LAYOUT.tensors].index(name)
        response.outputs.add(name=name, datatype=LAYOUT.tensors[position].datatype, shape=shapes[name])
        response.raw_output_contents.append(BUFFERS[position])
    return response


@pytest.mark.parametrize("identity", ["", "42", "ä" * 100])
@pytest.mark.parametrize("names", [("y", "t", "n"), ("y",), ("t",), ("n", "y"), ("t", "y")])
def test_a_response_is_the_one_that_protobuf_builds(names: tuple[str, ...], identity: str) -> None:
    made = template(wanted=names).fill(identity.encode(), BUFFERS)
    assert pb.ModelInferResponse.FromString(made) == expected(*names, identity=identity)


@pytest.mark.parametrize("identity", ["", "42"])
def test_all_outputs_are_sent_if_none_is_named(identity: str) -> None:
    made = template().fill(identity.encode(), BUFFERS)
    assert pb.ModelInferResponse.FromString(made) == expected("y", "t", "n", identity=identity)


@pytest.mark.parametrize("identity", ["", "42"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_single_output_is_no_special_case_to_the_client(position: int, identity: str) -> None:
    tensor = LAYOUT.tensors[position]
    made = template(Layout("", (0, 0), (tensor,))).fill(identity.encode(), [memoryview(BUFFERS[position])])
    assert pb.ModelInferResponse.FromString(made) == expected(tensor.name, identity=identity)


def test_a_template_can_be_filled_again() -> None:
    made = template()
    first = made.fill(b"1", BUFFERS)
    assert made.fill(b"1", BUFFERS) == first
    assert template(typed=True).fill(b"2", BUFFERS) == template(typed=True).fill(b"2", BUFFERS)


def test_empty_outputs_have_an_entry_too() -> None:
    made = template(Layout("", (0, 0), (Y, T)), rows=0).fill(b"", [b"", b""])
    response = pb.ModelInferResponse.FromString(made)
    assert list(response.raw_output_contents) == [b"", b""]
    assert [list(output.shape) for output in response.outputs] == [[0, 2], [0]]


def test_a_model_without_outputs_is_answered() -> None:
    response = pb.ModelInferResponse.FromString(template(Layout("", (0, 0), ())).fill(b"9", []))
    assert response == pb.ModelInferResponse(model_name="m", model_version="7", id="9")


def test_an_unknown_output_is_named() -> None:
    with pytest.raises(InvalidInput, match="the outputs are y, t, n") as caught:
        template(wanted=("z",))
    assert caught.value.field == "outputs['z']"


def test_typed_answers_carry_values_instead_of_bytes() -> None:
    response = pb.ModelInferResponse.FromString(template(typed=True).fill(b"5", BUFFERS))
    assert (response.id, list(response.raw_output_contents)) == ("5", [])
    y, t, n = response.outputs
    assert list(y.contents.fp32_contents) == [1, 2, 3, 4]
    assert list(t.contents.bytes_contents) == [b"a" * 200, b""]
    assert list(n.contents.int64_contents) == [-1, 0, 1]


def test_a_typed_single_output_is_typed() -> None:
    made = template(Layout("", (0, 0), (Y,)), typed=True).fill(b"", BUFFERS[:1])
    response = pb.ModelInferResponse.FromString(made)
    assert list(response.outputs[0].contents.fp32_contents) == [1, 2, 3, 4]
    assert list(response.raw_output_contents) == []


@pytest.mark.parametrize("identity", ["", "42"])
@pytest.mark.parametrize("names", [("y", "t", "n"), ("y",), ("n", "y")])
def test_outputs_of_padded_inputs_are_cropped(names: tuple[str, ...], identity: str) -> None:
    wide = Layout("", (0, 0), (TensorLayout.of("y", "FP32", (-1, 4)), T, N))
    buffers = [struct.pack("<8f", 1, 2, 0, 0, 3, 4, 0, 0), *BUFFERS[1:]]
    made = Template("m", "7", wide, 2, names, typed=False, crops={"y": [Crop(1, 4, 2)]})
    response = pb.ModelInferResponse.FromString(made.fill(identity.encode(), buffers))
    assert response == expected(*names, identity=identity)


@pytest.mark.parametrize("typed", [False, True])
def test_a_single_cropped_output_is_cropped_in_either_form(typed: bool) -> None:
    wide = Layout("", (0, 0), (TensorLayout.of("y", "FP32", (-1, 4)),))
    made = Template("m", "7", wide, 2, None, typed=typed, crops={"y": [Crop(1, 4, 2)]})
    data = struct.pack("<8f", 1, 2, 0, 0, 3, 4, 0, 0)
    (output,) = pb.ModelInferResponse.FromString(made.fill(b"", [memoryview(data)])).outputs
    assert list(output.shape) == [2, 2]
    response = pb.ModelInferResponse.FromString(made.fill(b"", [memoryview(data)]))
    if typed:
        assert list(output.contents.fp32_contents) == [1, 2, 3, 4]
    else:
        assert list(response.raw_output_contents) == [struct.pack("<4f", 1, 2, 3, 4)]


def test_cropped_texts_are_announced_with_their_own_length() -> None:
    words = np.array([[b"a" * 200, b""], [b"", b"b"]], object)
    wide = Layout("", (0, 0), (TensorLayout.of("t", "BYTES", (-1, 2)),))
    made = Template("m", "7", wide, 2, None, typed=False, crops={"t": [Crop(1, 2, 1)]})
    response = pb.ModelInferResponse.FromString(made.fill(b"", [strings.encode(words)]))
    assert list(response.outputs[0].shape) == [2, 1]
    assert list(response.raw_output_contents) == [strings.encode_all([b"a" * 200, b""])]


def test_an_output_as_long_as_its_bucket_is_sent_as_it_came() -> None:
    made = Template("m", "7", LAYOUT, 2, ("y",), typed=False, crops={"y": [Crop(1, 2, 2)]})
    assert pb.ModelInferResponse.FromString(made.fill(b"", BUFFERS)) == expected("y")


def test_an_output_that_breaks_its_paddings_promise_is_a_mismatch() -> None:
    with pytest.raises(OutputMismatch, match="padded to 8"):
        Template("m", "7", LAYOUT, 2, None, typed=False, crops={"y": [Crop(1, 8, 5)]})


def test_what_has_no_typed_form_is_refused() -> None:
    half = Layout("", (0, 0), (TensorLayout.of("h", "BF16", (-1,)),))
    with pytest.raises(DatatypeMismatch, match="BF16") as caught:
        template(half, typed=True).fill(b"", [np.zeros(2, ml_dtypes.bfloat16).tobytes()])
    assert caught.value.field == "parameters.binary_data_output"
