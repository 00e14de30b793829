# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204
# The server's own modules, and so its types, exist only where it runs.
"""The models as one Ray Serve deployment with batched methods; arguments: gRPC port, HTTP port.

Requests and answers are ``google.protobuf.BytesValue`` with the floats of one row.
"""

from __future__ import annotations

import signal
import sys

import compute
import grpc
import numpy as np
import ray
from google.protobuf.wrappers_pb2 import BytesValue
from ray import serve
from ray.serve.config import gRPCOptions


def add_servicer(servicer, server):
    """Register the service, as a generated module would."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, name),
            request_deserializer=BytesValue.FromString,
            response_serializer=BytesValue.SerializeToString,
        )
        for name in compute.WIDTHS
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("peers.Models", handlers),))


def merged(model, requests):
    """Execute a batch of requests at once."""
    x = np.stack([np.frombuffer(request.value, "<f4") for request in requests])
    return [BytesValue(value=row.tobytes()) for row in model(x)]


QUIET = {"enable_access_log": False, "log_level": "WARNING"}


@serve.deployment(
    num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0}, logging_config=QUIET
)
class Models:
    """Both models in one replica; a method is chosen by the name of the call."""

    def __init__(self):
        self._linear, self._perceptron = compute.load("linear64"), compute.load("mlp")

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def linear64(self, requests):
        """Call the linear model."""
        return merged(self._linear, requests)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def mlp(self, requests):
        """Call the perceptron."""
        return merged(self._perceptron, requests)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(
        http_options={"port": int(sys.argv[2])},
        grpc_options=gRPCOptions(port=int(sys.argv[1]), grpc_servicer_functions=["ray_app.add_servicer"]),
        logging_config=QUIET,
    )
    serve.run(Models.bind(), name="peers", route_prefix="/")
    signal.pause()
