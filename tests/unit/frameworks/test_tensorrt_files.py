from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from frameworks import InvalidModel
from frameworks.trt import specs as tensorrt_specs
from frameworks.trt.files import BESIDE, Contents, copy_graph, graph_digest, replace
from frameworks.trt.plan import INFO, PLAN, BuildSettings, PlanInfo, Platform
from store import Signature, TensorSpec
from tests.support.tensorrt_graphs import mlp

ANY_CARD = Platform(library="tensorrt_rtx", version="1.7")
RECORD = PlanInfo(
    settings=BuildSettings(),
    inputs=(TensorSpec("x", "FP32", (-1, 3)), TensorSpec("mask", "BOOL", (-1,))),
    outputs=(TensorSpec("y", "FP32", (-1, 3)),),
)


def external(folder: Path, location: str) -> Path:
    """Save a graph that keeps its tensors in another file."""
    folder.mkdir(exist_ok=True)
    path = folder / "graph.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def test_a_record_without_its_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / INFO).write_bytes(RECORD.built(ANY_CARD, b"plan").to_json())
    with pytest.raises(InvalidModel, match=r"model\.plan is not there"):
        Contents.read(tmp_path)


def test_a_record_that_promises_a_graph_only_needs_it(tmp_path: Path) -> None:
    record = PlanInfo(settings=BuildSettings(), graph_digest="sha256:graph")
    (tmp_path / INFO).write_bytes(record.to_json())
    with pytest.raises(InvalidModel, match="neither a plan nor a graph"):
        Contents.read(tmp_path)
    (tmp_path / BESIDE).write_bytes(mlp().SerializeToString())
    contents = Contents.read(tmp_path)
    with pytest.raises(InvalidModel, match="no plan has been built yet"):
        contents.plan()
    with pytest.raises(InvalidModel, match="is not the graph"):
        contents.graph()


def test_the_digest_covers_the_tensors_beside_the_graph(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    before = graph_digest(path)
    (tmp_path / "weights.bin").write_bytes(b"other")
    assert graph_digest(path) != before


def test_a_graph_is_copied_with_its_tensors_and_onto_itself(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    source = external(tmp_path / "source", "weights.bin")
    copy = copy_graph(source, target)
    assert graph_digest(copy) == graph_digest(source)
    assert copy_graph(copy, target) == copy
    assert {path.name for path in target.iterdir()} == {BESIDE, "weights.bin"}


@pytest.mark.parametrize("name", [PLAN, INFO])
def test_tensors_in_a_file_with_one_of_our_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidModel, match="which is another file here"):
        copy_graph(external(tmp_path, name), tmp_path)


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="target"):
        replace(tmp_path / "target", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ({"inputs": (TensorSpec("x", "FP32", (-1, 3)),)}, "takes the input 'mask', which the signature"),
        ({"inputs": (TensorSpec("x", "INT8", (-1, 3)),)}, "is INT8 in the model and FP32 in TensorRT"),
        ({"outputs": (TensorSpec("z", "FP32", (-1, 3)),)}, "no tensor 'z'; it has y"),
    ],
)
def test_signature_and_plan_must_mean_the_same_tensors(specs: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        tensorrt_specs.complete(Signature(**specs), RECORD, "__call__")
