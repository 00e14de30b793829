"""Clients for any server that speaks the Open Inference Protocol over gRPC.

``Client`` blocks, ``AsyncClient`` is awaited; both take and give numpy arrays and raise ``RpcFailed``.
"""

from __future__ import annotations

from runtime.client.aio import AsyncClient
from runtime.client.errors import FieldViolation, RpcFailed
from runtime.client.results import InferResult, ModelMetadata, ServerMetadata, TensorMetadata
from runtime.client.sync import Client

__all__ = [
    "AsyncClient",
    "Client",
    "FieldViolation",
    "InferResult",
    "ModelMetadata",
    "RpcFailed",
    "ServerMetadata",
    "TensorMetadata",
]
