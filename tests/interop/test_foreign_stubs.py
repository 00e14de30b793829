"""Stubs that others generated, in the package ``inference``: alone, and beside our client in either order.

The stubs are made on the fly from what KServe's protocol file says, typed contents only.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.interop import environment
from tests.support.models import Scaled
from tests.support.server import Server

STUBS = """
import json, sys
import grpc, numpy as np

def kserve():
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    file = descriptor_pb2.FileDescriptorProto(name="grpc_predict_v2.proto", package="inference", syntax="proto3")
    kinds = {kind: getattr(descriptor_pb2.FieldDescriptorProto, "TYPE_" + kind.upper())
             for kind in ("string", "bool", "int32", "int64", "uint32", "uint64", "float", "double", "bytes", "message")}

    def message(name, *fields, parent=None):
        made = (parent or file).__getattribute__("nested_type" if parent else "message_type").add(name=name)
        for number, field, kind, *rest in fields:
            repeated = kind.endswith("*")
            one = made.field.add(name=field, number=number, type=kinds[kind.rstrip("*")], label=3 if repeated else 1)
            if rest:
                one.type_name = ".inference." + rest[0]
        return made

    def parameters(made, number, path):
        entry = message("ParametersEntry", (1, "key", "string"), (2, "value", "message", "InferParameter"), parent=made)
        entry.options.map_entry = True
        made.field.add(name="parameters", number=number, type=11, label=3, type_name=f".inference.{path}.ParametersEntry")

    parameter = message("InferParameter", (1, "bool_param", "bool"), (2, "int64_param", "int64"), (3, "string_param", "string"))
    parameter.oneof_decl.add(name="parameter_choice")
    for field in parameter.field:
        field.oneof_index = 0
    message("InferTensorContents", (1, "bool_contents", "bool*"), (2, "int_contents", "int32*"),
            (3, "int64_contents", "int64*"), (4, "uint_contents", "uint32*"), (5, "uint64_contents", "uint64*"),
            (6, "fp32_contents", "float*"), (7, "fp64_contents", "double*"), (8, "bytes_contents", "bytes*"))
    request = message("ModelInferRequest", (1, "model_name", "string"), (2, "model_version", "string"), (3, "id", "string"),
                      (5, "inputs", "message*", "ModelInferRequest.InferInputTensor"), (7, "raw_input_contents", "bytes*"))
    parameters(request, 4, "ModelInferRequest")
    message("InferInputTensor", (1, "name", "string"), (2, "datatype", "string"), (3, "shape", "int64*"),
            (5, "contents", "message", "InferTensorContents"), parent=request)
    response = message("ModelInferResponse", (1, "model_name", "string"), (2, "model_version", "string"), (3, "id", "string"),
                       (5, "outputs", "message*", "ModelInferResponse.InferOutputTensor"), (6, "raw_output_contents", "bytes*"))
    message("InferOutputTensor", (1, "name", "string"), (2, "datatype", "string"), (3, "shape", "int64*"),
            (5, "contents", "message", "InferTensorContents"), parent=response)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName("inference." + name))
            for name in ("ModelInferRequest", "ModelInferResponse")]

def infer(target, request, answer):
    with grpc.insecure_channel(target) as channel:
        path = "/inference.GRPCInferenceService/ModelInfer"
        method = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
        return method(request, timeout=30)
"""

TYPED = """
Request, Response = kserve()
request = Request(model_name="plain", id="7", inputs=[
    {"name": "bool", "datatype": "BOOL", "shape": [2], "contents": {"bool_contents": [True, False]}},
    {"name": "int8", "datatype": "INT8", "shape": [2], "contents": {"int_contents": [-128, 127]}},
    {"name": "int64", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [-(1 << 63)]}},
    {"name": "uint16", "datatype": "UINT16", "shape": [1], "contents": {"uint_contents": [65535]}},
    {"name": "uint64", "datatype": "UINT64", "shape": [1], "contents": {"uint64_contents": [(1 << 64) - 1]}},
    {"name": "fp32", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [0.5, 2.25]}},
    {"name": "fp64", "datatype": "FP64", "shape": [], "contents": {"fp64_contents": [1e300]}},
    {"name": "bytes", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"", b"abc"]}},
    {"name": "none", "datatype": "FP32", "shape": [0], "contents": {}},
])
def told(answer):
    return {o.name: [o.datatype, list(o.shape), raw.hex()]
            for o, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)}
raw = infer(sys.argv[1], request, Response)
request.parameters["binary_data_output"].bool_param = False
typed = infer(sys.argv[1], request, Response)
contents = {o.name: [list(values) for _, values in o.contents.ListFields()] for o in typed.outputs}
contents["bytes"] = [[item.decode() for item in values] for values in contents["bytes"]]
print(json.dumps({"id": raw.id, "raw": told(raw), "typed": contents, "raw too": len(typed.raw_output_contents)}))
"""

TOGETHER = """
rows = np.arange(8, dtype=np.float32).reshape(2, 4)

def ours(target):
    import runtime.client
    with runtime.client.Client(target) as client:
        return client.infer("scaled", {"x": rows}, method="predict")["output_0"]

def stubs(target):
    Request, Response = kserve()
    request = Request(model_name="scaled", raw_input_contents=[rows.tobytes()],
                      inputs=[{"name": "x", "datatype": "FP32", "shape": [2, 4]}])
    request.parameters["method"].string_param = "predict"
    return np.frombuffer(infer(target, request, Response).raw_output_contents[0], np.float32).reshape(2, 4)

def triton(target):
    import tritonclient.grpc as stock
    tensor = stock.InferInput("x", [2, 4], "FP32").set_data_from_numpy(rows)
    with stock.InferenceServerClient(target) as client:
        return client.infer("scaled", [tensor], parameters={"method": "predict"}).as_numpy("output_0")

print(json.dumps([globals()[name](sys.argv[1]).tolist() for name in sys.argv[2:]]))
"""


def test_typed_contents_of_every_datatype_are_read_and_written(server: Server) -> None:
    found = json.loads(environment.run(STUBS + TYPED, server.target))
    assert found["id"] == "7"
    assert found["raw"] == {
        "bool": ["BOOL", [2], "0100"],
        "int8": ["INT8", [2], "807f"],
        "int64": ["INT64", [1], "0000000000000080"],
        "uint16": ["UINT16", [1], "ffff"],
        "uint64": ["UINT64", [1], "ff" * 8],
        "fp32": ["FP32", [1, 2], np.array([0.5, 2.25], np.float32).tobytes().hex()],
        "fp64": ["FP64", [], np.array(1e300).tobytes().hex()],
        "bytes": ["BYTES", [2], "0000000003000000616263"],
        "none": ["FP32", [0], ""],
    }
    assert found["raw too"] == 0
    assert found["typed"] == {
        "bool": [[True, False]],
        "int8": [[-128, 127]],
        "int64": [[-(1 << 63)]],
        "uint16": [[65535]],
        "uint64": [[(1 << 64) - 1]],
        "fp32": [[0.5, 2.25]],
        "fp64": [[1e300]],
        "bytes": [["", "abc"]],
        "none": [],
    }


@pytest.mark.parametrize(
    "clients",
    [("ours", "stubs"), ("stubs", "ours"), ("ours", "triton", "ours"), ("triton", "ours", "triton")],
)
def test_clients_share_a_process_in_any_order(server: Server, clients: tuple[str, ...]) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    direct = Scaled().predict(rows).tolist()
    assert json.loads(environment.run(STUBS + TOGETHER, server.target, *clients)) == [direct] * len(clients)
