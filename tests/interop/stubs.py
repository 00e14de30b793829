"""Stubs as KServe and others generate them: a file of their own in the package ``inference``, typed contents.

Written from the protocol's public definition, independently of our ``.proto`` file. Importing this module
registers nothing; ``kserve`` does, once in a process.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
Rows = str
"""Lines of ``number name kind [type]``; a star marks a repeated field."""

CONTENTS: Rows = """
1 bool_contents bool*
2 int_contents int32*
3 int64_contents int64*
4 uint_contents uint32*
5 uint64_contents uint64*
6 fp32_contents float*
7 fp64_contents double*
8 bytes_contents bytes*
"""
TENSOR: Rows = """
1 name string
2 datatype string
3 shape int64*
5 contents message InferTensorContents
"""
REQUEST: Rows = """
1 model_name string
2 model_version string
3 id string
4 parameters message* ModelInferRequest.ParametersEntry
5 inputs message* ModelInferRequest.InferInputTensor
7 raw_input_contents bytes*
"""
RESPONSE: Rows = """
1 model_name string
2 model_version string
3 id string
5 outputs message* ModelInferResponse.InferOutputTensor
6 raw_output_contents bytes*
"""
PARAMETER: Rows = """
1 bool_param bool
2 int64_param int64
3 string_param string
"""
ENTRY: Rows = """
1 key string
2 value message InferParameter
"""


def _fill(message: Any, rows: Rows) -> Any:
    for row in rows.split("\n")[1:-1]:
        number, name, kind, *types = row.split()
        made = message.field.add(name=name, number=int(number))
        made.type = Field.Type.Value("TYPE_" + kind.rstrip("*").upper())
        made.label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
        if types:
            made.type_name = f".inference.{types[0]}"
    return message


def kserve() -> list[Any]:
    """Register the stubs; the classes of ``ModelInferRequest`` and ``ModelInferResponse``."""
    file = descriptor_pb2.FileDescriptorProto(
        name="grpc_predict_v2.proto", package="inference", syntax="proto3"
    )
    parameter = _fill(file.message_type.add(name="InferParameter"), PARAMETER)
    parameter.oneof_decl.add(name="parameter_choice")
    for field in parameter.field:
        field.oneof_index = 0
    _fill(file.message_type.add(name="InferTensorContents"), CONTENTS)
    request = _fill(file.message_type.add(name="ModelInferRequest"), REQUEST)
    _fill(request.nested_type.add(name="ParametersEntry"), ENTRY).options.map_entry = True
    _fill(request.nested_type.add(name="InferInputTensor"), TENSOR)
    response = _fill(file.message_type.add(name="ModelInferResponse"), RESPONSE)
    _fill(response.nested_type.add(name="InferOutputTensor"), TENSOR)
    pool = descriptor_pool.Default()
    pool.Add(file)
    names = ("ModelInferRequest", "ModelInferResponse")
    return [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in names
    ]


def infer(target: str, request: Any, answer: Any) -> Any:
    """Call ModelInfer as generated code would."""
    with grpc.insecure_channel(target) as channel:
        path = "/inference.GRPCInferenceService/ModelInfer"
        method = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
        return method(request, timeout=30)
