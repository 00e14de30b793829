"""What the server says of itself and its models, and what it does not offer."""

from __future__ import annotations

from importlib import metadata

import pytest
from grpc import StatusCode

from protos import model_config_pb2 as config_pb
from protos import open_inference_pb2 as pb
from protos import service
from runtime.errors import InvalidInput, ModelNotFound, VersionNotFound
from runtime.lifecycle.routes import Routes
from runtime.rpc.infer import Infer
from runtime.rpc.inspection import Inspection, platform, server_version
from runtime.rpc.register import register
from store import Signature, TensorSpec
from tests.support.calls import FakeCall, FakeStream
from tests.support.serving import echo, serve

SPECS = Signature(
    batchable=True,
    inputs=(TensorSpec("x", "FP32", (-1, 2)), TensorSpec("t", "BYTES", (-1,))),
    outputs=(TensorSpec("y", "INT64", (-1,)),),
)


@pytest.fixture
def routes() -> Routes:
    routes = Routes()
    serve(routes, signature=SPECS, max_batch_size=16)
    serve(routes, signature=SPECS, version="2", order=1, module="onnx")
    serve(routes, name="plain", signature=Signature(), methods={"score": echo})
    return routes


@pytest.fixture
def inspection(routes: Routes) -> Inspection:
    return Inspection(routes)


def lose(routes: Routes, name: str, version: str = "") -> None:
    """Take a version's instance away."""
    scheduler = routes.resolve(name, version).scheduler
    for instance in list(scheduler._seats._instances):
        scheduler.detach(instance)


def test_a_server_is_ready_while_every_model_is(routes: Routes, inspection: Inspection) -> None:
    assert inspection.live(pb.ServerLiveRequest()).live
    assert inspection.ready(pb.ServerReadyRequest()).ready
    lose(routes, "m", "1")
    assert not inspection.ready(pb.ServerReadyRequest()).ready
    assert inspection.live(pb.ServerLiveRequest()).live


def test_a_draining_server_is_not_ready(inspection: Inspection) -> None:
    inspection.draining = True
    assert not inspection.ready(pb.ServerReadyRequest()).ready
    assert not inspection.model_ready(pb.ModelReadyRequest(name="m")).ready
    assert inspection.live(pb.ServerLiveRequest()).live


def test_the_server_names_its_extensions(inspection: Inspection) -> None:
    told = inspection.server_metadata(pb.ServerMetadataRequest())
    assert told.name == "runtime"
    assert told.version == server_version()
    assert {"binary_tensor_data", "schedule_policy"} <= set(told.extensions)


def test_a_server_that_is_not_installed_has_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert server_version() == "0+unknown"


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("m", "", False),
        ("m", "2", False),
        ("m", "1", True),
        ("m", "latest", False),
        ("m", "3", False),
        ("z", "", False),
    ],
)
def test_a_version_is_ready_while_it_has_an_instance(
    routes: Routes, inspection: Inspection, name: str, version: str, ready: bool
) -> None:
    lose(routes, "m", "2")
    assert inspection.model_ready(pb.ModelReadyRequest(name=name, version=version)).ready is ready


def test_metadata_have_the_tensors_with_their_batch_axis(inspection: Inspection) -> None:
    told = inspection.model_metadata(pb.ModelMetadataRequest(name="m"))
    assert (told.name, list(told.versions), told.platform) == ("m", ["1", "2"], "onnxruntime_onnx")
    assert [(t.name, t.datatype, list(t.shape)) for t in told.inputs] == [
        ("x", "FP32", [-1, 2]),
        ("t", "BYTES", [-1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in told.outputs] == [("y", "INT64", [-1])]


def test_a_model_without_specs_has_no_tensors(inspection: Inspection) -> None:
    told = inspection.model_metadata(pb.ModelMetadataRequest(name="plain"))
    assert (list(told.inputs), list(told.outputs), list(told.versions)) == ([], [], ["1"])


@pytest.mark.parametrize(
    ("name", "version", "kind"),
    [("z", "", ModelNotFound), ("m", "9", VersionNotFound), ("", "", InvalidInput)],
)
def test_unknown_names_are_errors(
    inspection: Inspection, name: str, version: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        inspection.model_metadata(pb.ModelMetadataRequest(name=name, version=version))
    with pytest.raises(kind):
        inspection.model_config(pb.ModelConfigRequest(name=name, version=version))


def test_the_configuration_leaves_the_batch_axis_out(inspection: Inspection) -> None:
    config = inspection.model_config(pb.ModelConfigRequest(name="m", version="1")).config
    assert (config.name, config.max_batch_size, config.backend) == ("m", 16, "python")
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("x", config_pb.TYPE_FP32, [2]),
        ("t", config_pb.TYPE_STRING, []),
    ]
    assert [(t.name, t.data_type) for t in config.output] == [("y", config_pb.TYPE_INT64)]
    assert config.HasField("dynamic_batching")
    assert config.instance_group[0].count == 1


def test_the_configuration_tells_the_priority_levels(routes: Routes, inspection: Inspection) -> None:
    serve(routes, name="levels", signature=SPECS, priority_levels=5, default_priority_level=4)
    batching = inspection.model_config(pb.ModelConfigRequest(name="levels")).config.dynamic_batching
    assert (batching.priority_levels, batching.default_priority_level) == (5, 4)


def test_inputs_that_padding_makes_are_shown_as_optional(routes: Routes, inspection: Inspection) -> None:
    padded = Signature.parse(
        {
            "batchable": True,
            "inputs": [
                {"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in ("ids", "attention_mask")
            ],
            "padding": {"inputs": {"ids": 1}, "mask": "attention_mask"},
        }
    )
    serve(routes, name="padded", signature=padded)
    config = inspection.model_config(pb.ModelConfigRequest(name="padded")).config
    assert [(t.name, t.optional) for t in config.input] == [("ids", False), ("attention_mask", True)]
    told = inspection.model_metadata(pb.ModelMetadataRequest(name="padded"))
    assert [(t.name, list(t.shape)) for t in told.inputs] == [("ids", [-1, -1]), ("attention_mask", [-1, -1])]


def test_the_configuration_keeps_all_dims_of_what_is_not_merged_in_front(
    routes: Routes, inspection: Inspection
) -> None:
    across = Signature(batchable=True, batch_dim=(1, 1), inputs=(TensorSpec("x", "BOOL", (3, -1)),))
    serve(routes, name="across", signature=across)
    config = inspection.model_config(pb.ModelConfigRequest(name="across")).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [3, -1])
    plain = inspection.model_config(pb.ModelConfigRequest(name="plain")).config
    assert (plain.max_batch_size, plain.HasField("dynamic_batching")) == (0, False)


def test_the_index_lists_versions_with_their_state(routes: Routes, inspection: Inspection) -> None:
    lose(routes, "m", "1")
    listed = inspection.index(pb.RepositoryIndexRequest()).models
    assert [(m.name, m.version, m.state) for m in listed] == [
        ("m", "1", "UNAVAILABLE"),
        ("m", "2", "READY"),
        ("plain", "1", "READY"),
    ]
    ready = inspection.index(pb.RepositoryIndexRequest(ready=True)).models
    assert [(m.name, m.version) for m in ready] == [("m", "2"), ("plain", "1")]


def test_platforms_have_two_halves() -> None:
    assert [platform(name) for name in ("onnx", "python", "sklearn")] == [
        "onnxruntime_onnx",
        "python_cloudpickle",
        "sklearn_pickle",
    ]


# -- registration -----------------------------------------------------------------------------------


class Registered:
    """A server that only keeps what is registered."""

    def __init__(self, routes: Routes) -> None:
        self.unary: dict[str, object] = {}
        self.streams: dict[str, object] = {}
        self.after_drain: list[object] = []
        register(self, Infer(routes), Inspection(routes))  # type: ignore[arg-type]

    def add_unary(self, path: str, handler: object) -> None:
        self.unary[path] = handler

    def add_stream(self, path: str, handler: object) -> None:
        self.streams[path] = handler

    def call(self, name: str, data: bytes = b"") -> FakeCall:
        call = FakeCall(data, method=service.path(name))
        self.unary[service.path(name)](call)  # type: ignore[operator]
        return call


def test_every_rpc_of_the_protocol_is_served(routes: Routes) -> None:
    server = Registered(routes)
    assert set(server.unary) | set(server.streams) == {rpc.path for rpc in service.RPCS.values()}
    assert list(server.streams) == [service.path("ModelStreamInfer")]
    assert len(server.after_drain) == 1
    stream = FakeStream()
    server.streams[service.path("ModelStreamInfer")](stream)  # type: ignore[operator]
    assert stream.on_message is not None


def test_questions_are_answered_and_errors_mapped(routes: Routes) -> None:
    server = Registered(routes)
    live = server.call("ServerLive")
    assert pb.ServerLiveResponse.FromString(live.message or b"").live
    missing = server.call("ModelMetadata", pb.ModelMetadataRequest(name="z").SerializeToString())
    assert missing.code is StatusCode.NOT_FOUND
    broken = server.call("ModelMetadata", b"\xff")
    assert broken.code is StatusCode.INVALID_ARGUMENT
    assert "ModelMetadataRequest" in broken.details


def test_what_is_not_offered_says_so(routes: Routes) -> None:
    call = Registered(routes).call("SystemSharedMemoryRegister")
    assert (call.code, call.trailing["runtime-reason"]) == (StatusCode.UNIMPLEMENTED, "not_supported")
