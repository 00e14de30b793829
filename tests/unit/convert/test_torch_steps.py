from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch

from frameworks import torch_export, torchscript
from frameworks.convert.formats import Variant
from frameworks.convert.steps import onnx_file
from frameworks.convert.steps import torch as steps
from frameworks.convert.work import ARTIFACTS, Settings, Work
from store import Signature
from tests.support.torch_models import (
    BERT,
    CNN,
    EVERY,
    MLP,
    PAIR,
    ROWS,
    SAME,
    STEPS,
    Branch,
    Cnn,
    Embedder,
    Mlp,
    Pair,
    Same,
    Shelf,
    Wide,
    answers,
    bert,
    convert_and_compare,
    export_pair,
    floats,
    opened,
    scripted,
    spec,
    task,
    tokens,
)


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def exported(save: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_pair(save, tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize("variant", EVERY)
def test_an_mlp_answers_alike_in_each_format(save: Shelf, tmp_path: Path, variant: str) -> None:
    work = task(save("mlp", Mlp, MLP), variant, tmp_path, {"x": floats(1, 4)})
    made = convert_and_compare(work, *({"x": floats(rows, 4)} for rows in (1, 2, 5)))
    assert made.methods == ("__call__",)
    assert made.facts["torch"] == torch.__version__


@pytest.mark.parametrize("variant", EVERY)
def test_a_cnn_answers_alike_in_each_format(save: Shelf, tmp_path: Path, variant: str) -> None:
    work = task(save("cnn", Cnn, CNN), variant, tmp_path, {"image": floats(1, 3, 8, 8)})
    convert_and_compare(work, *({"image": floats(rows, 3, 8, 8)} for rows in (1, 2, 5)))


@pytest.mark.parametrize("variant", EVERY)
def test_tensors_go_by_the_names_of_the_signature(save: Shelf, tmp_path: Path, variant: str) -> None:
    samples = [{"right": floats(1, size), "left": floats(1, size)} for size in (1, 4)]
    work = task(save("pair", Pair, PAIR), variant, tmp_path, *samples)
    extents = ((1, 1), (2, 4), (5, 9))
    convert_and_compare(work, *({"right": floats(*one), "left": floats(*one)} for one in extents))


@pytest.mark.parametrize("variant", ["torchscript-trace", "torch-export", "onnx", "onnx-legacy"])
def test_a_transformer_takes_other_lengths(save: Shelf, tmp_path: Path, variant: str) -> None:
    work = task(save("bert", bert, BERT), variant, tmp_path, tokens(1, 8), tokens(1, 16))
    convert_and_compare(work, tokens(1, 5), tokens(2, 8), tokens(5, 33), tokens(8, 64))


@pytest.mark.parametrize("variant", ["torchscript-trace", "torch-export", "onnx", "onnx-legacy"])
def test_a_layer_of_torchs_own_attention_answers_alike(save: Shelf, tmp_path: Path, variant: str) -> None:
    def encoder() -> torch.nn.Module:
        return torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()

    fixed = Signature(batchable=True, inputs=(spec("x", -1, 6, 8),), outputs=(spec("y", -1, 6, 8),))
    work = task(save("encoder", encoder, {"__call__": fixed}), variant, tmp_path, {"x": floats(1, 6, 8)})
    convert_and_compare(work, *({"x": floats(rows, 6, 8)} for rows in (1, 2, 5)))


@pytest.mark.parametrize("variant", EVERY)
def test_values_that_are_shared_get_all_their_names(save: Shelf, tmp_path: Path, variant: str) -> None:
    work = task(save("same", Same, SAME), variant, tmp_path, {"x": floats(1, 3), "ignored": floats(1, 2)})
    convert_and_compare(work, {"x": floats(5, 3), "ignored": floats(4, 2)})


@pytest.mark.parametrize("variant", ["onnx", "onnx-legacy"])
def test_a_graph_has_the_names_and_axes_of_the_signature(save: Shelf, tmp_path: Path, variant: str) -> None:
    samples = [{"right": floats(1, size), "left": floats(1, size)} for size in (2, 4)]
    work = task(save("pair", Pair, PAIR), variant, tmp_path, *samples)
    STEPS[variant](work)
    graph = onnx.load(str(work.target)).graph
    assert [value.name for value in graph.input] == ["right", "left"]
    assert [value.name for value in graph.output] == ["total", "product"]
    for value in (*graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        assert axes[0].dim_param == "batch"
        assert all(axis.dim_param not in ("", "batch") for axis in axes[1:])


@pytest.mark.parametrize("variant", EVERY)
def test_a_method_of_another_name_is_converted(save: Shelf, tmp_path: Path, variant: str) -> None:
    embed = Signature(batchable=True, inputs=(spec("x", -1, 4),), outputs=(spec("y", -1, 2),))
    work = task(save("embedder", Embedder, {"embed": embed}), variant, tmp_path, {"x": floats(1, 4)})
    assert convert_and_compare(work, {"x": floats(3, 4)}).methods == ("embed",)


def test_scripting_keeps_a_branch(save: Shelf, tmp_path: Path) -> None:
    work = task(
        save("branch", Branch, ROWS), "torchscript-script", tmp_path, {"x": np.ones((1, 3), np.float32)}
    )
    convert_and_compare(work, {"x": np.ones((2, 3), np.float32)}, {"x": -np.ones((2, 3), np.float32)})


def test_tracing_a_branch_is_told(save: Shelf, tmp_path: Path) -> None:
    work = task(
        save("branch", Branch, ROWS), "torchscript-trace", tmp_path, {"x": np.ones((1, 3), np.float32)}
    )
    made = convert_and_compare(work, {"x": np.ones((2, 3), np.float32)})
    (said,) = cast(list[str], made.facts["warnings"])
    assert "trace" in said
    wrong = answers(opened(work, made), {"x": -np.ones((1, 3), np.float32)})
    assert wrong["y"].tolist() == [[-2, -2, -2]]


def test_an_exported_program_takes_the_batches_that_were_asked_for(save: Shelf, tmp_path: Path) -> None:
    work = task(save("mlp", Mlp, MLP), "torch-export", tmp_path, {"x": floats(1, 4)}, max_batch_size=3)
    made = steps.export(work)
    assert made.facts["max_batch_size"] == 3
    method = opened(work, made)
    assert answers(method, {"x": floats(3, 4)})["scores"].shape == (3, 3)
    with pytest.raises(Exception, match="takes only inputs with"):
        method({"x": floats(4, 4)})


def test_a_program_for_single_rows_can_be_made(save: Shelf, tmp_path: Path) -> None:
    work = task(save("mlp", Mlp, MLP), "torch-export", tmp_path, {"x": floats(1, 4)}, max_batch_size=1)
    assert convert_and_compare(work, {"x": floats(1, 4)}).facts["max_batch_size"] == 1


@pytest.mark.parametrize(("variant", "opset"), [("onnx", 19), ("onnx-legacy", 13)])
def test_the_opset_is_the_wanted_one(save: Shelf, tmp_path: Path, variant: str, opset: int) -> None:
    work = task(save("mlp", Mlp, MLP), variant, tmp_path, {"x": floats(1, 4)}, opset=opset)
    assert convert_and_compare(work, {"x": floats(2, 4)}).facts["opset"] == opset


@pytest.mark.parametrize("variant", ["torchscript-script", "onnx-legacy"])
def test_torchscript_keeps_its_branches(save: Shelf, tmp_path: Path, variant: str) -> None:
    model = save("script_branch", lambda: scripted(Branch()), ROWS, torchscript)
    work = task(model, variant, tmp_path, {"x": np.ones((1, 3), np.float32)})
    convert_and_compare(work, {"x": np.ones((2, 3), np.float32)}, {"x": -np.ones((2, 3), np.float32)})


def test_torchscript_that_returns_a_mapping_becomes_onnx(save: Shelf, tmp_path: Path) -> None:
    model = save("script_pair", lambda: scripted(Pair()), PAIR, torchscript)
    work = task(model, "onnx-legacy", tmp_path, {"right": floats(1, 4), "left": floats(1, 4)})
    convert_and_compare(work, {"right": floats(3, 6), "left": floats(3, 6)})


def test_an_exported_program_becomes_onnx(save: Shelf, exported: Path, tmp_path: Path) -> None:
    model = save("program", lambda: exported, PAIR, torch_export)
    work = task(model, "onnx", tmp_path, {"right": floats(1, 4), "left": floats(1, 4)})
    convert_and_compare(work, {"right": floats(3, 6), "left": floats(3, 6)})


@pytest.mark.slow
def test_a_package_is_compiled_of_an_exported_program(save: Shelf, exported: Path, tmp_path: Path) -> None:
    model = save("pair", Pair, PAIR)
    found = Variant.parse("torch-aoti")
    work = Work(
        variant=found,
        start=Variant.parse("torch-export"),
        model=model,
        artifact=exported,
        target=tmp_path / ARTIFACTS[found.format],
        signatures=PAIR,
        samples=({"right": floats(1, 4), "left": floats(1, 4)},),
        settings=Settings(max_batch_size=8),
    )
    extents = ((1, 4), (2, 4), (5, 9))
    made = convert_and_compare(work, *({"right": floats(*one), "left": floats(*one)} for one in extents))
    assert made.facts["max_batch_size"] == 6


def test_a_step_may_start_from_torchscript(save: Shelf, tmp_path: Path) -> None:
    (tmp_path / "script").mkdir()
    (tmp_path / "onnx").mkdir()
    script = task(save("mlp", Mlp, MLP), "torchscript-script", tmp_path / "script", {"x": floats(1, 4)})
    steps.script(script)
    work = replace(
        task(script.model, "onnx-legacy", tmp_path / "onnx", {"x": floats(1, 4)}),
        start=script.variant,
        artifact=script.target,
    )
    convert_and_compare(work, {"x": floats(5, 4)})


def test_large_weights_lie_beside_the_graph(save: Shelf, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    small = task(save("wide", Wide, MLP), "onnx", tmp_path / "small", {"x": floats(1, 4)})
    made = steps.onnx(small)
    work = replace(small, target=tmp_path / "model.onnx")
    model, tried = onnx.load(str(small.target)), list[Path]()
    onnx_file.write(model, work.target, tried.append, limit=1000)
    assert [path.name for path in tried] == ["model.onnx"]
    assert work.target.with_name("model.onnx.data").stat().st_size > 1000
    given = {"x": floats(5, 4)}
    wanted = answers(opened(small, made), given)["scores"]
    np.testing.assert_array_equal(answers(opened(work, made), given)["scores"], wanted)
    onnx_file.write(onnx.load(str(small.target)), work.target, tried.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "small"]
