"""What happens on a machine with a card: a fake one, since what matters here is which plan is run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from frameworks import InvalidModel, LoadOptions, gpu, tensorrt
from frameworks.errors import MissingFramework
from frameworks.trt import cache as tensorrt_cache
from frameworks.trt import cuda as tensorrt_cuda
from frameworks.trt import module as tensorrt_module
from frameworks.trt import rebuild as tensorrt_rebuild
from frameworks.trt.files import BESIDE, Contents, graph_digest
from frameworks.trt.plan import INFO, PLAN, BuildSettings, PlanInfo, Platform
from store import ModelStore, Signature, TensorSpec
from tests.support.fake_tensorrt import GPU, EngineKind, FakeCuda, fake_tensorrt, with_builder
from tests.support.tensorrt_graphs import graph_of, value

RTX = tensorrt_module.find("tensorrt_rtx")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
CARD = LoadOptions(device="cuda:0")
L4 = {"card": "NVIDIA L4", "driver": "12.8"}
SPECS = {
    "inputs": (TensorSpec("x", "FP32", (-1, 3)),),
    "outputs": (TensorSpec("y", "FP32", (-1, 3)),),
}
SIGNATURES = {"__call__": Signature(batchable=True, **SPECS)}

Started = list[tuple[str, str]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Make this a machine with a card; returns a function that installs a library there."""
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(gpu, "DRIVER", None)  # the process itself, which can always be loaded
    monkeypatch.setattr(gpu, "describe", lambda driver, index: GPU if index == 0 else None)
    cuda = FakeCuda()
    monkeypatch.setattr(tensorrt_cuda, "runtime", lambda: cuda)

    def install(**arguments: Any) -> Any:
        module = fake_tensorrt(**arguments)
        monkeypatch.setattr(tensorrt_module, "find", lambda library="": module)
        return module

    return install


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Keep builds aside from being started; they are listed."""
    found: Started = []
    monkeypatch.setattr(
        tensorrt_rebuild, "start", lambda contents, card, library, name: found.append((library, name))
    )
    return found


def doubling() -> bytes:
    double = graph_of(
        [helper.make_node("Add", ["x", "x"], ["y"])], [value("x", ("n", 3))], [value("y", ("n", 3))]
    )
    content: bytes = double.SerializeToString()
    return content


def artifact(folder: Path, built_for: Platform, *, graph: bool = True, **changes: Any) -> Path:
    """Write what a conversion on some other machine has made."""
    folder.mkdir()
    (folder / BESIDE).write_bytes(doubling())
    info = PlanInfo(
        settings=BuildSettings(profile={"x": ((1, 3), (4, 3), (8, 3))}),
        graph_digest=graph_digest(folder / BESIDE) if graph else "",
        **SPECS,
    )
    if not graph:
        (folder / BESIDE).unlink()
    (folder / PLAN).write_bytes(b"plan")
    (folder / INFO).write_bytes(replace(info.built(built_for, b"plan"), **changes).to_json())
    return folder / PLAN


def opened(path: Path, options: LoadOptions = CARD, **settings: Any) -> Any:
    methods = tensorrt.open_artifact(path, SIGNATURES, replace(options, settings=settings))
    return methods["__call__"]({"x": X})["y"]


def test_a_plan_that_was_built_here_is_run(
    machine: Any, started: Started, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = machine()
    path = artifact(tmp_path / "a", Platform.here(module, GPU))
    np.testing.assert_array_equal(opened(path, on_mismatch="fail"), X * 2)
    assert module.loaded == [b"plan"]
    assert not started
    assert not caplog.records


@pytest.mark.parametrize("change", [L4, {"version": "10.0.0"}, {"library": "tensorrt_rtx"}])
def test_on_another_machine_onnxruntime_answers_and_a_plan_is_built_aside(
    machine: Any, started: Started, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Any
) -> None:
    module = machine()
    here = Platform.here(module, GPU)
    there = replace(here, **change)
    path = artifact(tmp_path / "a", there)
    np.testing.assert_array_equal(opened(path), X * 2)
    assert module.loaded == []
    assert started == [("tensorrt", str(path))]
    (record,) = [one for one in caplog.records if "tensorrt_fallback" in one.getMessage()]
    assert f"plan={there.key()} here={here.key()}" in record.getMessage()
    assert f"was built for {there}, and here is {here}" in record.getMessage()


def test_a_mismatch_that_must_not_be_is_refused_with_both_machines(
    machine: Any, started: Started, tmp_path: Path
) -> None:
    here = Platform.here(machine(), GPU)
    there = replace(here, **L4)
    with pytest.raises(InvalidModel) as caught:
        opened(artifact(tmp_path / "a", there), on_mismatch="fail")
    assert str(here) in caught.value.message
    assert str(there) in caught.value.message
    assert not started


def test_a_plan_in_the_cache_is_run_instead(machine: Any, started: Started, tmp_path: Path) -> None:
    module = machine()
    here = Platform.here(module, GPU)
    path = artifact(tmp_path / "a", replace(here, **L4))
    tensorrt_cache.publish(PlanInfo.read(path.with_name(INFO)), here, b"cached")
    np.testing.assert_array_equal(opened(path, on_mismatch="fail"), X * 2)
    assert module.loaded == [b"cached"]
    assert not started


def test_a_damaged_cache_is_as_if_it_were_empty(machine: Any, started: Started, tmp_path: Path) -> None:
    module = machine()
    here = Platform.here(module, GPU)
    path = artifact(tmp_path / "a", replace(here, **L4))
    tensorrt_cache.publish(PlanInfo.read(path.with_name(INFO)), here, b"cached").write_bytes(b"cach")
    np.testing.assert_array_equal(opened(path), X * 2)
    assert module.loaded == []
    assert len(started) == 1


def test_a_plan_is_built_first_when_that_is_asked_for(machine: Any, started: Started, tmp_path: Path) -> None:
    module = with_builder(machine(), RTX)
    here = Platform.here(module, GPU)
    path = artifact(tmp_path / "a", replace(here, **L4))
    np.testing.assert_array_equal(opened(path, on_mismatch="build"), X * 2)
    (plan,) = module.loaded
    assert len(plan) > 1000
    assert tensorrt_cache.look_up(PlanInfo.read(path.with_name(INFO)), here) == plan
    module.Builder = None
    opened(path, on_mismatch="build")
    assert module.loaded == [plan, plan]
    assert not started


def test_a_plan_that_was_never_built_is_built_at_the_first_start(
    machine: Any, started: Started, tmp_path: Path
) -> None:
    module = with_builder(machine(), RTX)
    path = artifact(tmp_path / "a", Platform.here(module, GPU), platform=None)
    path.unlink()
    np.testing.assert_array_equal(opened(path, on_mismatch="build"), X * 2)
    assert len(module.loaded) == 1


def test_what_cannot_be_built_falls_back(
    machine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = with_builder(machine(), RTX)
    settings = BuildSettings(profile={"x": ((1, 4), (4, 4), (8, 4))})
    path = artifact(tmp_path / "a", replace(Platform.here(module, GPU), **L4), settings=settings)
    np.testing.assert_array_equal(opened(path, on_mismatch="build"), X * 2)
    assert "the profile of input 'x' has the shape [1, 4]" in caplog.text


def test_a_plan_that_tensorrt_refuses_falls_back_with_its_words(
    machine: Any, started: Started, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = machine(kind=EngineKind(refuses="Version tag does not match"))
    path = artifact(tmp_path / "a", Platform.here(module, GPU))
    np.testing.assert_array_equal(opened(path), X * 2)
    assert "TensorRT refuses the plan: Version tag does not match" in caplog.text


def test_a_damaged_plan_falls_back_and_a_damaged_graph_does_not_answer(
    machine: Any, started: Started, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = machine()
    path = artifact(tmp_path / "a", Platform.here(module, GPU))
    path.write_bytes(b"half")
    np.testing.assert_array_equal(opened(path), X * 2)
    assert "is not the plan that plan.json describes" in caplog.text
    path.with_name(BESIDE).write_bytes(doubling() + b"\0")
    with pytest.raises(InvalidModel, match=r"is not the graph that plan\.json describes"):
        opened(path)


def test_a_library_that_is_missing_is_named_in_the_warning(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> Any:
        raise MissingFramework("cuda-python is not installed")

    path = artifact(tmp_path / "a", Platform.here(machine(), GPU))
    monkeypatch.setattr(tensorrt_cuda, "runtime", missing)
    np.testing.assert_array_equal(opened(path), X * 2)
    assert "here=none reason=cuda-python is not installed" in caplog.text


def test_a_card_that_is_not_there_falls_back(
    machine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = artifact(tmp_path / "a", Platform.here(machine(), GPU))
    np.testing.assert_array_equal(opened(path, LoadOptions(device="cuda:5")), X * 2)
    assert "no NVIDIA GPU" in caplog.text


def test_a_plan_without_its_graph_is_at_home_on_one_machine(
    machine: Any, models: ModelStore, tmp_path: Path
) -> None:
    here = Platform.here(machine(), GPU)
    path = artifact(tmp_path / "here", here, graph=False)
    model = tensorrt.save_model("alone", path, signatures={"__call__": {"batchable": True}}, store=models)
    assert model.info.signatures == SIGNATURES
    assert model.info.options["max_batch_size"] == 8
    answer = tensorrt.open_methods(model, CARD)["__call__"]({"x": X})
    np.testing.assert_array_equal(answer["y"], X * 2)
    there = artifact(tmp_path / "there", replace(here, **L4), graph=False)
    with pytest.raises(InvalidModel, match=r"NVIDIA L4 .* There is no ONNX graph .* build the plan again"):
        opened(there)
    with pytest.raises(InvalidModel, match=r"on the cpu.*it was built for tensorrt 10\.13\.2 on NVIDIA L4"):
        opened(there, LoadOptions())


def test_a_plan_without_any_record_is_tried_on_the_card(
    machine: Any, models: ModelStore, tmp_path: Path
) -> None:
    here = Platform.here(machine(), GPU)
    path = tmp_path / "some.engine"
    path.write_bytes(b"some plan")
    model = tensorrt.save_model("some", path, sample=X, store=models)
    record = PlanInfo.read(model.path / INFO)
    assert (record.platform, record.graph_digest) == (here, "")
    assert model.info.signatures["__call__"].inputs == SPECS["inputs"]


def test_a_converted_plan_is_saved_with_its_graph(machine: Any, models: ModelStore, tmp_path: Path) -> None:
    module = machine()
    path = artifact(tmp_path / "a", Platform.here(module, GPU))
    model = tensorrt.save_model("made", path, signatures={"predict": {"batchable": True}}, store=models)
    assert "onnx/model.onnx" in model.info.digests
    for device in ("cuda", "cpu"):
        answer = tensorrt.open_methods(model, LoadOptions(device=device))["predict"]({"x": X})
        np.testing.assert_array_equal(answer["y"], X * 2)
    assert module.loaded == [b"plan"]
    assert tensorrt.load_model("made", store=models, device="cuda").num_io_tensors == 2


def test_a_signature_that_the_plan_contradicts_is_refused(
    machine: Any, models: ModelStore, tmp_path: Path
) -> None:
    path = artifact(tmp_path / "a", Platform.here(machine(), GPU))
    for spec, message in (
        ({"name": "x", "datatype": "FP64", "shape": [-1, 3]}, "is FP64 in the model and FP32 in TensorRT"),
        ({"name": "z", "datatype": "FP32", "shape": [-1, 3]}, "the plan has no tensor 'z'; it has x"),
    ):
        with pytest.raises(InvalidModel, match=message):
            tensorrt.save_model("bad", path, signatures={"__call__": {"inputs": [spec]}}, store=models)


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / PLAN).write_bytes(b"plan")
    with pytest.raises(InvalidModel, match=r"has no plan\.json beside it"):
        opened(tmp_path / PLAN)


def test_a_plan_is_built_aside_once(machine: Any, tmp_path: Path) -> None:
    module = with_builder(machine(), RTX)
    here = Platform.here(module, GPU)
    contents = Contents.read(artifact(tmp_path / "a", replace(here, **L4)).parent)
    assert tensorrt_rebuild.build_once(contents, module, GPU)
    assert tensorrt_cache.look_up(contents.info, here) is not None
    assert not tensorrt_rebuild.build_once(contents, module, GPU)
    with tensorrt_cache.building(contents.info, here):
        assert not tensorrt_rebuild.build_once(contents, module, GPU)


def test_the_process_that_builds_aside_fills_the_cache(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = with_builder(machine(), RTX)
    here = Platform.here(module, GPU)
    path = artifact(tmp_path / "a", replace(here, **L4))
    niceness: list[int] = []
    monkeypatch.setattr(os, "nice", niceness.append)  # of this process, for good
    tensorrt_rebuild.main(path.parent, path.name, 0, "tensorrt")
    assert niceness == [10]
    assert tensorrt_cache.look_up(PlanInfo.read(path.with_name(INFO)), here) is not None


def test_a_home_that_cannot_be_written_does_not_keep_a_plan_from_being_built(
    machine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = with_builder(machine(), RTX)
    contents = Contents.read(artifact(tmp_path / "a", Platform.here(module, GPU)).parent)
    (tmp_path / "home").write_text("a file")
    assert len(tensorrt_rebuild.build_here(contents, module, GPU)) > 1000
    assert "tensorrt_cache_unwritable" in caplog.text


def test_the_process_that_builds_aside_ends_and_its_end_is_logged(
    machine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process finds no such card on any machine, and says so."""
    contents = Contents.read(artifact(tmp_path / "a", Platform.here(machine(), GPU)).parent)
    thread = tensorrt_rebuild.start(contents, replace(GPU, index=999), "tensorrt_rtx", "name:1")
    assert isinstance(thread, threading.Thread)
    thread.join(timeout=60)
    assert "tensorrt_rebuild_failed model=name:1 code=1" in caplog.text
