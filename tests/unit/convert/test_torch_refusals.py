from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from frameworks import torch_export, torchscript
from frameworks.convert.steps import torch as steps
from frameworks.convert.steps import torch_trt
from frameworks.convert.steps.torch_source import source
from frameworks.convert.work import MissingTool, NotConvertible
from tests.support.torch_models import (
    EXPORTED,
    MLP,
    PAIR,
    ROWS,
    STEPS,
    Branch,
    Counting,
    Embedder,
    Mlp,
    Pair,
    Shelf,
    TwoRows,
    batchable,
    export_pair,
    floats,
    scripted,
    spec,
    task,
)


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def exported(save: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_pair(save, tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize("variant", EXPORTED)
def test_a_branch_cannot_be_exported(save: Shelf, tmp_path: Path, variant: str) -> None:
    work = task(save("branch", Branch, ROWS), variant, tmp_path, {"x": np.ones((1, 3), np.float32)})
    with pytest.raises(NotConvertible, match=r"torch\.export cannot convert the model: .*data-dependent"):
        STEPS[variant](work)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variant", EXPORTED)
def test_a_module_that_fixes_the_batch_axis_is_refused(save: Shelf, tmp_path: Path, variant: str) -> None:
    signatures = batchable([spec("x", -1, 4)], [spec("y", -1, 4)])
    work = task(save("two_rows", TwoRows, signatures), variant, tmp_path, {"x": floats(1, 4)})
    with pytest.raises(NotConvertible, match="batch"):
        STEPS[variant](work)


def test_an_opset_out_of_reach_is_refused(save: Shelf, tmp_path: Path) -> None:
    work = task(save("mlp", Mlp, MLP), "onnx", tmp_path, {"x": floats(1, 4)}, opset=13)
    with pytest.raises(NotConvertible, match=r"made opset \d+ where 13 was asked for"):
        steps.onnx(work)


@pytest.mark.parametrize("variant", ["torchscript-trace", *EXPORTED])
def test_torchscript_has_no_other_forms(save: Shelf, tmp_path: Path, variant: str) -> None:
    model = save("script_pair", lambda: scripted(Pair()), PAIR, torchscript)
    with pytest.raises(NotConvertible, match="TorchScript"):
        STEPS[variant](task(model, variant, tmp_path, {"right": floats(1, 4), "left": floats(1, 4)}))


@pytest.mark.parametrize("variant", ["torchscript-script", "torchscript-trace", "onnx-legacy"])
def test_an_exported_program_has_no_code(save: Shelf, exported: Path, tmp_path: Path, variant: str) -> None:
    model = save("program", lambda: exported, PAIR, torch_export)
    with pytest.raises(NotConvertible, match="exported program"):
        STEPS[variant](task(model, variant, tmp_path, {"right": floats(1, 4), "left": floats(1, 4)}))


def test_a_missing_compiler_is_told(
    save: Shelf, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    model = save("pair", Pair, PAIR)
    with pytest.raises(MissingTool, match=r"C\+\+ compiler.* install the package g\+\+"):
        steps.aoti(task(model, "torch-aoti", tmp_path, {"right": floats(1, 4), "left": floats(1, 4)}))


def test_torch_tensorrt_without_a_gpu_is_told(
    save: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frameworks.gpu.DRIVER", "libabsent.so.0")
    work = task(save("mlp", Mlp, MLP), "torch-trt-fp16", tmp_path, {"x": floats(1, 4)})
    with pytest.raises(
        MissingTool, match="torch-trt needs an NVIDIA GPU and torch_tensorrt; this machine has no"
    ):
        steps.torch_trt(work)


def test_text_has_no_form(save: Shelf, tmp_path: Path) -> None:
    signatures = batchable([spec("text", -1, datatype="BYTES")], [spec("scores", -1, 3)])
    work = task(save("text", Mlp, signatures), "onnx", tmp_path, {"text": np.array([b"a"], object)})
    with pytest.raises(NotConvertible, match="'text' of method '__call__' is text"):
        steps.onnx(work)


def test_a_signature_without_specs_is_refused(save: Shelf, tmp_path: Path) -> None:
    work = task(save("bare", Mlp, None), "onnx", tmp_path, {"x": floats(1, 4)})
    with pytest.raises(NotConvertible, match="save the model with a sample"):
        steps.onnx(work)


def test_several_methods_without_a_call_are_refused(save: Shelf, tmp_path: Path) -> None:
    one = MLP["__call__"]
    work = task(
        save("several", Embedder, {"forward": one, "embed": one}), "onnx", tmp_path, {"x": floats(1, 4)}
    )
    with pytest.raises(NotConvertible, match="not of forward, embed"):
        steps.onnx(work)


def test_samples_that_do_not_fit_are_refused(save: Shelf, tmp_path: Path) -> None:
    work = task(save("mlp", Mlp, MLP), "torch-export", tmp_path, {"x": floats(1, 5)})
    with pytest.raises(NotConvertible, match="no sample fits"):
        steps.export(work)


def test_an_output_that_the_module_lacks_is_refused(save: Shelf, tmp_path: Path) -> None:
    signatures = batchable([spec("left", -1, 4), spec("right", -1, 4)], [spec("sum", -1)])
    work = task(
        save("lacking", Pair, signatures),
        "torch-export",
        tmp_path,
        {"left": floats(1, 4), "right": floats(1, 4)},
    )
    with pytest.raises(NotConvertible, match="returns product, total, more; its signature says sum"):
        steps.export(work)


def test_a_result_that_is_no_tensor_is_refused(save: Shelf, tmp_path: Path) -> None:
    signatures = batchable([spec("x", -1, 4)], [spec("rows", -1), spec("same", -1, 4)])
    work = task(save("counting", Counting, signatures), "onnx", tmp_path, {"x": floats(1, 4)})
    with pytest.raises(NotConvertible, match="output 'rows' of the module is a int, not a tensor"):
        steps.onnx(work)


def test_models_of_other_frameworks_are_refused(save: Shelf, tmp_path: Path) -> None:
    from frameworks import python

    model = python.save_model("plain", float, signatures=MLP, store=save.store)
    with pytest.raises(NotConvertible, match="adapter 'python' is no torch model"):
        steps.export(task(model, "torch-export", tmp_path, {"x": floats(1, 4)}))


def test_a_failed_conversion_leaves_what_was_there(save: Shelf, tmp_path: Path) -> None:
    work = task(save("lost", Mlp, batchable([spec("x", -1, 4)], [spec("scores", -1, 7)])), "onnx", tmp_path)
    work.target.write_bytes(b"before")
    with pytest.raises(NotConvertible):
        steps.onnx(work)
    assert [path.name for path in tmp_path.iterdir()] == [work.target.name]
    assert work.target.read_bytes() == b"before"


def test_torch_tensorrt_is_told_the_range_of_each_axis(save: Shelf, tmp_path: Path) -> None:
    samples = [{"right": floats(1, size), "left": floats(1, size)} for size in (3, 7)]
    work = task(save("pair", Pair, PAIR), "torch-trt-fp16", tmp_path, *samples, max_batch_size=8)
    assert (
        torch_trt.input_ranges(work, source(work))
        == [{"min_shape": (1, 3), "opt_shape": (8, 7), "max_shape": (8, 7), "dtype": torch.float32}] * 2
    )


@pytest.mark.parametrize(
    ("precision", "half", "strict"), [("fp32", False, True), ("tf32", False, False), ("fp16", True, False)]
)
def test_torch_tensorrt_is_told_the_precision(
    save: Shelf, tmp_path: Path, precision: str, half: bool, strict: bool
) -> None:
    work = task(save("mlp", Mlp, MLP), f"torch-trt-{precision}", tmp_path, {"x": floats(1, 4)})
    settings = torch_trt.compile_settings(work)
    assert settings["disable_tf32"] is strict
    assert settings.get("enable_autocast", False) is half
