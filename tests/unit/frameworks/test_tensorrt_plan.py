from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frameworks import InvalidModel
from frameworks.errors import MissingFramework
from frameworks.trt import module as tensorrt_module
from frameworks.trt.plan import INFO, BuildSettings, PlanInfo, Platform
from store import TensorSpec
from tests.support.fake_tensorrt import GPU, fake_tensorrt

HERE = Platform.here(fake_tensorrt(), GPU)
INFO_OF_PLAN = PlanInfo(
    settings=BuildSettings(
        precision="fp16",
        profile={"x": ((1, 3), (4, 3), (8, 3))},
        max_workspace_bytes=1 << 20,
    ),
    graph_digest="sha256:graph",
    inputs=(TensorSpec("x", "FP32", (-1, 3)),),
    outputs=(TensorSpec("y", "FP32", (-1, 3)),),
    methods={"predict": {"score": "y"}},
).built(HERE, b"plan")


def test_the_record_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / INFO).write_bytes(INFO_OF_PLAN.to_json())
    assert PlanInfo.read(tmp_path / INFO) == INFO_OF_PLAN
    unbuilt = PlanInfo(settings=BuildSettings())
    (tmp_path / INFO).write_bytes(unbuilt.to_json())
    assert PlanInfo.read(tmp_path / INFO) == unbuilt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("platform"), "platform"),
        (lambda d: d["settings"].update(precision="fp8"), "precision cannot be 'fp8'"),
        (lambda d: d["settings"].update(surprise=1), "surprise"),
        (lambda d: d["settings"].update(max_workspace_bytes=0), "max_workspace_bytes"),
        (lambda d: d["settings"].update(profile={"x": 1}), "profile of input 'x'"),
        (lambda d: d["platform"].update(colour="red"), "colour"),
        (lambda d: d.update(inputs=[{"name": "x"}]), "lacks 'datatype'"),
        (lambda d: d.update(methods=[]), "cannot be read"),
    ],
)
def test_a_record_with_a_wrong_field_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    document = json.loads(INFO_OF_PLAN.to_json())
    change(document)
    (tmp_path / INFO).write_text(json.dumps(document))
    with pytest.raises(InvalidModel, match=message):
        PlanInfo.read(tmp_path / INFO)


def test_a_record_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / INFO).write_text("{")
    with pytest.raises(InvalidModel, match="cannot be read"):
        PlanInfo.read(tmp_path / INFO)


def test_a_plan_runs_where_it_was_built() -> None:
    assert INFO_OF_PLAN.differences(HERE) == ""


@pytest.mark.parametrize(
    "other",
    [
        {"card": "NVIDIA L4"},
        {"capability": "9.0"},
        {"driver": "12.8"},
        {"version": "11.4"},
        {"library": "tensorrt_rtx"},
    ],
)
def test_every_difference_in_the_platform_is_told_with_both_sides(other: dict[str, str]) -> None:
    there = replace(HERE, **other)
    text = INFO_OF_PLAN.differences(there)
    assert str(HERE) in text
    assert str(there) in text
    assert there.key() != HERE.key()


def test_a_plan_of_rtx_runs_on_any_card_of_its_capabilities() -> None:
    built = Platform(library="tensorrt_rtx", version="1.7")
    here = Platform.here(fake_tensorrt(name="tensorrt_rtx", version="1.7"), GPU)
    assert PlanInfo(settings=BuildSettings(), platform=built).differences(here) == ""
    some = PlanInfo(settings=BuildSettings(capabilities=("8.6", "8.9")), platform=built)
    assert some.differences(here) == ""
    other = PlanInfo(settings=BuildSettings(capabilities=("12.0",)), platform=built)
    assert "compute capability 12.0" in other.differences(here)


def test_a_model_without_a_plan_says_so() -> None:
    assert "no plan has been built" in PlanInfo(settings=BuildSettings()).differences(HERE)


def test_graph_and_settings_decide_on_the_place_in_the_cache() -> None:
    settings = replace(INFO_OF_PLAN.settings, max_workspace_bytes=2)
    others = [replace(INFO_OF_PLAN, graph_digest="sha256:other"), replace(INFO_OF_PLAN, settings=settings)]
    assert len({one.cache_digest() for one in (INFO_OF_PLAN, *others)}) == 3
    assert replace(INFO_OF_PLAN, plan_digest="").cache_digest() == INFO_OF_PLAN.cache_digest()


def test_the_installed_library_is_found_by_name() -> None:
    module = tensorrt_module.find("tensorrt_rtx")
    assert tensorrt_module.library(module) == "tensorrt_rtx"
    assert tensorrt_module.installed_versions()["tensorrt_rtx"] == module.__version__
    assert tensorrt_module.is_strongly_typed(module)


def test_a_missing_library_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_module, "LIBRARIES", ("no_tensorrt", "no_tensorrt_rtx"))
    with pytest.raises(MissingFramework, match=r"\[no-tensorrt\].* or .*\[no-tensorrt-rtx\]"):
        tensorrt_module.find()


def test_a_library_that_cannot_be_imported_tells_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_tensorrt.py").write_text("raise ImportError('libnvinfer.so.11 is not there')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingFramework, match=r"cannot be imported: libnvinfer\.so\.11 is not there"):
        tensorrt_module.find("broken_tensorrt")
