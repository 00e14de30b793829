"""Stubs that others generated, in the package ``inference``: alone, and beside our client in either order.

The stubs are made on the fly (``tests.interop.stubs``), in the environment of foreign clients.
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
import numpy as np
from tests.interop.stubs import infer, kserve
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
    pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return {output.name: [output.datatype, list(output.shape), raw.hex()] for output, raw in pairs}
raw = infer(sys.argv[1], request, Response)
request.parameters["binary_data_output"].bool_param = False
typed = infer(sys.argv[1], request, Response)
contents = {o.name: [list(values) for _, values in o.contents.ListFields()] for o in typed.outputs}
contents["bytes"] = [[item.decode() for item in values] for values in contents["bytes"]]
found = {"id": raw.id, "raw": told(raw), "typed": contents, "raw too": len(typed.raw_output_contents)}
print(json.dumps(found))
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
