"""Responses built from templates are those that protobuf would build."""

from __future__ import annotations

import struct

import ml_dtypes
import numpy as np
import pytest

from protos import open_inference_pb2 as pb
from runtime.errors import DatatypeMismatch, InvalidInput
from runtime.rpc.answer import Template
from runtime.tensors import strings
from runtime.tensors.layout import Layout, TensorLayout

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


def test_what_has_no_typed_form_is_refused() -> None:
    half = Layout("", (0, 0), (TensorLayout.of("h", "BF16", (-1,)),))
    with pytest.raises(DatatypeMismatch, match="BF16") as caught:
        template(half, typed=True).fill(b"", [np.zeros(2, ml_dtypes.bfloat16).tobytes()])
    assert caught.value.field == "parameters.binary_data_output"
