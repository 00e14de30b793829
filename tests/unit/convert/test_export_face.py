from __future__ import annotations

import inspect
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from frameworks.convert.formats import Format, RuntimeProvider, select
from frameworks.convert.samples import InvalidSamples
from frameworks.convert.staging import PathTaken
from frameworks.errors import SampleFailed
from runtime import convert as nav
from runtime.convert import arguments, checkout, source
from runtime.convert.arguments import Given
from runtime.convert.profiler_config import InvalidProfilerConfig
from runtime.convert.reading import InvalidArguments
from runtime.convert.torch import source_of
from store import ModelStore, Signature
from tests.support.two_heads import TwoHeads, texts

TORCH_ARGUMENTS = """
model dataloader model_name=None opset=None target_formats=None jit_options=None workdir=None
override_workdir=False sample_count=None atol=None rtol=None input_names=None output_names=None
dynamic_axes=None trt_dynamic_axes=None target_precisions=None max_workspace_size=None target_device=None
disable_git_info=False batch_dim=0 onnx_runtimes=None run_profiling=True profiler_config=None
"""
TENSORFLOW_ARGUMENTS = """
model dataloader target_precisions=None max_workspace_size=None minimum_segment_size=3 model_name=None
target_formats=None workdir=None override_workdir=False sample_count=None opset=None atol=None rtol=None
input_names=None output_names=None disable_git_info=False batch_dim=0 onnx_runtimes=None run_profiling=True
profiler_config=None
"""


def check(**given: Any) -> arguments.Asked:
    return arguments.check(Given(**given), "pytorch")


def described(model: torch.nn.Module, loader: Any, tmp_path: Path, **given: Any) -> Signature:
    """The signature that an export gives to its source."""
    from frameworks.convert.samples import collect
    from runtime.convert.export import _names

    origin = source_of(model)
    asked = check(**given)
    samples = collect(
        loader,
        names=asked.input_names or _names(loader, origin),
        batch_dim=asked.batch_dim,
        convert=origin.convert,
    )
    store = ModelStore(tmp_path / "models")
    saved = source.save(origin, samples, asked, store)
    assert [model.tag for model in store.list()] == [saved.tag]
    return saved.info.signatures["__call__"]


def shapes(signature: Signature) -> dict[str, list[int]]:
    return {spec.name: list(spec.shape) for spec in (*(signature.inputs or ()), *(signature.outputs or ()))}


# -- arguments


@pytest.mark.parametrize(
    ("name", "expected"), [("torch", TORCH_ARGUMENTS), ("tensorflow", TENSORFLOW_ARGUMENTS)]
)
def test_arguments_names_order_and_defaults_are_those_of_the_interface(name: str, expected: str) -> None:
    found = inspect.signature(getattr(nav, name).export).parameters.values()
    assert [
        one.name if one.default is one.empty else f"{one.name}={one.default}"
        for one in found
        if one.kind is one.POSITIONAL_OR_KEYWORD
    ] == expected.split()
    assert {"limits", "providers", "progress"} <= {one.name for one in found if one.kind is one.KEYWORD_ONLY}


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidArguments) as failure:
        check(
            model_name="Not A Name",
            target_formats=("onx",),
            opset=0,
            sample_count="many",
            atol="small",
            input_names="input",
            dynamic_axes={"input": "batch"},
            trt_dynamic_axes={"input": {0: (8, 1, 4)}},
            batch_dim=-1,
            onnx_runtimes=("gpu",),
            max_workspace_size=2.5,
        )
    message = failure.value.message
    for part in (
        "model_name: ",
        "target_formats: no format is named 'onx'; did you mean 'onnx'?",
        "opset: it must be a whole number from 1 up",
        "sample_count: ",
        "settings: ",
        "input_names: it must be a tuple of names",
        "dynamic_axes: the axes of 'input'",
        "batch_dim: ",
        "onnx_runtimes: there is no RuntimeProvider 'gpu'",
        "max_workspace_size: ",
    ):
        assert part in message


def test_extents_for_tensorrt_must_ascend() -> None:
    with pytest.raises(InvalidArguments, match=r"axis 0 needs \(least, usual, most\)"):
        check(trt_dynamic_axes={"input": {0: (8, 1, 4)}})


def test_nothing_narrowed_asks_for_everything() -> None:
    assert check().targets == ()


def test_formats_jit_types_and_precisions_narrow_the_variants() -> None:
    assert check(target_formats="ONNX").targets == select(["onnx", "onnx-legacy"])
    assert check(target_formats=(Format.TORCHSCRIPT,), jit_options="trace").targets == select(
        ["torchscript-trace"]
    )
    assert check(target_formats=("trt", "onnx"), target_precisions=("FP16", "int8")).targets == select(
        ["onnx", "onnx-legacy", "trt-fp16", "trt-int8"]
    )
    narrowed = check(jit_options="script", target_precisions="fp32").targets
    assert {str(variant) for variant in narrowed} == {
        *("torchscript-script", "torch-export", "torch-aoti", "torch-trt-fp32", "onnx", "onnx-legacy"),
        "trt-fp32",
    }


def test_a_format_that_the_model_cannot_become_is_named() -> None:
    with pytest.raises(InvalidArguments, match="cannot become 'tf-savedmodel'; it can become torchscript, "):
        check(target_formats=("onnx", "tf-savedmodel"))


def test_two_words_for_the_runtimes_are_one_too_many() -> None:
    assert check(providers="cpu").providers == (RuntimeProvider.CPU,)
    with pytest.raises(InvalidArguments, match="onnx_runtimes says the same"):
        check(providers="cpu", onnx_runtimes="cpu")


def test_the_largest_batch_covers_what_is_measured_and_profiled() -> None:
    assert check().settings.max_batch_size == 8
    assert check(profiler_config=nav.ProfilerConfig(batch_sizes=(1, 64))).settings.max_batch_size == 64
    assert check(trt_dynamic_axes={"x": {0: (1, 4, 32)}}).settings.max_batch_size == 32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_sizes": []}, "batch_sizes must be whole numbers from 1 up"),
        ({"batch_sizes": [0]}, "batch_sizes must be whole numbers from 1 up"),
        ({"measurement_mode": "time"}, "one of time_windows, count_windows, not 'time'"),
        ({"measurement_interval": 0}, "measurement_interval is above 0 ms"),
        ({"max_trials": 2}, "max_trials is at least 3"),
        ({"stability_percentage": "ten"}, "the profiler cannot be configured so"),
    ],
)
def test_a_profiler_config_that_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidProfilerConfig, match=message):
        nav.ProfilerConfig(**given)


def test_a_profiler_config_has_the_documented_defaults() -> None:
    config = nav.ProfilerConfig()
    assert config.measurement_mode is nav.MeasurementMode.TIME_WINDOWS
    assert config.for_dataloader(16).to_settings() == {
        "batch_sizes": [1, 16],
        "measurement_mode": "time_windows",
        "measurement_interval": 5000.0,
        "measurement_request_count": None,
        "stability_percentage": 10.0,
        "max_trials": 10,
    }


# -- the source


def test_inputs_are_named_after_the_parameters_and_rows_are_dynamic(tmp_path: Path) -> None:
    signature = described(torch.nn.Linear(5, 7), [torch.ones(3, 5)], tmp_path)
    assert signature.batchable
    assert shapes(signature) == {"input": [-1, 5], "output_0": [-1, 7]}


def test_axes_that_differ_between_samples_are_dynamic_in_inputs_and_outputs(tmp_path: Path) -> None:
    signature = described(TwoHeads(), texts(), tmp_path, output_names=("pooled", "tokens"))
    assert shapes(signature) == {
        "ids": [-1, -1],
        "mask": [-1, -1],
        "pooled": [-1, 3],
        "tokens": [-1, -1, 3],
    }
    assert [spec.datatype for spec in signature.inputs or ()] == ["INT64", "INT64"]


def test_dynamic_axes_open_what_the_samples_do_not_show(tmp_path: Path) -> None:
    axes = {"ids": {0: "batch", 1: "seq"}, "mask": [1], "tokens": {1: "seq"}}
    signature = described(
        TwoHeads(), texts()[:1], tmp_path, output_names=("pooled", "tokens"), dynamic_axes=axes
    )
    assert shapes(signature)["ids"] == [-1, -1]
    assert shapes(signature)["mask"] == [-1, -1]
    assert shapes(signature)["tokens"] == [-1, -1, 3]


def test_tuples_are_named_by_input_names(tmp_path: Path) -> None:
    loader = [(item["ids"], item["mask"]) for item in texts()]
    signature = described(TwoHeads(), loader, tmp_path, input_names=("a", "b"))
    assert list(shapes(signature))[:2] == ["a", "b"]


def test_a_model_without_a_batch_axis_has_fixed_shapes(tmp_path: Path) -> None:
    signature = described(torch.nn.Softmax(0), [torch.ones(3), torch.zeros(3)], tmp_path, batch_dim=None)
    assert not signature.batchable
    assert shapes(signature) == {"input": [3], "output_0": [3]}


def test_a_script_module_and_a_program_are_sources_too() -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        script = torch.jit.script(torch.nn.Linear(5, 7))
    assert source_of(script).module == "torchscript"
    assert source_of(script).names(1) == ("input",)
    program = torch.export.export(torch.nn.Linear(5, 7), (torch.ones(2, 5),))
    assert source_of(program).module == "torch_export"
    with pytest.raises(InvalidArguments, match="ExportedProgram, not str"):
        source_of("a path")


def test_a_model_without_rows_says_what_to_give(tmp_path: Path) -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean()

    with pytest.raises(SampleFailed, match="a model without a batch axis needs batch_dim=None"):
        described(Mean(), [torch.ones(3, 5)], tmp_path)


def test_labels_in_the_dataloader_are_told(tmp_path: Path) -> None:
    loader = [(torch.ones(3, 5), torch.zeros(3, dtype=torch.int64))]
    with pytest.raises(SampleFailed, match="without labels"):
        described(torch.nn.Linear(5, 7), loader, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output_names": ("a", "b", "c")}, "output_names has 3 names, the model has 2 outputs"),
        ({"dynamic_axes": {"idz": [0]}}, "dynamic_axes names 'idz'; there are ids, mask, output_0, output_1"),
        ({"trt_dynamic_axes": {"idz": {0: (1, 2, 3)}}}, "trt_dynamic_axes names 'idz'; the inputs are ids"),
    ],
)
def test_names_that_are_not_there_are_told(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        described(TwoHeads(), texts(), tmp_path, **given)


def test_the_model_and_its_process_are_left_as_they_are(tmp_path: Path) -> None:
    model = TwoHeads()
    threads = torch.get_num_threads()
    described(model, texts(), tmp_path)
    assert model.training
    assert model.dropout.training
    assert torch.get_num_threads() == threads


# -- the workspace


def test_a_workspace_that_exists_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    class Unread:
        def __len__(self) -> int:
            raise AssertionError

        __iter__ = __len__

    (tmp_path / "linear.nav.workspace").mkdir()
    with pytest.raises(PathTaken, match="override_workdir=True") as failure:
        nav.torch.export(torch.nn.Linear(5, 7), Unread(), "linear", workdir=tmp_path)
    assert failure.value.field == "override_workdir"


@pytest.mark.parametrize("loader", [[], [torch.ones(3, 4)], [torch.ones(3, 5), torch.ones(3)], 7])
def test_an_export_that_cannot_begin_leaves_the_old_workspace(tmp_path: Path, loader: Any) -> None:
    old = tmp_path / "linear.nav.workspace"
    old.mkdir()
    (old / "results").touch()
    with pytest.raises((InvalidSamples, SampleFailed)):
        nav.torch.export(torch.nn.Linear(5, 7), loader, "linear", workdir=tmp_path, override_workdir=True)
    assert [path.name for path in old.iterdir()] == ["results"]
    assert [path.name for path in tmp_path.iterdir() if path.name != ".work"] == ["linear.nav.workspace"]


def test_an_export_that_cannot_begin_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(SampleFailed):
        nav.torch.export(torch.nn.Linear(5, 7), [torch.ones(3, 4)], "linear", workdir=tmp_path)
    assert not (tmp_path / "linear.nav.workspace").exists()


def test_the_checkout_is_described_where_there_is_one(tmp_path: Path) -> None:
    assert checkout.describe(tmp_path) == {}
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in (["init", "-q", "-b", "work"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    found = checkout.describe(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", str(found["commit"]))
    assert (found["branch"], found["dirty"]) == ("work", False)
