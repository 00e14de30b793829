from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

import runtime
from frameworks.arrays import as_array
from frameworks.convert import graph
from frameworks.convert.formats import Format, RuntimeProvider, Status, Variant
from frameworks.convert.orders import Event
from frameworks.convert.staging import PathTaken
from frameworks.convert.workspace import Workspace
from runtime import convert as nav
from runtime.convert import arguments, export
from runtime.convert.choosing import VariantUnavailable
from runtime.convert.descriptor import PackageDescriptor
from runtime.convert.reading import InvalidArguments
from runtime.convert.repeating import NoSamples
from runtime.convert.runner import InvalidFeed, RunnerInactive
from runtime.convert.source import Source
from tests.support import conversions

QUICK = nav.ProfilerConfig(
    batch_sizes=[1, 4], measurement_mode="COUNT_WINDOWS", measurement_request_count=3, max_trials=3
)


@pytest.fixture(scope="module", autouse=True)
def paths() -> Iterator[None]:
    """Let models of the adapter ``python`` become what ``tests.support.conversions`` says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_EDGES", conversions.edges())
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PackageDescriptor:
    """The descriptor of one real run: one right format, one wrong one, and others that could not be made."""
    asked = arguments.check(
        arguments.Given(
            model_name="double", workdir=tmp_path_factory.mktemp("workdir"), profiler_config=QUICK
        ),
        "python",
    )
    source = Source(
        module="python", model=conversions.double, convert=as_array, names=lambda _: ("x",), threads=1
    )
    items = [np.full((3, 2), number, np.float32) for number in range(4)]
    return export.export(source, items, asked)


@pytest.fixture
def descriptor(made: PackageDescriptor, tmp_path: Path) -> PackageDescriptor:
    """A descriptor of a copy, to change."""
    shutil.copytree(made.workspace.path, tmp_path / "double.nav.workspace")
    return PackageDescriptor(Workspace(tmp_path / "double.nav.workspace"))


@pytest.fixture
def package(made: PackageDescriptor, tmp_path: Path) -> Path:
    made.save(tmp_path / "double.nav")
    return tmp_path / "double.nav"


def test_a_format_is_good_when_one_variant_answers_rightly(made: PackageDescriptor) -> None:
    assert made.get_formats_status() == {
        Format.TORCHSCRIPT: False,
        Format.ONNX: True,
        Format.TENSORRT: False,
    }


def test_the_detailed_status_tells_each_variant_and_runtime(made: PackageDescriptor) -> None:
    detailed = made.get_formats_status_detailed()
    assert detailed["onnx"] == {"conversion": Status.OK, "CPUExecutionProvider": Status.OK}
    assert detailed["onnx-legacy"] == {"conversion": Status.OK, "CPUExecutionProvider": Status.FAIL}
    assert detailed["torchscript-trace"] == {"conversion": Status.FAIL}
    assert detailed["trt-fp16"] == {"conversion": Status.SKIPPED}


def test_a_status_is_asked_by_enumerations_or_names_in_any_case(made: PackageDescriptor) -> None:
    assert made.get_status(nav.Format.ONNX)
    assert made.get_status("onnx", "CPU")
    assert made.get_status("Onnx", RuntimeProvider.CPU, exporter="DYNAMO")
    assert not made.get_status("onnx", exporter="legacy")
    assert not made.get_status("onnx", "CUDAExecutionProvider")
    assert not made.get_status("TensorRT", precision="FP16")
    assert not made.get_status("torch-export")


def test_an_unknown_name_proposes_the_nearest(made: PackageDescriptor) -> None:
    with pytest.raises(InvalidArguments, match="no Format 'onx'; did you mean 'onnx'"):
        made.get_status("onx")
    with pytest.raises(InvalidArguments, match="no TensorRTPrecision 'fp17'; did you mean 'fp16'"):
        made.get_model("trt", precision="fp17")


def test_performance_is_that_of_the_best_right_variant(made: PackageDescriptor) -> None:
    performance = made.get_formats_performance()
    assert list(performance) == [Format.ONNX]
    measured = made.report.conversions[Variant(Format.ONNX)].executions[RuntimeProvider.CPU].performance
    assert [one.batch_size for one in measured] == [1, 4]
    assert performance[Format.ONNX] == measured[0].median_ms > 0


def test_a_model_is_what_its_framework_loads(made: PackageDescriptor) -> None:
    model = made.get_model("onnx")
    assert isinstance(model, onnx.ModelProto)
    assert model.graph.input[0].name == "x"


def test_a_variant_that_failed_says_why(made: PackageDescriptor) -> None:
    with pytest.raises(VariantUnavailable, match=r"torchscript script is not .* this model has no such form"):
        made.get_model("torchscript", "script")
    with pytest.raises(VariantUnavailable, match="trt-fp16: skipped: the tool is not here; install it"):
        made.get_runner("trt", precision="fp16")
    with pytest.raises(VariantUnavailable, match="it was not asked for; the package has torchscript-script"):
        made.get_runner("tf-savedmodel")
    with pytest.raises(VariantUnavailable, match=r"was not tried on CUDA.*; the runtimes are: CPUExecution"):
        made.get_runner("onnx", runtime="cuda")


def test_a_runner_answers_as_the_source_does(made: PackageDescriptor) -> None:
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    with (
        made.get_runner("onnx", runtime=nav.RuntimeProvider.CPU) as runner,
        made.get_source_runner() as source,
    ):
        assert runner.name == "onnx on CPUExecutionProvider"
        found = runner.infer({"x": x})
        assert list(found) == ["y"]
        np.testing.assert_array_equal(found["y"], source({"x": x})["y"])
        assert runner.last_inference_time() > 0
        assert runner.is_active
    assert not runner.is_active


def test_a_runner_takes_lists_and_read_only_arrays(made: PackageDescriptor) -> None:
    x = np.ones((1, 2), np.float32)
    x.flags.writeable = False
    with made.get_runner("onnx") as runner:
        assert runner.infer({"x": x})["y"].tolist() == [[2, 2]]


def test_a_runner_is_used_only_while_it_is_active(made: PackageDescriptor) -> None:
    runner = made.get_runner("onnx")
    with pytest.raises(RunnerInactive, match="use it in a with block"):
        runner.infer({"x": np.ones((1, 2), np.float32)})
    runner.activate()
    runner.infer({"x": np.ones((1, 2), np.float32)})
    runner.deactivate()
    with pytest.raises(RunnerInactive):
        runner.infer({"x": np.ones((1, 2), np.float32)})


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, "missing is 'x'"),
        ({"x": np.ones((1, 2), np.float32), "z": 1}, "the inputs are x; unknown is 'z'"),
        ({"x": np.ones((1, 2))}, "input 'x' has datatype FP64; it must be FP32"),
        ({"x": np.ones((1, 3), np.float32)}, r"input 'x' has shape \[1, 3\]; it must be \[-1, 2\]"),
        ({"x": np.ones(2, np.float32)}, r"input 'x' has shape \[2\]"),
        ({"x": object()}, "input 'x': "),
    ],
)
def test_wrong_inputs_are_named(made: PackageDescriptor, feed: dict[str, object], message: str) -> None:
    with made.get_runner("onnx") as runner, pytest.raises(InvalidFeed, match=message):
        runner.infer(feed)


def test_a_runner_tells_its_inputs(made: PackageDescriptor) -> None:
    metadata = made.get_runner("onnx").get_input_metadata()
    assert list(metadata) == ["x"]
    assert metadata["x"].dtype == np.float32
    assert metadata["x"].shape == (-1, 2)


def test_a_verified_variant_stays_verified(descriptor: PackageDescriptor) -> None:
    assert not descriptor.get_verified_status("onnx", "cpu")
    descriptor.set_verified(format=nav.Format.ONNX, runtime=nav.RuntimeProvider.CPU)
    again = PackageDescriptor(descriptor.workspace)
    assert again.get_verified_status("onnx", "cpu")
    assert not again.get_verified_status("onnx", "cpu", exporter="legacy")


def test_its_owner_may_accept_a_variant_that_differs(descriptor: PackageDescriptor) -> None:
    assert not descriptor.get_status("onnx", exporter="legacy")
    descriptor.set_verified("onnx", "cpu", exporter="legacy")
    assert descriptor.get_status("onnx", exporter="legacy")


def test_what_was_not_made_cannot_be_verified(descriptor: PackageDescriptor) -> None:
    with pytest.raises(VariantUnavailable, match="torchscript trace is not available"):
        descriptor.set_verified("torchscript", "PYT", "trace")


def test_each_format_has_a_config_that_describes_it(made: PackageDescriptor) -> None:
    folder = made.workspace.folder(Variant(Format.ONNX))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model_name"] == "double"
    assert (folder / config["model_path"]).is_file()
    assert config["inputs"] == [{"name": "x", "shape": [-1, 2], "dtype": "float32", "datatype": "FP32"}]
    assert config["outputs"] == [{"name": "y", "shape": [-1, 2], "dtype": "float32", "datatype": "FP32"}]
    assert config["dynamic_axes"] == {"x": [0], "y": [0]}
    assert config["max_batch_size"] == 16
    assert config["runtimes"] == ["CPUExecutionProvider"]
    assert set(config["tolerances"]) == {"__call__/y"}
    assert not (made.workspace.path / "torchscript-trace" / "config.yaml").exists()


def test_a_workspace_can_be_removed_after_saving(descriptor: PackageDescriptor, tmp_path: Path) -> None:
    nav.save(descriptor, tmp_path / "double.nav", keep_workdir=False)
    assert not descriptor.workspace.path.exists()
    assert descriptor.get_status("onnx")
    with pytest.raises(VariantUnavailable, match=r"model\.onnx is gone; was the workspace removed\?"):
        descriptor.get_model("onnx")


def test_a_package_that_exists_is_kept_unless_overridden(made: PackageDescriptor, package: Path) -> None:
    with pytest.raises(PathTaken, match="override=True"):
        made.save(package)
    made.save(package, override=True)


def test_a_loaded_package_is_verified_again_and_keeps_its_results(
    made: PackageDescriptor, package: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    loaded = nav.load(package, workdir=tmp_path / "workdir", progress=events.append)
    begun = [(event.stage, event.subject) for event in events if event.status is None]
    assert begun == [
        ("verify", "onnx on CPUExecutionProvider"),
        ("verify", "onnx-legacy on CPUExecutionProvider"),
    ]
    assert loaded.get_formats_status_detailed() == made.get_formats_status_detailed()
    assert loaded.report.uuid == made.report.uuid
    with pytest.raises(VariantUnavailable, match="packages come without it"):
        loaded.get_source_runner()


def test_a_package_can_be_loaded_as_it_is(made: PackageDescriptor, package: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    loaded = nav.load(package, workdir=tmp_path / "workdir", retest_conversions=False, progress=events.append)
    assert events == []
    assert loaded.report == made.report
    assert not loaded.workspace.log.exists()


def test_a_package_without_samples_is_loaded_untested(
    made: PackageDescriptor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made.save(tmp_path / "small.nav", save_data=False)
    with caplog.at_level(logging.WARNING):
        loaded = nav.load(tmp_path / "small.nav", workdir=tmp_path / "workdir")
    assert "package_not_tested" in caplog.text
    assert loaded.report == made.report
    with pytest.raises(NoSamples, match="save the package with save_data=True"):
        loaded.profile(QUICK)


def test_a_package_with_the_other_folder_name_for_samples_is_read(
    descriptor: PackageDescriptor, tmp_path: Path
) -> None:
    inputs = descriptor.workspace.inputs
    (inputs / "profiling").rename(inputs / "performance")
    descriptor.save(tmp_path / "other.nav")
    loaded = nav.load(tmp_path / "other.nav", workdir=tmp_path / "workdir", profiler_config=QUICK)
    assert Format.ONNX in loaded.get_formats_performance()


def test_profiling_measures_again_what_is_right(descriptor: PackageDescriptor) -> None:
    events: list[Event] = []
    config = nav.ProfilerConfig(
        batch_sizes=(2,), measurement_mode="count_windows", measurement_request_count=2, max_trials=3
    )
    descriptor.profile(config, progress=events.append)
    begun = [(event.stage, event.subject) for event in events if event.status is None]
    assert begun == [
        ("profile", "the source on CPUExecutionProvider"),
        ("profile", "onnx on CPUExecutionProvider"),
    ]
    measured = descriptor.report.conversions[Variant(Format.ONNX)].executions[RuntimeProvider.CPU]
    assert [one.batch_size for one in measured.performance] == [2]
    assert PackageDescriptor(descriptor.workspace).report == descriptor.report


def test_a_package_without_its_source_can_be_profiled(package: Path, tmp_path: Path) -> None:
    loaded = nav.load(package, workdir=tmp_path / "workdir", retest_conversions=False)
    nav.profile(loaded, QUICK)
    assert loaded.get_status("onnx", "cpu")
    assert Format.ONNX in loaded.get_formats_performance()


def test_a_fresh_process_uses_a_package(package: Path, tmp_path: Path) -> None:
    code = f"""
import numpy as np
from runtime import convert as nav
loaded = nav.load({str(package)!r}, workdir={str(tmp_path / "fresh")!r}, retest_conversions=False)
with loaded.get_runner(nav.Format.ONNX, runtime=nav.RuntimeProvider.CPU) as runner:
    print(runner.infer({{"x": np.ones((2, 2), np.float32)}})["y"].tolist())
"""
    root = Path(runtime.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[[2.0, 2.0], [2.0, 2.0]]"
    assert done.stderr == ""


def test_the_face_is_lazy() -> None:
    code = (
        "import sys; from runtime import convert as nav\n"
        "nav.Format, nav.ProfilerConfig, nav.load, nav.torch, nav.tensorflow, nav.ONNXConverter\n"
        "print([m for m in ('torch', 'tensorflow', 'onnxruntime', 'onnx', 'grpc') if m in sys.modules])"
    )
    root = Path(runtime.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert all(getattr(nav, name) is not None for name in nav.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Formats'"):
        _ = nav.Formats
