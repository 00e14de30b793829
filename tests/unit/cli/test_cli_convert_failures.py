"""``runtime convert`` with converters that are wrong, crash, hang or eat memory; each in its real process."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from frameworks import python
from frameworks.convert import graph
from runtime.cli.main import main
from store import ModelStore
from tests.support import conversions

QUICK = ("--window-ms", "5", "--batch-sizes", "1,4")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """With a model that doubles its rows."""
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = ModelStore.default()
    rows = {"x": np.arange(20, dtype=np.float32).reshape(10, 2)}
    signatures = {"__call__": {"batchable": True}}
    python.save_model("double:v1", conversions.double, signatures=signatures, sample=rows, store=store)
    return store


def test_wrong_answers_are_told_with_their_figures_and_not_stored(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {"onnx-legacy": "tests.support.conversions:nearly_doubles"}  # off by one per cent, at most 0.38
    monkeypatch.setattr(graph, "_EDGES", conversions.edges(steps))
    assert main(["convert", "double", *QUICK]) == 1
    captured = capsys.readouterr()
    row = re.search(r"^onnx-legacy .*", captured.out, re.MULTILINE)
    assert row is not None
    assert row[0].split() == ["onnx-legacy", "wrong", "CPU", "0.38", "0.01", "yes", *["-"] * 4]
    said = "differs by up to 0.38 (relative 0.01) where 0.00038 + 0.001·|reference| is allowed, in 90.4 % of"
    assert said in captured.out
    assert "] verify onnx-legacy on CPUExecutionProvider … fail: output 'y'" in captured.err
    assert [str(model.tag) for model in store.list()] == ["double:v1"]
    assert main(["convert", "double", "--json", "--no-profile"]) == 1
    document = json.loads(capsys.readouterr().out)
    execution = document["report"]["conversions"]["onnx-legacy"]["executions"]["CPUExecutionProvider"]
    figures = execution["outputs"]["__call__/y"]
    assert (figures["within"], figures["top1"]) == (False, 1.0)
    assert figures["max_abs"] == pytest.approx(0.38, rel=1e-3)
    assert figures["max_rel"] == pytest.approx(0.01, rel=1e-3)
    assert (document["good"], document["stored"]) == (False, [])


def test_one_that_crashes_hangs_or_eats_memory_is_a_line_and_the_others_are_stored(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {
        "torchscript-script": "tests.support.converters:half_write_and_crash",
        "torchscript-trace": "tests.support.converters:hang",
        "torch-export": "tests.support.converters:eat_memory",
        "onnx": "tests.support.conversions:doubles",
    }
    monkeypatch.setattr(graph, "_EDGES", conversions.edges(steps))
    limits = ("--timeout", "5", "--memory-limit", "1GiB")
    assert main(["convert", "double", "--no-profile", *limits]) == 0
    printed = capsys.readouterr().out
    assert "failed: torchscript-script: the process died of SIGSEGV" in printed
    assert re.search(r"^failed: torchscript-trace: .* 5 (s|seconds)", printed, re.MULTILINE)
    assert re.search(r"^failed: torch-export: .*memory", printed, re.MULTILINE)
    assert {str(model.tag) for model in store.list()} == {"double:v1", "double-onnx:v1"}
