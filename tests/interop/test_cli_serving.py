"""The commands that need a server, against a real one in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frameworks import python
from runtime.cli.demo_server import ServerProcess
from runtime.cli.main import main
from runtime.errors import LoadFailed
from store import ModelStore

ROOT = Path(__file__).parents[2]
WAIT_S = 90
ROWS = {"batchable": True, "batch_dim": 0}
FLAGS = ("--port", "0", "--http-port", "0", "--drain-delay-ms", "0", "--grace-ms", "5000")
FLOATS = np.arange(8, dtype=np.float32).reshape(2, 4)


class Scaled:
    def predict(self, x: Any) -> Any:
        return x * 2

    def named(self, x: Any) -> Any:
        return {"text": np.array([f"row {int(row[0])}" for row in x], object), "sum": x.sum(axis=1)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    store = ModelStore(tmp_path_factory.mktemp("store") / "models")
    signatures = {"predict": ROWS, "named": ROWS}
    save = {"signatures": signatures, "sample": {"x": FLOATS}, "external_modules": [sys.modules[__name__]]}
    python.save_model("scaled:v1", Scaled(), store=store, **save)  # type: ignore[arg-type]
    python.save_model("scaled:v2", Scaled(), store=store, **save)  # type: ignore[arg-type]
    return store


@pytest.fixture(scope="module")
def url(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with ServerProcess(folder, store.root, [*FLAGS, "scaled:v1", "scaled:v2"]) as server:
        yield server.url
        assert server.stop() == 0


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", FLOATS)


def infer(url: str, *arguments: str) -> int:
    return main(["infer", "--url", url, "--timeout", "30", *arguments])


@pytest.mark.parametrize(
    "value", ["x=@x.npy", "x=[[0,1,2,3],[4,5,6,7]]", "x:FP32=[[0,1,2,3],[4,5,6,7]]", "x=@x.json"]
)
def test_each_way_to_write_an_input_gives_the_same_answer(
    value: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.json").write_text(json.dumps(FLOATS.tolist()), encoding="utf-8")
    assert infer(url, "scaled", "-i", value, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["model"], document["version"]) == ("scaled", "v2")
    (answer,) = document["outputs"].values()
    assert answer == {"datatype": "FP32", "shape": [2, 4], "data": (FLOATS * 2).tolist()}


@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        (["scaled"], "v2"),
        (["scaled:latest"], "v2"),
        (["scaled:v1"], "v1"),
        (["scaled", "--version", "v1"], "v1"),
    ],
)
def test_a_version_may_be_chosen(
    arguments: list[str], version: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(url, *arguments, "-i", "x=@x.npy") == 0
    assert capsys.readouterr().out.startswith(f"model scaled, version {version}\n")


def test_a_method_may_be_chosen_and_its_outputs_stored(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(url, "scaled", "--method", "named", "-i", "x=@x.npy", "-o", "out.npz") == 0
    out = capsys.readouterr().out
    assert "text BYTES [2]\n['row 0', 'row 4']" in out
    with np.load("out.npz") as stored:
        np.testing.assert_array_equal(stored["sum"], FLOATS.sum(axis=1))
        assert stored["text"].tolist() == ["row 0", "row 4"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope", "-i", "x=[1]"], 1, "error: NOT_FOUND"),
        (["scaled", "-i", "x=[[1, 2]]"], 1, "error: INVALID_ARGUMENT"),
        (["scaled", "-i", "y=@x.npy"], 1, "error: INVALID_ARGUMENT"),
        (["scaled", "--method", "nope", "-i", "x=@x.npy"], 1, "error: NOT_FOUND"),
        (["scaled", "-i", "x=@nope.npy"], 2, "No such file"),
        (["scaled", "-i", 'x=["a"]'], 2, "BYTES values do not fit into FP32"),
    ],
)
def test_a_call_that_cannot_be_made_or_answered_fails_in_a_line(
    arguments: list[str], code: int, message: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(url, *arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_server_that_is_not_there_fails_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert infer(f"127.0.0.1:{port}", "m", "-i", "x=[1]") == 1
    assert capsys.readouterr().err.startswith("error: UNAVAILABLE")


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_cause(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    python.save_model("fine", len, signatures={"__call__": {"batchable": False}}, store=store)
    artifact = next(path for path in store.get("fine").path.iterdir() if path.name != "model.yaml")
    artifact.write_bytes(b"damaged")
    with pytest.raises(LoadFailed, match="digest"), ServerProcess(tmp_path, store.root, FLAGS):
        pytest.fail("the server got ready")


def test_an_interrupted_demo_cleans_up(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with run_demo(temporary=temporary) as process:
        watchdog = threading.Timer(WAIT_S, process.kill)
        watchdog.start()
        assert process.stderr is not None
        assert any("callers for" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
        watchdog.cancel()
    assert (process.returncode, out) == (130, ""), err
    assert list(temporary.iterdir()) == []


def run_demo(*flags: str, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runtime.cli.main", "demo", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip


def test_the_demo_trains_serves_calls_and_cleans_up(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with run_demo("--json", temporary=temporary) as process:
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["accuracy"] > 0.95
    assert report["failed"] == 0
    assert report["requests"] > 64
    assert report["batches"]["mean_rows"] > 4
    assert sum(entry["count"] for entry in report["batches"]["by_rows"]) == report["batches"]["count"]
    assert set(report["response_time_ms"]) == {"p50", "p90", "p95", "p99", "max"}
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_demo_that_is_kept_serves_until_it_is_told_to_stop(
    number: signal.Signals, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with run_demo("--keep", temporary=temporary) as process:
        watchdog = threading.Timer(WAIT_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        words = next(line for line in process.stdout if line.startswith("  runtime infer ")).split()
        assert main(words[1:]) == 0
        process.send_signal(number)
        _, err = process.communicate(timeout=WAIT_S)
        watchdog.cancel()
    assert process.returncode == code, err
    assert "INT64 [3]" in capsys.readouterr().out
    assert list(temporary.iterdir()) == []
