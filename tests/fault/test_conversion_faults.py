"""Converters that crash, hang, eat memory or lie: the others finish, and the report says what happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import frameworks.pytorch as adapter
from frameworks.convert.formats import RuntimeProvider, Status, select
from frameworks.convert.isolate import Limits
from frameworks.convert.orders import Event, Order
from frameworks.convert.records import Report
from frameworks.convert.run import run
from frameworks.convert.samples import Samples, collect
from frameworks.convert.work import Settings
from frameworks.convert.workspace import Workspace
from store import Model, ModelStore
from tests.support.networks import Mean

HERE = "tests.support.converters"
ONNX, LEGACY, SCRIPT, TRACE = (
    select([name])[0] for name in ("onnx", "onnx-legacy", "torchscript-script", "torchscript-trace")
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    return adapter.save_model(
        "mlp",
        module,
        signatures={"__call__": {"batchable": True}},
        sample=torch.randn(4, 4),
        store=ModelStore(tmp_path_factory.mktemp("store")),
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path / "mlp.nav.workspace")
    rng = np.random.default_rng(0)
    items = [rng.standard_normal((3, 4), dtype=np.float32) for _ in range(4)]
    collect(items, names=["input"]).save(found.inputs)
    return found


def convert(workspace: Workspace, model: Model, order: Order) -> tuple[Report, list[Event]]:
    events: list[Event] = []
    report = run(workspace, order, model=model, signatures=model.info.signatures, progress=events.append)
    return report, events


def begun(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.stage, event.subject) for event in events if event.status is None]


def test_one_that_crashes_one_that_hangs_and_one_that_eats_memory_leave_the_rest_alone(
    workspace: Workspace, model: Model
) -> None:
    order = Order(
        targets=(SCRIPT, TRACE, ONNX, LEGACY),
        steps={
            SCRIPT: f"{HERE}:half_write_and_crash",
            ONNX: f"{HERE}:hang",
            LEGACY: f"{HERE}:eat_memory",
        },
        limits=Limits(seconds=15, memory_bytes=1500 << 20),
    )
    report, events = convert(workspace, model, order)
    outcomes = {str(variant): found.outcome for variant, found in report.conversions.items()}
    assert {name: (one.status.value, one.reason) for name, one in outcomes.items()} == {
        "torchscript-script": ("fail", "crashed"),
        "torchscript-trace": ("ok", ""),
        "onnx": ("fail", "timed_out"),
        "onnx-legacy": ("fail", "out_of_memory"),
    }
    assert "SIGSEGV" in outcomes["torchscript-script"].message
    assert report.conversions[TRACE].executions[RuntimeProvider.PYT].outcome.status is Status.OK
    assert report.conversions[SCRIPT].executions == {}
    assert events[-1].done == events[-1].total
    assert workspace.load_report() == report


def test_an_interrupted_run_is_taken_up_and_only_what_is_missing_is_made(
    workspace: Workspace, model: Model
) -> None:
    broken = Order(targets=(TRACE, LEGACY), steps={LEGACY: f"{HERE}:crash"})
    convert(workspace, model, broken)
    report, events = convert(workspace, model, Order(targets=(TRACE, LEGACY)))
    assert begun(events) == [("convert", "onnx-legacy"), ("verify", "onnx-legacy on CPUExecutionProvider")]
    assert all(found.outcome.status is Status.OK for found in report.conversions.values())
    assert events[-1].done == events[-1].total

    _, events = convert(workspace, model, Order(targets=(TRACE, LEGACY)))
    assert begun(events) == []


def test_without_the_source_what_failed_stays_and_the_count_of_steps_comes_out_even(
    workspace: Workspace, model: Model
) -> None:
    convert(workspace, model, Order(targets=(SCRIPT, TRACE), steps={SCRIPT: f"{HERE}:crash"}))
    events: list[Event] = []
    order = Order(settings=Settings(atol=1.0))
    report = run(workspace, order, model=None, signatures=model.info.signatures, progress=events.append)
    assert begun(events) == [("verify", "torchscript-trace on PyTorchExecutionProvider")]
    assert events[-1].done == events[-1].total
    assert report.conversions[SCRIPT].outcome.reason == "crashed"


def test_a_damaged_artifact_is_made_again(workspace: Workspace, model: Model) -> None:
    order = Order(targets=(TRACE,))
    convert(workspace, model, order)
    workspace.artifact(TRACE).write_bytes(b"damaged")
    report, events = convert(workspace, model, order)
    assert ("convert", "torchscript-trace") in begun(events)
    assert report.conversions[TRACE].outcome.status is Status.OK


def test_other_settings_make_it_again(workspace: Workspace, model: Model) -> None:
    convert(workspace, model, Order(targets=(LEGACY,)))
    _, events = convert(workspace, model, Order(targets=(LEGACY,), settings=Settings(opset=15)))
    assert ("convert", "onnx-legacy") in begun(events)


def test_disturbed_weights_fail_verification_with_figures(workspace: Workspace, model: Model) -> None:
    order = Order(targets=(LEGACY,), steps={LEGACY: f"{HERE}:disturbed_onnx"})
    report, _ = convert(workspace, model, order)
    conversion = report.conversions[LEGACY]
    assert conversion.outcome.status is Status.OK
    execution = conversion.executions[RuntimeProvider.CPU]
    assert (execution.outcome.status, execution.outcome.reason) == (Status.FAIL, "differs")
    (difference,) = execution.outputs.values()
    assert not difference.within
    assert difference.max_abs > difference.atol
    assert difference.max_rel > difference.rtol
    assert difference.outside > 0.5
    assert f"{difference.max_abs:.2g}"[:3] in execution.outcome.message


def test_a_result_that_was_made_for_one_extent_of_a_dynamic_axis_is_wrong(
    workspace: Workspace, model: Model
) -> None:
    spec = {"name": "x", "datatype": "FP32", "shape": [-1, -1, 2]}
    rows = np.random.default_rng(0).standard_normal((3, 5, 2), dtype=np.float32)
    mean = adapter.save_model(
        "mean",
        Mean(),
        signatures={"__call__": {"batchable": True, "inputs": [spec]}},
        sample=rows,
        store=ModelStore(model.path.parent.parent),
    )
    collect([rows], names=["x"]).save(workspace.inputs)
    report, _ = convert(workspace, mean, Order(targets=(TRACE,)))
    execution = report.conversions[TRACE].executions[RuntimeProvider.PYT]
    assert (execution.outcome.status, execution.outcome.reason) == (Status.FAIL, "differs")
    assert "it was made for these extents only" in execution.outcome.message
    assert [one["x"].shape for one in Samples.load(workspace.inputs).extents] == [(1, 2, 2), (1, 10, 2)]

    _, events = convert(workspace, mean, Order(targets=(TRACE,)))
    assert begun(events) == [("verify", "torchscript-trace on PyTorchExecutionProvider")]


def test_a_converter_that_mixes_rows_is_not_batch_invariant(workspace: Workspace, model: Model) -> None:
    order = Order(targets=(TRACE,), steps={TRACE: f"{HERE}:row_mixing_script"})
    report, _ = convert(workspace, model, order)
    execution = report.conversions[TRACE].executions[RuntimeProvider.PYT]
    assert (execution.outcome.status, execution.outcome.reason) == (Status.FAIL, "differs")
    assert not execution.invariance["__call__"].invariant


def test_what_starts_from_a_failed_step_is_skipped_with_the_reason(
    workspace: Workspace, model: Model
) -> None:
    (fp32,) = select(["trt-fp32"])
    order = Order(
        targets=(fp32,), steps={ONNX: f"{HERE}:crash", LEGACY: f"{HERE}:refuse"}, limits=Limits(seconds=60)
    )
    report, _ = convert(workspace, model, order)
    outcome = report.conversions[fp32].outcome
    assert (outcome.status, outcome.reason) == (Status.SKIPPED, "no_start")
    assert outcome.message == "it is made of onnx or onnx-legacy, which is not there"
    assert report.conversions[ONNX].outcome.reason == "crashed"


def test_a_source_that_cannot_answer_its_samples_ends_the_run_with_the_reason(
    workspace: Workspace, model: Model
) -> None:
    collect([np.zeros((3, 5), np.float32)], names=["input"]).save(workspace.inputs)
    report, _ = convert(workspace, model, Order(targets=(TRACE,)))
    assert report.source.outcome.status is Status.FAIL
    assert "do not fit the input specs" in report.source.outcome.message
    assert report.conversions == {}
