"""Servers that speak the Open Inference Protocol: ours, Triton, MLServer."""

from __future__ import annotations

import json
import shutil
import subprocess
from abc import ABC
from pathlib import Path
from typing import ClassVar

import numpy as np

import runtime
from benchmarks.peers.peer import MAX_BATCH, NotAvailable, Peer, Place
from benchmarks.peers.served.compute import WIDTHS, Array
from protos import open_inference_pb2 as pb

ROOT = Path(__file__).parents[2]


class OpenInference(Peer, ABC):
    """The protocol, in its raw form."""

    input_name: ClassVar[str] = "x"
    speaks_open_inference = True

    def method(self, model: str) -> str:
        """One for all models."""
        return "/inference.GRPCInferenceService/ModelInfer"

    def encode(self, model: str, x: Array) -> bytes:
        """Encode as raw bytes."""
        request = pb.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
        request.inputs.add(name=self.input_name, datatype="FP32", shape=x.shape)
        return request.SerializeToString()

    def decode(self, model: str, answer: bytes) -> Array:
        """Take the first output, in either form."""
        response = pb.ModelInferResponse.FromString(answer)
        if not response.outputs:
            raise ValueError("no output")
        output = response.outputs[0]
        if response.raw_output_contents:
            rows = np.frombuffer(response.raw_output_contents[0], "<f4")
        else:
            rows = np.array(output.contents.fp32_contents, "f4")
        return rows.reshape(tuple(output.shape))


class Runtime(OpenInference):
    """Our server, from this checkout."""

    name = "runtime"
    title = "runtime"
    requirements = ()
    packages = ("grpcio", "protobuf", "numpy")
    configuration = "defaults: max_batch_size 64, no delay, 1 service process, 1 worker for each model"

    def prepare(self, place: Place) -> None:
        """Save the models into a store."""
        script = place.copy("runtime_save.py")
        subprocess.run(
            [place.python, script, place.folder / "models"],
            check=True, env=self.environment(place), cwd=place.folder,
        )  # fmt: skip

    def command(self, place: Place) -> list[str]:
        """Serve the store."""
        flags = ["--store", str(place.folder / "models"), "--port", str(place.port), "--http-port", "0"]
        return [str(place.python), "-m", "runtime.cli.main", "serve", *flags, "--drain-delay-ms", "0"]

    def environment(self, place: Place) -> dict[str, str]:
        """Make this checkout importable; threads are what the server sets by itself."""
        variables = super().environment(place)
        return variables | {"PYTHONPATH": f"{place.folder}:{ROOT}"}


class Triton(OpenInference):
    """The server binary, the Python backend and its stub, as the wheel of PyTriton brings them."""

    name = "triton"
    title = "Triton, Python backend"
    requirements = ("nvidia-pytriton==0.7.0", "numpy==1.26.4")
    packages = ("nvidia-pytriton", "numpy")
    configuration = "dynamic_batching, max_batch_size 64, queue delay 0, 1 CPU instance for each model"

    def prepare(self, place: Place) -> None:
        """Write the model repository."""
        version = f"{place.python.parent.parent}/lib"
        stub = next(Path(version).glob("python3.*")).name.removeprefix("python")
        bundle = self._bundle(place)
        for model, (width, out) in WIDTHS.items():
            path = place.copy("triton_model.py", f"repository/{model}/1/model.py")
            config = _triton_config(model, width, out)
            (path.parents[1] / "config.pbtxt").write_text(config)
        backend = place.folder / "backends" / "python"
        shutil.copytree(bundle / "backends" / "python", backend)
        shutil.copy(bundle / "python_backend_stubs" / stub / "triton_python_backend_stub", backend)

    def command(self, place: Place) -> list[str]:
        """Serve the repository over gRPC alone."""
        return [
            str(self._bundle(place) / "bin" / "tritonserver"),
            f"--model-repository={place.folder}/repository",
            f"--backend-directory={place.folder}/backends",
            f"--grpc-port={place.port}", "--grpc-address=127.0.0.1",
            "--allow-http=false", "--allow-metrics=false", "--exit-timeout-secs=5",
        ]  # fmt: skip

    def environment(self, place: Place) -> dict[str, str]:
        """Let the stub find the interpreter's library and its packages, and the server its own libraries."""
        variables = super().environment(place)
        site = self._bundle(place).parents[1]
        python = subprocess.run(
            [place.python, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        return variables | {
            "PYTHONPATH": f"{place.folder}:{site}",
            "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{python}",
        }

    def version(self, port: int) -> str:
        """Ask the binary; the wheel's number is PyTriton's."""
        with runtime.Client(f"127.0.0.1:{port}") as client:
            return f"Triton {client.server_metadata().version}"

    def _bundle(self, place: Place) -> Path:
        found = list(place.python.parent.parent.glob("lib/python3.*/site-packages/pytriton/tritonserver"))
        if not found:
            raise NotAvailable("the wheel holds no tritonserver")
        return found[0]


class MLServer(OpenInference):
    """Its inference in the server's own process, which is its faster form on few cores."""

    name = "mlserver"
    title = "MLServer, in process"
    requirements = ("mlserver==1.7.1", "numpy==2.4.6", "uvloop==0.21.0")
    """Its workers need an older uvloop: a newer one makes no event loop of its own accord."""
    packages = ("mlserver", "grpcio", "numpy")
    configuration = (
        "custom runtime, adaptive batching: max_batch_size 64, max_batch_time 1 ms; parallel_workers 0"
    )
    workers: ClassVar[int] = 0

    def prepare(self, place: Place) -> None:
        """Write the settings of the server and of each model."""
        place.copy("mlserver_model.py")
        grpc, http, metrics = place.ports[:3]
        settings = {
            "host": "127.0.0.1", "grpc_port": grpc, "http_port": http, "metrics_port": metrics,
            "parallel_workers": self.workers, "debug": False, "use_structured_logging": True,
        }  # fmt: skip
        (place.folder / "settings.json").write_text(json.dumps(settings))
        for model, (width, out) in WIDTHS.items():
            folder = place.folder / model
            folder.mkdir()
            its = {
                "name": model, "implementation": "mlserver_model.Model",
                "max_batch_size": MAX_BATCH, "max_batch_time": 0.001,
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, width]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, out]}],
            }  # fmt: skip
            (folder / "model-settings.json").write_text(json.dumps(its))

    def command(self, place: Place) -> list[str]:
        """Serve the folder."""
        return [str(place.python.parent / "mlserver"), "start", str(place.folder)]


class MLServerWorker(MLServer):
    """The same with inference in a process of its own, as ours does it."""

    name = "mlserver-worker"
    title = "MLServer, 1 worker"
    configuration = MLServer.configuration.replace("parallel_workers 0", "parallel_workers 1")
    workers = 1

    @property
    def installed_as(self) -> str:
        """As the other one."""
        return MLServer.name


def _triton_config(model: str, width: int, out: int) -> str:
    return f"""name: "{model}"
backend: "python"
max_batch_size: {MAX_BATCH}
input [{{ name: "x" data_type: TYPE_FP32 dims: [ {width} ] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [ {out} ] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
"""
