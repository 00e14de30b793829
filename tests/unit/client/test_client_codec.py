from __future__ import annotations

from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest

from protos import open_inference_pb2 as pb
from runtime.client import codec
from runtime.client.errors import RpcFailed
from runtime.errors import DatatypeMismatch, InvalidInput
from store import datatypes

FIXED = [name for name in datatypes.NAMES if name != "BYTES"]
SHAPES = [(), (3,), (2, 3), (1, 2, 3), (2, 1, 2, 1), (1, 2, 1, 2, 2), (0,), (2, 0, 3)]


def request(inputs: dict[str, Any], **changes: Any) -> pb.ModelInferRequest:
    call: dict[str, Any] = {
        "model": "m",
        "inputs": inputs,
        "version": "",
        "method": None,
        "outputs": None,
        "parameters": None,
        "request_id": "",
    }
    return pb.ModelInferRequest.FromString(codec.infer_request(codec.Inference(**call | changes)))


def echo(sent: pb.ModelInferRequest) -> bytes:
    """The response of a server that returns its inputs."""
    response = pb.ModelInferResponse(model_name=sent.model_name, model_version="7", id=sent.id)
    for tensor in sent.inputs:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    response.raw_output_contents.extend(sent.raw_input_contents)
    return response.SerializeToString()


def round_trip(array: Any) -> Any:
    return codec.infer_result(echo(request({"x": array})), ())["x"]


def random_array(datatype: str, shape: tuple[int, ...]) -> Any:
    dtype = datatypes.numpy_dtype(datatype)
    size = int(np.prod(shape)) * dtype.itemsize
    data = np.random.default_rng(0).integers(0, 2 if datatype == "BOOL" else 256, size, np.uint8)
    return data.view(dtype).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("datatype", FIXED)
def test_every_datatype_and_shape_survives_bit_for_bit(datatype: str, shape: tuple[int, ...]) -> None:
    array = random_array(datatype, shape)
    back = round_trip(array)
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strings_of_every_shape_survive(shape: tuple[int, ...]) -> None:
    array = np.empty(shape, object)
    array.ravel()[:] = [b"", b"\x00\xff", "größe".encode(), b"x" * 1000, b"a", b"b", b"c", b"d"][: array.size]
    back = round_trip(array)
    assert back.shape == shape
    assert back.tolist() == array.tolist()


@pytest.mark.parametrize(
    "value",
    [
        ["a", "ü"],
        np.array(["a", "ü"]),
        np.array(["a", "ü".encode()], object),
        np.array(["a", "ü"], np.dtypes.StringDType()),
    ],
    ids=["list", "unicode", "objects", "StringDType"],
)
def test_text_is_sent_as_utf8(value: Any) -> None:
    assert round_trip(value).tolist() == [b"a", "ü".encode()]


@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype=">i4").reshape(2, 3), np.arange(12, dtype="i4").reshape(4, 3).T, np.arange(12)[::-2]],
    ids=["big-endian", "transposed", "strided"],
)
def test_arrays_in_another_layout_keep_their_values(array: Any) -> None:
    np.testing.assert_array_equal(round_trip(array), array)


def test_scalars_and_nested_lists_become_arrays() -> None:
    assert round_trip(2.5).shape == ()
    assert round_trip([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


def test_the_request_says_what_was_asked_for() -> None:
    sent = request(
        {"x": [1]},
        version="3",
        method="transform",
        outputs=["a", "b"],
        request_id="id-1",
        parameters={"flag": True, "priority": 1, "big": 2**63, "ratio": 0.5, "text": "t"},
    )
    assert (sent.model_name, sent.model_version, sent.id) == ("m", "3", "id-1")
    assert [output.name for output in sent.outputs] == ["a", "b"]
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in sent.parameters.items()}
    assert chosen == {
        "flag": "bool_param",
        "priority": "int64_param",
        "big": "uint64_param",
        "ratio": "double_param",
        "text": "string_param",
        "method": "string_param",
    }
    assert sent.parameters["method"].string_param == "transform"


@pytest.mark.parametrize("value", [None, 2**64, [1]])
def test_a_parameter_that_cannot_be_sent_is_named(value: Any) -> None:
    with pytest.raises(InvalidInput, match="'p'") as caught:
        request({}, parameters={"p": value})
    assert caught.value.field == "p"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([[1, 2], [3]], InvalidInput),
        (np.array([1j]), DatatypeMismatch),
        (np.array(["2020-01-01"], "M8[D]"), DatatypeMismatch),
        (np.array([b"a", 1], object), DatatypeMismatch),
    ],
    ids=["ragged", "complex", "date", "mixed"],
)
def test_an_input_that_cannot_be_sent_is_named(value: Any, error: type[InvalidInput]) -> None:
    with pytest.raises(error, match="'x'") as caught:
        request({"x": value})
    assert caught.value.field == "x"


def test_a_request_over_protobufs_limit_is_refused_before_it_is_built() -> None:
    huge = np.broadcast_to(np.zeros((), np.uint8), (1 << 31,))
    with pytest.raises(InvalidInput, match="bytes"):
        request({"x": huge})


def test_outputs_are_read_only_views_where_they_lie_aligned() -> None:
    message = echo(request({"x": np.arange(100, dtype=np.uint8)}))
    array = codec.infer_result(message, ())["x"]
    assert not array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(message, np.uint8))


def test_outputs_are_always_aligned() -> None:
    for pad in range(8):
        sent = request({"x": np.arange(100.0)}, request_id="i" * pad)
        array = codec.infer_result(echo(sent), ())["x"]
        assert array.flags.aligned
        assert not array.flags.writeable
        assert array[99] == 99.0


def test_the_result_is_a_mapping_in_the_servers_order() -> None:
    result = codec.infer_result(echo(request({"b": [1], "a": [2]}, request_id="r")), ())
    assert list(result) == ["b", "a"]
    assert (result.model, result.version, result.id) == ("m", "7", "r")
    with pytest.raises(KeyError, match="there are: b, a"):
        result["c"]


def test_timings_come_from_the_trailing_metadata() -> None:
    trailing = (("other", b"x"), (codec.TIMINGS_KEY, "queue=0.002, execute=1e-3,nonsense,bad=x"))
    result = codec.infer_result(echo(request({})), trailing)
    assert result.timings == {"queue": 0.002, "execute": 0.001}


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, -2.0]),
        ("FP64", "fp64_contents", [0.1, -2.0]),
        ("BYTES", "bytes_contents", [b"", b"a\x00"]),
    ],
)
def test_typed_contents_are_understood(datatype: str, field: str, values: list[Any]) -> None:
    response = pb.ModelInferResponse()
    getattr(response.outputs.add(name="y", datatype=datatype, shape=[2, 1]).contents, field).extend(values)
    array = codec.infer_result(response.SerializeToString(), ())["y"]
    assert array.dtype == datatypes.numpy_dtype(datatype)
    assert array.ravel().tolist() == values
    assert array.shape == (2, 1)


def test_outputs_in_shared_memory_are_left_out() -> None:
    response = pb.ModelInferResponse()
    response.outputs.add(name="there", datatype="FP32", shape=[1]).parameters[
        "shared_memory_region"
    ].string_param = "r"
    response.outputs.add(name="here", datatype="UINT8", shape=[1])
    response.raw_output_contents.append(b"\x05")
    assert {
        name: array.tolist() for name, array in codec.infer_result(response.SerializeToString(), ()).items()
    } == {"here": [5]}


def broken(datatype: str, shape: list[int], raw: list[bytes]) -> bytes:
    response = pb.ModelInferResponse(raw_output_contents=raw)
    response.outputs.add(name="y", datatype=datatype, shape=shape)
    return response.SerializeToString()


@pytest.mark.parametrize(
    "message",
    [
        b"\xff\xff",
        b"\x0a\x01\xff",
        broken("FP32", [2], [b"1234"]),
        broken("FP32", [-1], [b""]),
        broken("FP33", [1], [b"1234"]),
        broken("FP32", [1], [b"1234", b"1234"]),
        broken("BYTES", [2], [b"\x01\x00\x00\x00a"]),
        broken("BYTES", [1], [b"\x09\x00\x00\x00a"]),
        broken("BYTES", [1], [b"\x01\x00\x00\x00ab"]),
        broken("BYTES", [2], [b"\x00\x00\x00\x00" + b"\x00\x00"]),
        broken("BYTES", [1 << 40], [b"\x00\x00\x00\x00"]),
        broken("FP16", [1], []),
        broken("FP32", [1], []),
    ],
)
def test_a_malformed_response_fails_as_internal(message: bytes) -> None:
    with pytest.raises(RpcFailed, match="malformed") as caught:
        codec.infer_result(message, ())
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert caught.value.reason == "bad_response"


def test_bfloat16_has_its_own_datatype() -> None:
    sent = request({"x": np.array([1.5], ml_dtypes.bfloat16)})
    assert sent.inputs[0].datatype == "BF16"
    assert sent.raw_input_contents[0] == b"\xc0\x3f"


def test_a_hundred_thousand_strings_survive() -> None:
    strings = [b"x" * (index % 40) for index in range(100_000)]
    assert round_trip(np.array(strings, object)).tolist() == strings


def test_metadata_comes_back_as_plain_values() -> None:
    response = pb.ModelMetadataResponse(name="m", versions=["1", "2"], platform="p")
    response.inputs.add(name="x", datatype="FP32", shape=[-1, 4])
    metadata = codec.model_metadata(response.SerializeToString())
    assert (metadata.name, metadata.versions, metadata.platform) == ("m", ("1", "2"), "p")
    assert metadata.inputs[0].shape == (-1, 4)
    assert metadata.outputs == ()
    server = pb.ServerMetadataResponse(name="s", version="1", extensions=["a"]).SerializeToString()
    assert codec.server_metadata(server).extensions == ("a",)


def test_the_configuration_comes_back_as_plain_values() -> None:
    response = pb.ModelConfigResponse()
    config = response.config
    config.name, config.max_batch_size = "m", 8
    config.input.add(name="x", data_type="TYPE_FP32", dims=[-1, 4])
    config.parameters["k"].string_value = "v"
    config.dynamic_batching.max_queue_delay_microseconds = 2**40
    config.cc_model_filenames["7.5"] = "f"
    assert codec.model_config(response.SerializeToString()) == {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]}],
        "parameters": {"k": {"string_value": "v"}},
        "dynamic_batching": {"max_queue_delay_microseconds": 2**40},
        "cc_model_filenames": {"7.5": "f"},
    }


@pytest.mark.parametrize("read", [codec.server_metadata, codec.model_metadata, codec.model_config])
def test_malformed_metadata_fails_as_internal(read: Any) -> None:
    with pytest.raises(RpcFailed, match="malformed"):
        read(b"\xff\xff")
