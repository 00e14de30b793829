"""Our messages and client can be imported beside any other library that speaks the protocol, in any order."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest

from tests.interop import environment

# What the stubs of KServe, MLServer and others do on import: register a file in the package "inference".
STUBS = """
def stubs(message):
    from google.protobuf import descriptor_pb2, descriptor_pool
    file = descriptor_pb2.FileDescriptorProto(name="grpc_predict_v2.proto", package="inference")
    file.syntax = "proto3"
    field = file.message_type.add(name=message).field.add(name="model_name", number=1)
    field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL
    descriptor_pool.Default().Add(file)
"""
OURS = "import protos.service, runtime.client"
TRITON = "import tritonclient.grpc, tritonclient.grpc.aio"
KSERVE_LIKE = "stubs('ModelInferRequest')"
DISTINCT_STUBS = (
    "stubs('SomethingElse')"  # those of two foreign libraries clash with each other, not with ours
)
TRY = """
from protos.open_inference_pb2 import ModelInferRequest
request = ModelInferRequest(model_name="m", raw_input_contents=[b"1234"])
assert ModelInferRequest.FromString(request.SerializeToString()) == request
"""


def program(*imports: str) -> str:
    return "\n".join((STUBS, *imports, TRY))


@pytest.mark.parametrize("imports", list(itertools.permutations((OURS, TRITON))))
def test_ours_and_tritonclient_share_a_process(imports: tuple[str, ...]) -> None:
    environment.run(program(*imports))


@pytest.mark.parametrize("imports", list(itertools.permutations((OURS, KSERVE_LIKE))))
def test_ours_and_stubs_with_the_same_message_names_share_a_process(imports: tuple[str, ...]) -> None:
    environment.run(program(*imports))


@pytest.mark.parametrize("imports", list(itertools.permutations((OURS, TRITON, DISTINCT_STUBS))))
def test_all_three_share_a_process(imports: tuple[str, ...]) -> None:
    environment.run(program(*imports))


def test_ours_import_without_a_warning_in_this_environment() -> None:
    paths = [path for path in (str(environment.ROOT), os.environ.get("PYTHONPATH")) if path]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program(OURS, KSERVE_LIKE)],
        check=False,
        cwd=environment.ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_two_environments_have_different_major_versions_of_protobuf() -> None:
    major = "import google.protobuf; print(google.protobuf.__version__.split('.')[0])"
    here = subprocess.run([sys.executable, "-c", major], capture_output=True, text=True, check=True).stdout
    assert {here.strip(), environment.run(major).strip()} == {"6", "7"}
