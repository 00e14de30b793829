"""``runtime profile`` as people use it: with a server of its own, and against any other one."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from frameworks import python
from protos import open_inference_pb2 as pb
from runtime.cli.demo_server import ServerProcess
from runtime.cli.main import main
from runtime.profiling.store import Result
from store import ModelStore
from store.profiles import ProfileStore
from tests.support import browser
from tests.support.server import eventually

ROOT = Path(__file__).parents[2]
WAIT_S = 90
FLAGS = ("--port", "0", "--http-port", "0", "--drain-delay-ms", "0", "--grace-ms", "5000")
SHORT = ("--duration", "1", "--warm-up", "0.2")


class Doubled:
    def predict(self, x: Any) -> Any:
        return x * 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    store = ModelStore(tmp_path_factory.mktemp("home") / "models")
    for name in ("doubled:v1", "other:v1"):
        python.save_model(
            name, Doubled(), store=store, signatures={"predict": {"batchable": True}},
            sample={"x": np.ones((2, 4), np.float32)}, external_modules=[sys.modules[__name__]],
        )  # fmt: skip
    return store


@pytest.fixture(scope="module")
def server(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), store.root, FLAGS) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def result_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Result:
    """Run the command with JSON on stdout; it must end well."""
    code = main(["profile", *arguments, "--json", "-"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return Result.from_dict(json.loads(captured.out))


def test_a_saved_model_is_measured_without_a_server(
    store: ModelStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["doubled", "--store", str(store.root), "--concurrency", "4", "--max-batch-size", "4", *SHORT]
    files = ["--json", "r.json", "--csv", "r.csv", "--html", "r.html"]
    assert main(["profile", *arguments, *files]) == 0
    out = capsys.readouterr().out
    assert "Batching curve" in out
    assert "closed 4, rows=1, max_batch_size=4" in out
    result = Result.from_dict(json.loads(Path("r.json").read_text()))
    assert result.model == "doubled:v1"
    assert list(result.curve) == ["1", "2", "4"]
    assert all(0 < milliseconds < 1000 for milliseconds in result.curve.values())
    assert result.facts["module"] == "python"
    assert result.facts["worker_resident_bytes"] > 1 << 20
    last = result.points[-1]
    assert last.server is not None
    assert max(map(int, last.server["batches"])) <= 4
    assert result.verdicts[-1]["bottleneck"] in {"worker", "hop", "front-end", "machine", "generator"}
    with Path("r.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(result.points) == 4
    assert ProfileStore.beside(store.root).latest("doubled:v1") == result.to_dict()
    found = browser.find()
    if found is not None:
        opened = browser.open_page(found, tmp_path / "r.html")
        assert opened.console == []
        assert opened.plots == {"throughput", "distribution", "stages", "batches", "timeline"}


def test_an_open_loop_offers_its_rate(
    server: ServerProcess, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    result = result_of(
        capsys, "doubled", "--url", server.url, "--http", server.http, "--rate", "100,200",
        "--arrivals", "constant", "--rows", "1:0.5,2:0.5", "--slo-ms", "1000", "--data", "sample",
        "--store", str(store.root), *SHORT,
    )  # fmt: skip
    assert [run.load.rate for run in result.points] == [100, 200]
    assert [run.total.requests for run in result.points] == [100, 200]
    assert result.points[1].total.rows == pytest.approx(300, rel=0.2)
    assert result.points[0].late_slo_ms == 1000
    assert set(result.usage[0]["cores"]) == {"worker", "front-end"}
    assert result.facts == {}
    assert {"cpu", "cores", "kernel", "python", "versions", "load_average"} <= set(result.environment)


def test_several_models_are_mixed(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(
        capsys, "--url", server.url, "-m", "doubled=3", "-m", "other", "--concurrency", "2", "--count", "200",
    )  # fmt: skip
    assert result.points[0].total.ok == 200
    assert result.model == "doubled=3, other"


def test_a_search_ends_by_itself_and_confirms_its_answer(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--search", "--slo-ms", "500", "--rate", "50:100", "--resolution", "0.5", *SHORT]
    assert main(["profile", "doubled", "--url", server.url, *arguments, "--json", "r.json"]) == 0
    out = capsys.readouterr().out
    search = json.loads(Path("r.json").read_text())["search"]
    assert search["trials"][0]["rate"] == 50
    assert "Highest rate with p99 within 500 ms" in out
    if not any(
        trial["invalid"] for trial in search["trials"]
    ):  # a busy machine may keep us from sending in time
        assert search["rate"] == 100
        assert [one["factor"] for one in search["confirmed"]] == [0.95, 1.05]
        assert all(one["keeps"] for one in search["confirmed"])


def test_a_point_is_measured_until_it_is_stable(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--rate", "100", "--stability", "900", "--window-ms", "500", "--warm-up", "0.1"]
    result = result_of(capsys, "doubled", "--url", server.url, "--arrivals", "constant", *arguments)
    (run,) = result.points
    assert run.total.seconds == pytest.approx(1.5)
    assert run.total.ok == 150


def test_a_point_that_never_gets_stable_says_so(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--count", "1", "--stability", "0.0001", "--window-requests", "20", "--max-trials", "3"]
    assert main(["profile", "doubled", "--url", server.url, "--concurrency", "1", *arguments]) == 0
    assert "UNSTABLE" in capsys.readouterr().out


@pytest.fixture
def stranger() -> Iterator[str]:
    """A server that has only what the protocol demands, on the public API."""

    def infer(request: pb.ModelInferRequest, _: grpc.ServicerContext) -> pb.ModelInferResponse:
        return pb.ModelInferResponse(
            model_name=request.model_name, raw_output_contents=request.raw_input_contents
        )

    def metadata(request: pb.ModelMetadataRequest, _: grpc.ServicerContext) -> pb.ModelMetadataResponse:
        tensor = pb.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 4])
        return pb.ModelMetadataResponse(name=request.name, versions=["1"], inputs=[tensor], outputs=[tensor])

    calls = {
        "ModelInfer": (infer, pb.ModelInferRequest, pb.ModelInferResponse),
        "ModelMetadata": (metadata, pb.ModelMetadataRequest, pb.ModelMetadataResponse),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(call, into.FromString, out.SerializeToString)
        for name, (call, into, out) in calls.items()
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_any_server_of_the_protocol_will_do(stranger: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "m", "--url", stranger, "--rate", "50", *SHORT, "--json", "r.json"]) == 0
    out = capsys.readouterr().out
    assert "Server side" not in out
    (run,) = Result.from_dict(json.loads(Path("r.json").read_text())).points
    assert run.server is None
    assert run.total.ok > 20
    assert run.total.ok == run.total.requests


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "NOT_FOUND"),
        (["doubled", "--rows", "20000"], ""),
        (["doubled", "--data", "sample"], "store"),
    ],
)
def test_what_cannot_be_measured_fails(
    arguments: list[str],
    message: str,
    server: ServerProcess,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    extra = ["--store", str(tmp_path), "--concurrency", "1", *SHORT]
    assert main(["profile", *arguments, "--url", server.url, *extra]) == 1
    captured = capsys.readouterr()
    assert message in captured.err or "not in" in captured.err
    assert "Traceback" not in captured.err


def test_a_server_that_is_not_there_fails_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "m", "--url", "127.0.0.1:1", "--concurrency", "1", *SHORT]) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_profile_that_is_ended_leaves_nothing(
    number: signal.Signals, code: int, store: ModelStore, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [
        "profile",
        "doubled",
        "--store",
        str(store.root),
        "--duration",
        "60",
        "--no-curve",
        "--no-save",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "runtime.cli.main", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:  # fmt: skip
        watchdog = threading.Timer(WAIT_S, process.kill)
        watchdog.start()
        assert process.stderr is not None
        assert any("starting a server" in line for line in process.stderr)
        eventually(lambda: [*temporary.glob("runtime-profile-*")], "the server's folder")
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT_S)
        watchdog.cancel()
    assert (process.returncode, out) == (code, ""), err
    assert list(temporary.iterdir()) == []
