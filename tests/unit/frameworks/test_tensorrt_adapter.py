from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from frameworks import InvalidModel, LoadOptions, gpu, tensorrt
from frameworks.convert.formats import TensorRTPrecision
from frameworks.errors import FrameworkError, MissingFramework, WrongModule
from frameworks.tensorrt import BuildSettings, Source
from frameworks.trt import module as tensorrt_module
from frameworks.trt.plan import INFO, PlanInfo
from store import CorruptArtifact, ModelStore, TensorSpec
from tests.support.tensorrt_graphs import arrays, attention, cnn, graph_of, identity, mlp, value

BATCHABLE = {"__call__": {"batchable": True}}
X = arrays((4, 16))


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "DRIVER", "libno-such-driver.so.1")
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path))


def direct(model: Any, **inputs: Any) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]


def run(models: ModelStore, name: str, inputs: Any, **options: Any) -> Any:
    return tensorrt.open_methods(models.get(name), LoadOptions(**options))["__call__"](inputs)


def test_a_graph_is_saved_with_its_plan_and_answers_as_onnxruntime_on_the_cpu(
    models: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    model = tensorrt.save_model("mlp", mlp(), signatures=BATCHABLE, sample=X, store=models)
    assert {"model.plan", INFO, "onnx/model.onnx", "sample.npz"} <= set(model.info.digests)
    signature = model.info.signatures["__call__"]
    assert signature.inputs == (TensorSpec("x", "FP32", (-1, 16)),)
    assert signature.outputs == (TensorSpec("y", "FP32", (-1, 10)),)
    assert model.info.checks["batch_invariance"]["__call__"]["invariant"]
    assert not model.info.pickled
    assert not caplog.records
    answer = run(models, "mlp", {"x": X})["y"]
    np.testing.assert_array_equal(answer, direct(mlp(), x=X))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"tensorrt_fallback model={model.tag} provider=CPUExecution")
    assert "asked to run on the cpu" in record.getMessage()


@pytest.mark.parametrize("form", ["path", "text", "bytes", "proto", "source"])
def test_every_form_of_a_graph_is_taken(models: ModelStore, tmp_path: Path, form: str) -> None:
    path = tmp_path / "mlp.onnx"
    path.write_bytes(mlp().SerializeToString())
    given = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "proto": mlp(),
        "source": Source(graph=path, settings=BuildSettings()),
    }[form]
    model = tensorrt.save_model("mlp", given, signatures=BATCHABLE, store=models)
    record = PlanInfo.read(model.path / INFO)
    assert record.platform is not None
    assert record.platform.library == "tensorrt_rtx"
    np.testing.assert_array_equal(run(models, "mlp", {"x": X})["y"], direct(mlp(), x=X))


@pytest.mark.parametrize(("precision", "bound"), [("fp16", 1e-2), ("int8", 0.2)])
def test_a_graph_is_saved_in_the_precision_that_its_plan_computes_in(
    models: ModelStore, precision: str, bound: float
) -> None:
    source = Source(graph=cnn(), settings=BuildSettings(precision=TensorRTPrecision(precision)))
    image = arrays((16, 3, 8, 8))
    tensorrt.save_model("cnn", source, signatures=BATCHABLE, sample={"image": image}, store=models)
    difference = np.abs(run(models, "cnn", {"image": image})["y"] - direct(cnn(), image=image)).max()
    assert 0 < difference < bound


def test_the_plan_takes_as_many_rows_as_the_options_say(models: ModelStore) -> None:
    options = {"max_batch_size": 12}
    model = tensorrt.save_model("mlp", mlp(), signatures=BATCHABLE, options=options, store=models)
    assert PlanInfo.read(model.path / INFO).settings.profile["x"] == ((1, 16), (12, 16), (12, 16))
    assert model.info.options["max_batch_size"] == 12


def test_without_options_the_models_limit_is_that_of_the_plan(models: ModelStore) -> None:
    source = Source(graph=mlp(), settings=BuildSettings(profile={"x": ((1, 16), (4, 16), (6, 16))}))
    model = tensorrt.save_model("mlp", source, signatures=BATCHABLE, store=models)
    assert model.info.options["max_batch_size"] == 6
    with pytest.raises(InvalidModel, match="max_batch_size is 7, and the plan takes 6 rows at most"):
        tensorrt.save_model("mlp", source, signatures=BATCHABLE, options={"max_batch_size": 7}, store=models)


def test_other_dynamic_axes_need_a_sample_or_a_profile(models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match="how far axis 1 of input 'x' extends"):
        tensorrt.save_model("attention", attention(), signatures=BATCHABLE, store=models)
    sample = arrays((2, 7, 16))
    model = tensorrt.save_model("attention", attention(), signatures=BATCHABLE, sample=sample, store=models)
    assert PlanInfo.read(model.path / INFO).settings.profile["x"] == ((1, 7, 16), (64, 7, 16), (64, 7, 16))


def test_fp64_is_refused_since_tensorrt_narrows_it_in_silence(models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match="tensor 'y' is FP64 in the model and FP32 in TensorRT"):
        tensorrt.save_model("wide", identity(TensorProto.DOUBLE), signatures=BATCHABLE, store=models)


def test_a_graph_that_tensorrt_cannot_build_is_refused(models: ModelStore) -> None:
    det = graph_of([helper.make_node("Det", ["x"], ["y"])], [value("x", (3, 3))], [value("y", ())])
    with pytest.raises(InvalidModel, match=r"cannot read the ONNX model: node 0 \(Det\)"):
        tensorrt.save_model("det", det, store=models)
    assert models.list() == []


def test_where_no_plan_can_be_built_the_graph_is_saved_for_later(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(library: str = "") -> Any:
        raise MissingFramework("tensorrt is not installed")

    monkeypatch.setattr(tensorrt_module, "find", missing)
    source = Source(graph=mlp(), settings=BuildSettings(precision=TensorRTPrecision.FP16))
    model = tensorrt.save_model("mlp", source, signatures=BATCHABLE, store=models)
    assert "tensorrt_plan_not_built reason=tensorrt is not installed" in caplog.text
    record = PlanInfo.read(model.path / INFO)
    assert (record.platform, record.settings.typed) == (None, False)
    assert "model.plan" not in model.info.digests
    np.testing.assert_array_equal(run(models, "mlp", {"x": X})["y"], direct(mlp(), x=X))


def test_several_methods_share_a_plan(models: ModelStore) -> None:
    both = graph_of(
        [helper.make_node("Neg", ["x"], ["inner"]), helper.make_node("Abs", ["x"], ["size"])],
        [value("x", ("n", 3))],
        [value("inner", ("n", 3)), value("size", ("n", 3))],
    )
    helper.set_model_props(both, {"runtime.outputs.negate": '["inner"]'})
    negated = {"name": "negated", "datatype": "FP32", "shape": [-1, 3]}
    size = {"name": "size", "datatype": "FP32", "shape": [-1, 3]}
    signatures = {
        "negate": {"batchable": True, "outputs": [negated]},
        "measure": {"batchable": True, "outputs": [size]},
    }
    model = tensorrt.save_model("both", both, signatures=signatures, store=models)
    record = PlanInfo.read(model.path / INFO)
    assert record.methods == {"negate": {"negated": "inner"}, "measure": {"size": "size"}}
    methods = tensorrt.open_methods(model, LoadOptions())
    x = arrays((2, 3))
    np.testing.assert_array_equal(methods["negate"]({"x": x})["negated"], -x)
    np.testing.assert_array_equal(methods["measure"]({"x": x})["size"], np.abs(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cpu"}, "cannot run here: it was asked to run on the cpu"),
        ({"device": "cuda:0"}, "cannot run here: this machine has no NVIDIA GPU that can be used"),
    ],
)
def test_a_model_that_must_not_fall_back_is_not_loaded(
    models: ModelStore, options: Any, message: str
) -> None:
    load = {"load": {"on_mismatch": "fail"}}
    model = tensorrt.save_model("mlp", mlp(), signatures=BATCHABLE, options=load, store=models)
    with pytest.raises(InvalidModel, match=message):
        tensorrt.open_methods(model, LoadOptions(**options))
    settings = {"on_mismatch": "fallback"}
    assert tensorrt.open_methods(model, LoadOptions(settings=settings, **options))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_mismatch": "panic"}, "must be fallback, build or fail, not 'panic'"),
        ({"on_mismatches": "fail"}, "did you mean 'on_mismatch'"),
        ({"on_mismatch": 1}, "must be str"),
    ],
)
def test_wrong_load_settings_are_refused_when_saving_and_when_loading(
    models: ModelStore, settings: Any, message: str
) -> None:
    with pytest.raises(InvalidModel, match=message):
        tensorrt.save_model("mlp", mlp(), signatures=BATCHABLE, options={"load": settings}, store=models)
    model = tensorrt.save_model("mlp", mlp(), signatures=BATCHABLE, store=models)
    with pytest.raises(InvalidModel, match=message):
        tensorrt.open_methods(model, LoadOptions(settings=settings))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:0"])
def test_an_unknown_device_is_refused(models: ModelStore, device: str) -> None:
    model = tensorrt.save_model("mlp", mlp(), signatures=BATCHABLE, store=models)
    with pytest.raises(InvalidModel, match=f"knows no device '{device}'"):
        tensorrt.open_methods(model, LoadOptions(device=device))


def test_what_is_no_model_is_refused(models: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="a list is neither a ModelProto"):
        tensorrt.save_model("bad", [], store=models)
    with pytest.raises(InvalidModel, match="onnxruntime refuses"):
        tensorrt.save_model("bad", b"junk" * 10, store=models)
    with pytest.raises(InvalidModel, match=r"there is no file .*none\.plan"):
        tensorrt.save_model("bad", tmp_path / "none.plan", store=models)
    with pytest.raises(InvalidModel, match="needs a method"):
        tensorrt.save_model("bad", mlp(), signatures={}, store=models)
    with pytest.raises(FrameworkError, match="no argument 'smaple'"):
        tensorrt.save_model("bad", mlp(), smaple=X, store=models)


def test_a_plan_alone_of_which_nothing_is_known_is_refused(models: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "alone.engine"
    path.write_bytes(b"plan")
    with pytest.raises(InvalidModel, match=r"has no plan\.json beside it .* and there is no NVIDIA GPU here"):
        tensorrt.save_model("alone", path, store=models)


def test_the_native_object_on_the_cpu_is_a_session_of_the_graph(models: ModelStore) -> None:
    tensorrt.save_model("mlp", mlp(), signatures=BATCHABLE, store=models)
    session = tensorrt.load_model("mlp", store=models)
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], direct(mlp(), x=X))
    with pytest.raises(InvalidModel, match="no NVIDIA GPU"):
        tensorrt.load_model("mlp", store=models, device="cuda")
    assert tensorrt.get("mlp", store=models) == models.get("mlp")


def test_models_of_other_adapters_and_damaged_ones_are_refused(models: ModelStore) -> None:
    from frameworks import onnx

    onnx.save_model("other", mlp(), store=models)
    with pytest.raises(WrongModule):
        tensorrt.get("other", store=models)
    model = tensorrt.save_model("mlp", mlp(), signatures=BATCHABLE, store=models)
    (model.path / "model.plan").write_bytes(b"other")
    with pytest.raises(CorruptArtifact, match=r"model\.plan"):
        tensorrt.open_methods(model, LoadOptions())


def test_the_record_tells_how_the_plan_was_built(models: ModelStore) -> None:
    settings = BuildSettings(max_workspace_bytes=1 << 28, capabilities=("8.9",))
    source = Source(graph=mlp(), settings=settings)
    model = tensorrt.save_model(
        "mlp", source, signatures=BATCHABLE, options={"max_batch_size": 2}, store=models
    )
    record = PlanInfo.read(model.path / INFO)
    assert record.settings == replace(settings, profile={"x": ((1, 16), (2, 16), (2, 16))})
    assert record.platform is not None
    assert record.platform.key().endswith("-any-card")
    assert model.info.context.framework_versions["tensorrt_rtx"] == record.platform.version
