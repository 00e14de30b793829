"""The RPCs that tell what is served: live, ready, metadata, configuration, index.

Each is a pure function from the request message to the response message over the table of routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Final

from protos import model_config_pb2 as config_pb
from protos import open_inference_pb2 as pb
from runtime.errors import ModelNotFound, VersionNotFound
from runtime.lifecycle.routes import Route, Routes
from store import Signature, TensorSpec, default_method

SERVER_NAME: Final = "runtime"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)


def server_version() -> str:
    """The installed version of this package."""
    try:
        return metadata.version("runtime-serving")
    except metadata.PackageNotFoundError:
        return "0+unknown"


class Inspection:
    """Answers questions about the server and its models.

    Args:
        routes: what is served.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self.draining = False

    def live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Whether the process answers: it does."""
        return pb.ServerLiveResponse(live=True)

    def ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether every model can execute and the server is not going down."""
        ready = not self.draining and all(route.is_ready for route in self._routes)
        return pb.ServerReadyResponse(ready=ready)

    def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Name, version and the protocol extensions offered."""
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=server_version(), extensions=EXTENSIONS)

    def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether the version can execute now; false for what is not served."""
        try:
            route = self._routes.resolve(request.name, request.version)
        except (ModelNotFound, VersionNotFound):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=route.is_ready and not self.draining)

    def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Versions and tensors of a model's default method, batch axis included.

        Raises:
            ModelNotFound, VersionNotFound: NOT_FOUND.
        """
        route = self._routes.resolve(request.name, request.version)
        signature = _default(route)
        return pb.ModelMetadataResponse(
            name=route.name,
            versions=self._routes.versions(route.name),
            platform=platform(route.module),
            inputs=_tensors(signature.inputs),
            outputs=_tensors(signature.outputs),
        )

    def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """The model in Triton's terms; dims without the batch axis if that is the first one.

        Raises:
            ModelNotFound, VersionNotFound: NOT_FOUND.
        """
        route = self._routes.resolve(request.name, request.version)
        signature = _default(route)
        leading = signature.batchable and tuple(signature.batch_dim) == (0, 0)
        config = config_pb.ModelConfig(
            name=route.name,
            platform=platform(route.module),
            backend=route.module,
            max_batch_size=route.scheduler.limits.max_batch_size if leading else 0,
        )
        for spec in signature.inputs or ():
            config.input.add(
                name=spec.name,
                data_type=_data_type(spec),
                dims=spec.shape[leading:],
                optional=spec.name in signature.masks,
            )
        for spec in signature.outputs or ():
            config.output.add(name=spec.name, data_type=_data_type(spec), dims=spec.shape[leading:])
        config.instance_group.add(
            name=f"{route.name}_0",
            kind=config_pb.ModelInstanceGroup.KIND_CPU,
            count=route.scheduler.instances,
        )
        if signature.batchable:
            limits = route.scheduler.limits
            config.dynamic_batching.priority_levels = limits.priority_levels
            config.dynamic_batching.default_priority_level = limits.default_priority_level
        return pb.ModelConfigResponse(config=config)

    def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Every version that is served, with its state."""
        response = pb.RepositoryIndexResponse()
        for route in self._routes:
            if route.is_ready or not request.ready:
                state, reason = ("READY", "") if route.is_ready else ("UNAVAILABLE", "no instance is running")
                response.models.add(name=route.name, version=route.version, state=state, reason=reason)
        return response


def platform(module: str) -> str:
    """The ``<project>_<format>`` name of an adapter, as the protocol's list has it where it does."""
    known = {
        "onnx": "onnxruntime_onnx",
        "python": "python_cloudpickle",
        "pytorch": "pytorch_module",
        "sklearn": "sklearn_pickle",
        "torchscript": "pytorch_libtorch",
    }
    return known.get(module, f"{module}_model")


def _default(route: Route) -> Signature:
    """The signature to describe a model by; the first where no method is the default."""
    methods = route.signatures
    return methods[default_method(methods) or next(iter(methods))]


def _tensors(specs: Sequence[TensorSpec] | None) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [
        pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for spec in specs or ()
    ]


def _data_type(spec: TensorSpec) -> str:
    """The name that Triton's configuration has for a datatype."""
    return "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
