"""``runtime convert`` with a source and steps that need no framework; every step runs in its real process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from frameworks import python
from frameworks.convert import graph
from frameworks.convert.formats import Variant
from runtime.cli.main import main
from store import ModelStore
from tests.support import conversions
from tests.support.server import eventually

ROOT = Path(__file__).parents[3]
ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)
QUICK = ("--window-ms", "5", "--batch-sizes", "1,4")
WAIT_S = 60


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """With a model that doubles its rows."""
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = ModelStore.default()
    signatures = {"__call__": {"batchable": True}}
    python.save_model("double:v1", conversions.double, signatures=signatures, sample={"x": ROWS}, store=store)
    return store


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models of the adapter ``python`` become what ``tests.support.conversions`` says."""
    monkeypatch.setattr(graph, "_EDGES", conversions.edges())


def left(folder: Path) -> list[str]:
    """Temporary work that is still there."""
    return [path.name for path in folder.iterdir() if path.name.startswith("runtime-convert-")]


# -- usage and refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onxx"], "did you mean 'onnx'?"),
        (["--memory-limit", "much"], "for example 4GiB"),
        (["--memory-limit", "0"], "for example 4GiB"),
        (["--device", "tpu"], "neither cpu nor cuda"),
        (["--providers", "gpu"], "none of trt, cuda, cpu"),
        (["--method", "nope"], "it has __call__"),
        (["--batch-sizes", "0"], "--batch-sizes"),
        (["--to", "trt", "--precision", "tf32"], "leaves nothing"),
        (["--samples", "nope.npz"], "does not exist"),
        (["--package", "there.nav"], "--overwrite replaces it"),
    ],
)
@pytest.mark.usefixtures("steps")
def test_wrong_usage_ends_with_2_and_a_line(
    arguments: list[str],
    message: str,
    store: ModelStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.nav").touch()
    assert main(["convert", "double", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert left(tmp_path) == []


def test_a_source_that_has_no_other_format_is_told_which_have(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "double"]) == 1
    assert "those of pytorch, " in capsys.readouterr().err


@pytest.mark.usefixtures("steps")
def test_a_format_that_the_source_cannot_become_is_told_with_those_it_can(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "double", "--to", "tf-savedmodel"]) == 1
    assert "it can become onnx, onnx-legacy" in capsys.readouterr().err


@pytest.mark.usefixtures("steps")
def test_a_source_without_specs_is_told_how_to_get_some(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python.save_model("bare", conversions.double, signatures={"__call__": {"batchable": True}}, store=store)
    assert main(["convert", "bare", "--workdir", str(tmp_path / "work")]) == 1
    assert "save the model again with sample=" in capsys.readouterr().err


# -- whole runs


@pytest.mark.usefixtures("steps")
def test_each_variant_is_a_line_whatever_becomes_of_it(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "double", *QUICK]) == 0
    captured = capsys.readouterr()
    words = {line.split()[0]: line.split() for line in captured.out.splitlines() if line}
    assert [words["source"][1], words["onnx"][1], words["onnx-legacy"][1]] == ["ok", "ok", "wrong"]
    assert [words["torchscript-trace"][1], words["trt-fp32"][1]] == ["failed", "skipped"]
    assert words["onnx"][2:6] == ["CPU", "0", "0", "yes"]
    assert words["onnx"][-2:] == ["double-onnx:v1", "(stored)"]
    assert "best latency: " in captured.out
    assert "best throughput: " in captured.out
    assert "failed: torchscript-trace: the process died of SIGSEGV" in captured.out
    assert re.search(r"failed: onnx-legacy on CPU: output 'y' .* differs by up to", captured.out)
    assert "skipped: trt-fp32, trt-fp16: the tool is not here; install it" in captured.out
    assert re.search(r"^\[4/\d+\] onnx … ok [\d.]+ s$", captured.err, re.MULTILINE)
    assert "conversion_step" not in captured.err
    log = Path(re.findall(r"^log: (.+)$", captured.out, re.MULTILINE)[0])
    assert "about to touch address zero" in log.read_text()
    assert len(left(tmp_path)) == 1
    assert {str(model.tag) for model in store.list()} == {"double:v1", "double-onnx:v1"}


@pytest.mark.usefixtures("steps")
def test_a_run_in_which_all_went_well_leaves_no_folder_and_shows_its_family(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "double", "--to", "onnx", *QUICK]) == 0
    assert left(tmp_path) == []
    assert "log: " not in capsys.readouterr().out
    assert main(["models", "get", "double"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    family = shown.pop("family")
    assert shown == store.get("double").info.to_dict()
    (child,) = family["children"]
    assert (family["parent"], child["tag"], child["variant"]) == (None, "double-onnx:v1", "onnx")
    runtime = child["runtimes"]["CPUExecutionProvider"]
    assert runtime["max_abs"] == 0
    assert set(runtime["median_ms"]) == set(runtime["speed_up"]) == {"1", "4"}
    assert main(["models", "get", "double-onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == {"parent": "double:v1", "children": []}
    assert main(["models", "list", "--parent", "double", "--json"]) == 0
    assert [one["tag"] for one in json.loads(capsys.readouterr().out)] == ["double-onnx:v1"]


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("onnx", 0), ("onnx-legacy", 1), ("onnx,onnx-legacy", 1), ("torchscript", 1), ("onnx,trt", 1),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("steps")
def test_what_was_asked_for_by_name_must_have_become_something(
    to: str, code: int, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "double", "--to", to, "--no-profile"]) == code


@pytest.mark.parametrize(
    ("first", "made"),
    [
        ("tests.support.conversions:doubles", ["onnx"]),
        ("tests.support.converters:refuse", ["onnx", "onnx-legacy"]),
    ],
)
def test_of_several_starts_only_the_first_that_can_be_made_is(
    first: str,
    made: list[str],
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (edges,) = conversions.edges({**conversions.EDGES, "onnx": first}).values()
    plan = graph.Edge(
        Variant.parse("trt-fp16"), (Variant.parse("onnx"), Variant.parse("onnx-legacy")), edges[-1].step
    )
    monkeypatch.setattr(graph, "_EDGES", {"python": (*edges[:2], plan)})
    assert main(["convert", "double", "--to", "trt-fp16", "--no-profile"]) == 1
    assert re.findall(r"^\[.*\] (onnx\S*) …", capsys.readouterr().err, re.MULTILINE) == made


@pytest.mark.usefixtures("steps")
def test_json_is_one_document_with_everything(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "double.nav"
    arguments = ["--to", "onnx,trt", "--json", "--package", str(package), "--slo-ms", "1000", *QUICK]
    assert main(["convert", "double", *arguments]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["model"], document["good"]) == ("double:v1", False)
    assert document["targets"] == ["onnx", "trt-fp32", "trt-fp16"]
    assert [(one["tag"], one["status"]) for one in document["stored"]] == [("double-onnx:v1", "stored")]
    assert document["best"]["throughput"]["variant"] in ("source", "onnx")
    assert document["report"]["conversions"]["onnx"]["outcome"]["status"] == "ok"
    assert document["report"]["conversions"]["trt-fp16"]["outcome"]["reason"] == "missing_tool"
    assert document["package"] == str(package)
    assert package.stat().st_size > 0


@pytest.mark.usefixtures("steps")
def test_a_second_run_in_a_workdir_repeats_nothing(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", "double", "--to", "onnx", "--workdir", str(tmp_path / "work"), *QUICK]
    assert main(arguments) == 0
    first = capsys.readouterr()
    assert main(arguments) == 0
    second = capsys.readouterr()
    assert first.err.count(" … ") >= 5
    assert " … " not in second.err
    assert "double-onnx:v1 (already stored)" in second.out
    assert (tmp_path / "work" / "double.nav.workspace" / "status.yaml").is_file()


@pytest.mark.usefixtures("steps")
def test_unverified_variants_are_stored_only_when_nobody_wants_verification(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", "double", "--to", "onnx-legacy", "--no-profile"]
    assert main([*arguments, "--no-verify", "--no-store"]) == 0
    assert "not verified" in capsys.readouterr().out
    assert len(store.list()) == 1
    assert main([*arguments, "--no-verify"]) == 0
    assert {str(model.tag) for model in store.list()} == {"double:v1", "double-onnx-legacy:v1"}


@pytest.mark.usefixtures("steps")
def test_samples_may_come_from_files(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    np.savez(folder / "0.npz", x=ROWS)
    np.save(tmp_path / "more.npy", ROWS + 1000)
    work = ["--workdir", str(tmp_path / "work"), "--no-profile", "--to", "onnx"]
    arguments = ["--samples", str(folder), "--samples", str(tmp_path / "more.npy")]
    assert main(["convert", "double", *work, *arguments]) == 0
    inputs = tmp_path / "work" / "double.nav.workspace" / "model_input" / "correctness"
    rows = [np.load(path)["x"] for path in inputs.glob("*.npz")]
    assert len(rows) == 20
    assert max(float(row.max()) for row in rows) == 1019


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": ROWS.astype(np.float64)}, "float64"),
        ({"x": ROWS[:, :1]}, "[10, 1]"),
        ({"y": ROWS}, "the method takes x"),
    ],
)
@pytest.mark.usefixtures("steps")
def test_samples_that_do_not_fit_are_refused_with_their_file(
    arrays: dict[str, Any],
    message: str,
    store: ModelStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays)
    assert main(["convert", "double", "--samples", str(file)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "bad.npz" in error


@pytest.mark.usefixtures("steps")
def test_made_up_samples_are_told(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    spec = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    outputs = [{**spec[0], "name": "y"}]
    signatures = {"__call__": {"batchable": True, "inputs": spec, "outputs": outputs}}
    python.save_model("plain:v1", conversions.double, signatures=signatures, store=store)
    assert main(["convert", "plain", "--to", "onnx", "--no-profile"]) == 0
    assert "was saved without a sample" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "told"), [("--no-profile", False), ("--profile", True)])
@pytest.mark.usefixtures("steps")
def test_a_busy_machine_is_told_before_its_speed_is_measured(
    option: str,
    told: bool,
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 1000.0, 1000.0))
    assert main(["convert", "double", "--to", "onnx", option, *QUICK]) == 0
    assert ("note: the machine was busy before" in capsys.readouterr().err) is told


@pytest.mark.usefixtures("steps")
def test_a_source_that_cannot_answer_its_samples_is_the_one_line_that_matters(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    signatures = {"__call__": {"batchable": True, "inputs": spec, "outputs": [{**spec[0], "name": "y"}]}}
    python.save_model("broken:v1", conversions.refuse, signatures=signatures, store=store)
    assert main(["convert", "broken", "--to", "onnx"]) == 1
    captured = capsys.readouterr()
    assert re.search(r"^source +fail ", captured.out, re.MULTILINE)
    assert re.search(r"^failed: source: .*this model answers nothing", captured.out, re.MULTILINE)
    assert [str(model.tag) for model in store.list("broken")] == ["broken:v1"]


@pytest.mark.usefixtures("steps")
def test_methods_that_have_no_form_in_a_variant_are_told_and_not_stored(
    store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    signatures = {"__call__": {"batchable": True}, "again": {"batchable": True}}
    python.save_model("two:v1", conversions.Two(), signatures=signatures, sample={"x": ROWS}, store=store)
    assert main(["convert", "two", "--to", "onnx", "--no-profile"]) == 0
    assert "partial: onnx: no method again, which has no form there" in capsys.readouterr().out
    assert list(store.get("two-onnx").info.signatures) == ["__call__"]


# -- interruption


@pytest.fixture
def interrupted(store: ModelStore, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run whose second step hangs."""
    program = (
        "import sys\nfrom frameworks.convert import graph\nfrom runtime.cli.main import main\n"
        "from tests.support import conversions\n"
        "steps = {**conversions.EDGES, 'onnx-legacy': 'tests.support.conversions:hangs'}\n"
        "graph._EDGES = conversions.edges(steps)\nsys.exit(main(sys.argv[1:]))\n"
    )
    work = ["--workdir", str(tmp_path / "work"), "--to", "onnx,onnx-legacy", "--no-profile"]
    with subprocess.Popen(
        [sys.executable, "-c", program, "convert", "double", *work],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, conversions.PID_VARIABLE: str(tmp_path / "pid")},
    ) as process:  # fmt: skip
        yield process
        process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_takes_its_steps_along_and_keeps_what_is_done(
    number: signal.Signals, code: int, interrupted: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert interrupted.stderr is not None
    for line in interrupted.stderr:
        if "] onnx … ok" in line:
            break
    eventually((tmp_path / "pid").exists, "the step that hangs")
    step = psutil.Process(int((tmp_path / "pid").read_text()))
    interrupted.send_signal(number)
    interrupted.communicate(timeout=WAIT_S)
    assert interrupted.returncode == code
    assert not step.is_running() or step.status() == psutil.STATUS_ZOMBIE
    status = yaml.safe_load((tmp_path / "work" / "double.nav.workspace" / "status.yaml").read_text())
    assert status["conversions"]["onnx"]["outcome"]["status"] == "ok"


def test_every_variant_of_the_test_steps_is_one() -> None:
    assert [str(Variant.parse(name)) for name in conversions.EDGES] == list(conversions.EDGES)
