"""Servers with protocols of their own: BentoML, Ray Serve, TorchServe."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np

from benchmarks.peers import wire
from benchmarks.peers.peer import MAX_BATCH, SOURCES, Peer, Place
from benchmarks.peers.served.compute import WIDTHS, Array

TORCHSERVE_DELAY_MS = 2
"""With 0 it merges at most two requests: it takes one more and sees that the time is over."""

QUIET = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration><Appenders><Console name="out"><PatternLayout/></Console></Appenders>
<Loggers><Root level="error"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""
"""Without a line for each request; none of the servers writes one here."""


class BentoML(Peer):
    """The last release whose gRPC server and runners are not deprecated."""

    name = "bentoml"
    title = "BentoML 1.1, gRPC"
    requirements = (
        "bentoml[grpc]==1.1.11", "protobuf==4.25.8", "grpcio==1.62.3", "grpcio-health-checking==1.62.3",
        "grpcio-reflection==1.62.3", "grpcio-channelz==1.62.3", "numpy==1.26.4", "setuptools<81",
    )  # fmt: skip
    """Its generated code runs on no newer protobuf."""
    packages = ("bentoml", "grpcio", "numpy")
    configuration = "1 API worker, 1 runner process for each model, adaptive batching: max_batch_size 64"

    def prepare(self, place: Place) -> None:
        """Write the service and the configuration."""
        place.copy("bentoml_service.py")
        quiet = {"access": {"enabled": False}}
        config = {
            "version": 1,
            "api_server": {
                "logging": quiet, "metrics": {"enabled": False},
                "grpc": {"metrics": {"port": place.ports[1]}},
            },
            "runners": {
                "logging": quiet, "metrics": {"enabled": False},
                "batching": {"enabled": True, "max_batch_size": MAX_BATCH, "max_latency_ms": 60_000},
            },
        }  # fmt: skip
        (place.folder / "bentoml.yaml").write_text(json.dumps(config))

    def command(self, place: Place) -> list[str]:
        """Serve with processes of their own for the runners."""
        return [
            str(place.python.parent / "bentoml"), "serve-grpc", "bentoml_service:service", "--production",
            "--host", "127.0.0.1", "--port", str(place.port), "--api-workers", "1",
            "--working-dir", str(place.folder),
        ]  # fmt: skip

    def environment(self, place: Place) -> dict[str, str]:
        """Keep everything in the folder, and tell nobody."""
        return super().environment(place) | {
            "BENTOML_CONFIG": str(place.folder / "bentoml.yaml"),
            "BENTOML_HOME": str(place.folder / "home"),
            "BENTOML_DO_NOT_TRACK": "true",
        }

    def method(self, model: str) -> str:
        """One for all models."""
        return "/bentoml.grpc.v1.BentoService/Call"

    def encode(self, model: str, x: Array) -> bytes:
        """Encode as an ``NDArray`` of type FLOAT; raw bytes would lose the shape."""
        array = wire.message((1, 1), (2, wire.packed(x.shape)), (3, x.tobytes()))
        return wire.message((1, model), (3, array))

    def decode(self, model: str, answer: bytes) -> Array:
        """Take the floats of the ``NDArray``."""
        return np.frombuffer(wire.field(answer, 1, 3), "<f4").reshape(-1, WIDTHS[model][1])


class RayServe(Peer):
    """One node, one replica."""

    name = "ray"
    title = "Ray Serve, gRPC"
    requirements = ("ray[serve-grpc]==2.60.0",)
    packages = ("ray", "grpcio", "numpy")
    configuration = "1 proxy, 1 replica, @serve.batch: max_batch_size 64, batch_wait_timeout_s 0"

    def prepare(self, place: Place) -> None:
        """Write the application."""
        place.copy("ray_app.py")

    def command(self, place: Place) -> list[str]:
        """Start a local cluster with the application."""
        return [str(place.python), str(place.folder / "ray_app.py"), *map(str, place.ports[:2])]

    def environment(self, place: Place) -> dict[str, str]:
        """Keep everything in the folder, and tell nobody."""
        return super().environment(place) | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(place.folder)}

    def method(self, model: str) -> str:
        """One for each model."""
        return f"/peers.Models/{model}"

    def encode(self, model: str, x: Array) -> bytes:
        """Encode as a ``BytesValue``."""
        return wire.message((1, x.tobytes()))

    def decode(self, model: str, answer: bytes) -> Array:
        """Take the bytes."""
        return np.frombuffer(wire.field(answer, 1), "<f4").reshape(-1, WIDTHS[model][1])


class TorchServe(Peer):
    """Java front-end; its worker imports torch, though these models do not use it."""

    name = "torchserve"
    title = "TorchServe"
    requirements = ("torchserve==0.12.0", "torch==2.13.0+cpu", "numpy>=2,<3", "pyyaml", "setuptools<81")
    """The local version of torch: the plain one may bring gigabytes of CUDA."""
    packages = ("torchserve", "torch", "numpy")
    warm_up_s = 6.0
    configuration = f"1 worker for each model, batchSize 64, maxBatchDelay {TORCHSERVE_DELAY_MS} ms"

    def missing(self) -> str:
        """See whether there is Java."""
        return "" if shutil.which("java") else "no Java runtime: java is not on PATH"

    def prepare(self, place: Place) -> None:
        """Write an archive for each model, and the configuration."""
        store = place.folder / "store"
        store.mkdir()
        for model in WIDTHS:
            about = {"modelName": model, "modelVersion": "1.0", "handler": "torchserve_handler.py:handle"}
            manifest = {"createdOn": "", "runtime": "python", "archiverVersion": "0.12.0", "model": about}
            with zipfile.ZipFile(store / f"{model}.mar", "w") as archive:
                archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
                archive.write(SOURCES / "torchserve_handler.py", "torchserve_handler.py")
                for name in ("compute.py", "weights.npz"):
                    archive.write(place.folder / name, name)
        (place.folder / "config.properties").write_text(_torchserve_config(place))
        (place.folder / "log4j2.xml").write_text(QUIET)

    def command(self, place: Place) -> list[str]:
        """Serve the archives."""
        return [
            str(place.python.parent / "torchserve"), "--start", "--foreground", "--ncs",
            "--disable-token-auth", "--log-config", str(place.folder / "log4j2.xml"),
            "--ts-config", str(place.folder / "config.properties"),
            "--model-store", str(place.folder / "store"), "--models", "all",
        ]  # fmt: skip

    def environment(self, place: Place) -> dict[str, str]:
        """Keep its files, also the one that says that one runs already, in the folder."""
        return super().environment(place) | {"TMPDIR": str(place.folder), "TEMP": str(place.folder)}

    def method(self, model: str) -> str:
        """One for all models."""
        return "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"

    def encode(self, model: str, x: Array) -> bytes:
        """Encode as the bytes of the one input ``x``."""
        return wire.message((1, model), (3, wire.message((1, "x"), (2, x.tobytes()))))

    def decode(self, model: str, answer: bytes) -> Array:
        """Take the bytes."""
        return np.frombuffer(wire.field(answer, 1), "<f4").reshape(-1, WIDTHS[model][1])


def _torchserve_config(place: Place) -> str:
    grpc, grpc_management, *http = place.ports
    model = {
        "defaultVersion": True, "minWorkers": 1, "maxWorkers": 1, "batchSize": MAX_BATCH,
        "maxBatchDelay": TORCHSERVE_DELAY_MS, "responseTimeout": 120,
    }  # fmt: skip
    models = {name: {"1.0": {**model, "marName": f"{name}.mar"}} for name in WIDTHS}
    lines = {
        "inference_address": f"http://127.0.0.1:{http[0]}",
        "management_address": f"http://127.0.0.1:{http[1]}",
        "metrics_address": f"http://127.0.0.1:{http[2]}",
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": grpc,
        "grpc_management_port": grpc_management,
        "job_queue_size": 10_000,
        "disable_system_metrics": "true",
        "models": json.dumps(models),
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())
