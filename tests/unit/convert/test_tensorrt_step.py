from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from frameworks import InvalidModel, LoadOptions, gpu, onnx, sklearn, tensorrt
from frameworks.convert.formats import Format, TensorRTPrecision, Variant
from frameworks.convert.steps.tensorrt import convert
from frameworks.convert.work import MissingTool, NotConvertible, Settings, Work
from frameworks.errors import MissingFramework
from frameworks.trt import module as tensorrt_module
from frameworks.trt.plan import PlanInfo
from store import ModelStore, Signature, TensorSpec
from tests.support.fake_tensorrt import fake_tensorrt
from tests.support.tensorrt_graphs import arrays, attention, cnn, mlp

Make = Callable[..., Work]

MLP = {
    "predict": Signature(
        batchable=True,
        inputs=(TensorSpec("x", "FP32", (-1, 16)),),
        outputs=(TensorSpec("y", "FP32", (-1, 10)),),
    )
}
ATTENTION = {
    "__call__": Signature(
        batchable=True,
        inputs=(TensorSpec("x", "FP32", (-1, -1, 16)),),
        outputs=(TensorSpec("y", "FP32", (-1, -1, 16)),),
    )
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes the work for an ONNX artifact."""
    monkeypatch.setattr(gpu, "DRIVER", "libno-such-driver.so.1")

    def make(model: Any, signatures: Any, samples: Any, precision: str = "fp32", **settings: Any) -> Work:
        source = tmp_path / "onnx" / "model.onnx"
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(model.SerializeToString())
        target = tmp_path / f"trt-{precision}" / "model.plan"
        target.parent.mkdir(exist_ok=True)
        return Work(
            variant=Variant(Format.TENSORRT, precision=TensorRTPrecision(precision)),
            start=Variant(Format.ONNX),
            model=None,
            artifact=source,
            target=target,
            signatures=signatures,
            samples=tuple(samples),
            settings=Settings(**settings),
        )

    return make


def rows(count: int) -> list[dict[str, Any]]:
    return [{"x": arrays((1, 16), seed)} for seed in range(count)]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8"])
def test_a_plan_is_built_in_each_precision_with_its_source_beside_it(work: Make, precision: str) -> None:
    task = work(mlp(), MLP, rows(32), precision, max_batch_size=4)
    made = convert(task)
    assert made.methods == ("predict",)
    assert made.facts["precision"] == precision
    assert made.facts["library"] == "tensorrt_rtx"
    assert made.facts["profile"] == {"x": [[1, 16], [4, 16], [4, 16]]}
    assert {path.name for path in task.target.parent.iterdir()} == {"model.plan", "plan.json", "model.onnx"}
    record = PlanInfo.read(task.target.with_name("plan.json"))
    assert record.methods == {"predict": {"y": "y"}}
    x = arrays((64, 16), seed=77)
    assert task.artifact is not None
    exact = onnxruntime.InferenceSession(task.artifact).run(None, {"x": x})[0]
    answer = tensorrt.open_artifact(task.target, MLP, LoadOptions())["predict"]({"x": x})
    rough = answer["y"]
    assert np.abs(exact - rough).max() <= {"fp16": 1e-2, "int8": 0.25}.get(precision, 0)
    assert np.mean(exact.argmax(axis=1) == rough.argmax(axis=1)) >= 0.95


def test_without_a_card_the_plan_cannot_be_executed(work: Make) -> None:
    task = work(mlp(), MLP, rows(1))
    convert(task)
    settings = {"on_mismatch": "fail"}
    with pytest.raises(InvalidModel, match="no NVIDIA GPU"):
        tensorrt.open_artifact(task.target, MLP, LoadOptions(device="cuda:0", settings=settings))


def test_dynamic_axes_are_taken_from_the_samples(work: Make) -> None:
    samples = [{"x": arrays((1, length, 16))} for length in (4, 2, 9)]
    made = convert(work(attention(), ATTENTION, samples))
    assert made.facts["profile"] == {"x": [[1, 2, 16], [8, 4, 16], [8, 9, 16]]}


def test_the_users_axes_come_first(work: Make) -> None:
    axes = {"x": {0: (1, 2, 3), 1: (4, 5, 6)}}
    made = convert(work(attention(), ATTENTION, [{"x": arrays((1, 4, 16))}], trt_axes=axes))
    assert made.facts["profile"] == {"x": [[1, 4, 16], [2, 5, 16], [3, 6, 16]]}


def test_axes_that_there_are_not_are_refused(work: Make) -> None:
    with pytest.raises(InvalidModel, match="trt_axes names the input 'z'; there are x"):
        convert(work(mlp(), MLP, rows(1), trt_axes={"z": {0: (1, 2, 3)}}))


def test_a_saved_onnx_model_is_a_source(work: Make, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    model = onnx.save_model("cnn", cnn(), signatures={"__call__": {"batchable": True}}, store=store)
    sample = {"image": arrays((1, 3, 8, 8))}
    task = replace(work(cnn(), model.info.signatures, [sample]), start=None, artifact=None, model=model)
    assert convert(task).methods == ("__call__",)
    assert task.target.stat().st_size > 1000


def test_another_source_is_refused(work: Make, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    store = ModelStore(tmp_path / "models")
    model = sklearn.save_model("lr", LogisticRegression().fit([[0.0], [1.0]], [0, 1]), store=store)
    with pytest.raises(NotConvertible, match="made of ONNX graphs only"):
        convert(replace(work(mlp(), MLP, rows(1)), start=None, artifact=None, model=model))


def test_tensorrt_without_a_card_is_a_missing_tool(work: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_module, "find", lambda library="": fake_tensorrt())
    with pytest.raises(MissingTool, match=r"needs an NVIDIA GPU .*libcuda\.so\.1 is not on this machine"):
        convert(work(mlp(), MLP, rows(1)))


def test_no_tensorrt_is_a_missing_tool(work: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(library: str = "") -> Any:
        raise MissingFramework("tensorrt or tensorrt_rtx is not installed")

    monkeypatch.setattr(tensorrt_module, "find", missing)
    with pytest.raises(MissingTool, match="is not installed"):
        convert(work(mlp(), MLP, rows(1)))


def test_a_failed_conversion_leaves_nothing_behind(work: Make) -> None:
    task = work(mlp(), MLP, rows(1))
    assert task.artifact is not None
    task.artifact.write_bytes(b"junk" * 10)
    with pytest.raises(InvalidModel):
        convert(task)
    assert list(task.target.parent.iterdir()) == []


def test_tensors_kept_beside_the_graph_come_along(work: Make) -> None:
    import onnx as onnx_format

    task = work(mlp(), MLP, rows(1))
    assert task.artifact is not None
    onnx_format.save(
        mlp(), task.artifact, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    convert(task)
    assert (task.target.parent / "weights.bin").is_file()
    x = arrays((3, 16))
    answer = tensorrt.open_artifact(task.target, MLP, LoadOptions())["predict"]({"x": x})
    exact = onnxruntime.InferenceSession(mlp().SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(answer["y"], exact)
