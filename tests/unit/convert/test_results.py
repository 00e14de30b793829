from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from frameworks import onnx as onnx_adapter
from frameworks import python, sample
from frameworks.base import LoadOptions
from frameworks.convert.formats import RuntimeProvider, Status, Variant
from frameworks.convert.isolate import Limits
from frameworks.convert.records import (
    Conversion,
    Difference,
    Execution,
    Invariance,
    Outcome,
    Performance,
    Report,
)
from frameworks.convert.workspace import Workspace
from frameworks.row_errors import complete
from runtime.convert.profiles import curve
from runtime.convert.results import Fate, Stored, is_good, record, serving_options, store_results
from runtime.lifecycle.warm_start import stored_curve
from runtime.profiling.store import Result
from store import Model, ModelStore
from store.plain import Plain
from store.profiles import ProfileStore

ONNX, EXPORT = Variant.parse("onnx"), Variant.parse("torch-export")
CPU, PYT, CUDA = RuntimeProvider.CPU, RuntimeProvider.PYT, RuntimeProvider.CUDA
ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)
OK = Outcome(status=Status.OK)


def double(x: Any) -> Any:
    return {"y": x * 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Model:
    store = ModelStore(tmp_path_factory.mktemp("source") / "models")
    return python.save_model(
        "double:v1",
        double,
        signatures={"__call__": {"batchable": True}},
        sample={"x": ROWS},
        labels={"owner": "me"},
        options={"max_batch_size": 32, "instances": 2},
        store=store,
    )


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With an ONNX graph that does what the source does."""
    workspace = Workspace(tmp_path / "double.nav.workspace")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    workspace.folder(ONNX).mkdir(parents=True)
    onnx.save(made, workspace.artifact(ONNX))
    return workspace


def performance(*points: tuple[int, float]) -> list[Performance]:
    return [
        Performance(
            batch_size=rows, median_ms=ms, mean_ms=ms, p90_ms=ms, p95_ms=ms, p99_ms=ms,
            rows_per_second=rows / ms * 1000, requests=9, stable=True,
        )
        for rows, ms in points
    ]  # fmt: skip


def conversion(
    *executions: Execution, variant: Variant = ONNX, key: str = "k1", **facts: Plain
) -> Conversion:
    return Conversion(
        variant=variant,
        key=key,
        outcome=Outcome(status=Status.OK, facts=facts),
        methods=("__call__",),
        executions={one.provider: one for one in executions},
    )


RIGHT = Execution(
    provider=CPU,
    outcome=OK,
    outputs={"__call__/y": Difference(max_abs=1e-7, max_rel=1e-6, atol=1e-5, rtol=1e-3, within=True)},
    invariance={"__call__": Invariance(sizes=(1, 2), max_abs=0.0, max_rel=0.0, invariant=True)},
    performance=performance((1, 0.5), (8, 1.0)),
)


def report(source: Model, *conversions: Conversion) -> Report:
    return Report(
        model_name="double",
        uuid="u",
        module="python",
        signatures=source.info.signatures,
        source=Execution(provider=PYT, outcome=OK, performance=performance((1, 1.0), (8, 4.0))),
        conversions={one.variant: one for one in conversions},
    )


def of(stored: list[Stored]) -> list[tuple[str, Fate]]:
    return [(one.tag, one.fate) for one in stored]


def test_a_good_variant_becomes_a_model_that_answers_as_its_source(
    source: Model, store: ModelStore, workspace: Workspace
) -> None:
    made = report(source, conversion(RIGHT, max_batch_size=8))
    assert of(store_results(made, workspace, source, store)) == [("double-onnx:v1", Fate.STORED)]
    model = store.get("double-onnx:v1")
    info = model.info
    assert (info.module, info.parent, info.labels) == ("onnx", "double:v1", {"owner": "me"})
    assert info.signatures == source.info.signatures
    assert info.options == {"max_batch_size": 8, "instances": 2}
    assert info.pickled is False
    method = onnx_adapter.open_methods(model, LoadOptions())["__call__"]
    np.testing.assert_array_equal(complete(method({"x": ROWS}))["y"], ROWS * 2)


def test_the_sample_goes_along_with_no_more_rows_than_are_accepted(
    source: Model, store: ModelStore, workspace: Workspace
) -> None:
    store_results(report(source, conversion(RIGHT, max_batch_size=4)), workspace, source, store)
    arrays = sample.load(store.get("double-onnx:v1"), "__call__")
    assert arrays is not None
    np.testing.assert_array_equal(arrays["x"], ROWS[:4])


def test_the_manifest_says_how_it_was_made_and_how_far_it_differs(
    source: Model, store: ModelStore, workspace: Workspace
) -> None:
    made = report(source, replace(conversion(RIGHT, opset=17), start=EXPORT))
    store_results(made, workspace, source, store)
    checks = store.get("double-onnx:v1").info.checks
    assert set(checks) == {"conversion", "batch_invariance"}
    found: Any = checks["conversion"]
    assert (found["variant"], found["start"], found["key"]) == ("onnx", "torch-export", "k1")
    assert found["facts"] == {"opset": 17}
    cpu = found["providers"]["CPUExecutionProvider"]
    assert cpu["outputs"]["__call__/y"]["max_abs"] == 1e-7
    assert cpu["outputs"]["__call__/y"]["rtol"] == 1e-3
    assert cpu["invariance"]["__call__"]["invariant"] is True
    assert cpu["speed_up"] == {"1": 2.0, "8": 4.0}


def test_a_server_begins_with_the_curve_of_what_was_measured(
    source: Model, store: ModelStore, workspace: Workspace
) -> None:
    on_gpu = Execution(provider=CUDA, outcome=OK, performance=performance((1, 0.1)))
    store_results(report(source, conversion(on_gpu, RIGHT)), workspace, source, store)
    assert stored_curve(store.get("double-onnx:v1")) == {"1": 0.5, "8": 1.0}
    profiles = ProfileStore.beside(store.root)
    assert (profiles.latest("double:v1") or {})["curve"] == {"1": 1.0, "8": 4.0}
    document = profiles.latest("double-onnx:v1") or {}
    assert Result.from_dict(json.loads(json.dumps(document))).model == "double-onnx:v1"


def test_what_is_stored_already_is_kept_and_its_figures_are_not_written_twice(
    source: Model, store: ModelStore, workspace: Workspace
) -> None:
    made = report(source, conversion(RIGHT))
    store_results(made, workspace, source, store)
    created = store.get("double-onnx:v1").info.creation_time
    (again,) = store_results(made, workspace, source, store)
    assert (again.fate, again.message) == (Fate.KEPT, "")
    assert store.get("double-onnx:v1").info.creation_time == created
    profiles = ProfileStore.beside(store.root)
    assert [len(profiles.list(tag)) for tag in ("double:v1", "double-onnx:v1")] == [1, 1]


def test_a_model_of_another_run_is_kept_with_a_word_and_gets_no_figures_of_this_one(
    source: Model, store: ModelStore, workspace: Workspace
) -> None:
    store_results(report(source, conversion(RIGHT)), workspace, source, store)
    other = replace(RIGHT, performance=performance((1, 0.25)))
    (kept,) = store_results(report(source, conversion(other, key="k2")), workspace, source, store)
    assert kept.fate is Fate.KEPT
    assert "overwrite" in kept.message
    assert stored_curve(store.get("double-onnx:v1")) == {"1": 0.5, "8": 1.0}


def test_overwriting_replaces_what_is_stored(source: Model, store: ModelStore, workspace: Workspace) -> None:
    store_results(report(source, conversion(RIGHT)), workspace, source, store)
    made = report(source, conversion(RIGHT, key="k2"))
    assert of(store_results(made, workspace, source, store, overwrite=True)) == [
        ("double-onnx:v1", Fate.STORED)
    ]
    found: Any = store.get("double-onnx:v1").info.checks["conversion"]
    assert found["key"] == "k2"


def test_wrong_and_failed_and_unwanted_variants_are_not_stored(
    source: Model, store: ModelStore, workspace: Workspace
) -> None:
    wrong = Execution(provider=CPU, outcome=Outcome(status=Status.FAIL, reason="differs"))
    assert store_results(report(source, conversion(wrong)), workspace, source, store) == []
    failed = replace(conversion(RIGHT), outcome=Outcome(status=Status.FAIL))
    assert store_results(report(source, failed), workspace, source, store) == []
    made = report(source, conversion(RIGHT))
    assert store_results(made, workspace, source, store, targets=(EXPORT,)) == []
    assert store.list() == []


def test_one_that_cannot_be_saved_is_told_with_its_cause(
    source: Model, store: ModelStore, workspace: Workspace
) -> None:
    workspace.artifact(ONNX).write_bytes(b"no graph")
    (found,) = store_results(report(source, conversion(RIGHT)), workspace, source, store)
    assert found.fate is Fate.FAILED
    assert found.message
    assert store.list() == []


def test_saving_has_its_own_limit_of_time(source: Model, store: ModelStore, workspace: Workspace) -> None:
    made = report(source, conversion(RIGHT))
    (found,) = store_results(made, workspace, source, store, limits=Limits(seconds=0.001))
    assert found.fate is Fate.FAILED
    assert "limit of time" in found.message


def test_a_name_that_becomes_too_long_is_told(source: Model, store: ModelStore, workspace: Workspace) -> None:
    long = Model(source.path, replace(source.info, name="m" * 60))
    (found,) = store_results(report(source, conversion(RIGHT)), workspace, long, store)
    assert found.fate is Fate.FAILED
    assert "at most 63" in found.message


def test_what_nobody_compared_is_good_only_where_that_is_allowed() -> None:
    unseen = conversion(Execution(provider=CPU))
    assert [is_good(unseen), is_good(unseen, unverified=True)] == [False, True]
    assert [is_good(conversion()), is_good(conversion(), unverified=True)] == [False, True]
    wrong = conversion(Execution(provider=CPU, outcome=Outcome(status=Status.FAIL)))
    assert is_good(wrong, unverified=True) is False


@pytest.mark.parametrize(
    ("options", "limit", "expected"),
    [
        ({}, 100, {}),
        ({}, 8, {"max_batch_size": 8}),
        ({"max_batch_size": 4}, 8, {"max_batch_size": 4}),
        ({"max_batch_size": 16}, 8, {"max_batch_size": 8}),
        ({"allowed_batch_sizes": "1,4,16"}, 8, {"allowed_batch_sizes": "1,4", "max_batch_size": 8}),
        ({"allowed_batch_sizes": "16,32"}, 8, {"allowed_batch_sizes": "8", "max_batch_size": 8}),
        ({"allowed_batch_sizes": "1,4"}, 8, {"allowed_batch_sizes": "1,4", "max_batch_size": 8}),
        ({"load": {"compile": True}, "slo_ms": 5.0}, None, {"slo_ms": 5.0}),
    ],
)
def test_a_variant_is_served_as_its_source_within_what_it_accepts(
    options: Mapping[str, Plain], limit: int | None, expected: Mapping[str, Plain], source: Model
) -> None:
    facts: dict[str, Plain] = {} if limit is None else {"max_batch_size": limit}
    made = conversion(**facts)
    assert serving_options(options, report(source, made), made) == expected


def test_what_runs_on_a_gpu_only_is_served_there(source: Model) -> None:
    plan = conversion(variant=Variant.parse("trt-fp16"))
    assert serving_options({}, report(source, plan), plan) == {"device": "cuda"}
    assert serving_options({"device": "cuda:1"}, report(source, plan), plan) == {"device": "cuda:1"}


def test_a_plan_is_served_with_the_rows_of_its_profile(source: Model) -> None:
    plan = conversion(variant=Variant.parse("trt-fp16"), profile={"x": [[1, 2], [8, 2], [16, 2]]})
    options = serving_options(source.info.options, report(source, plan), plan)
    assert options["max_batch_size"] == 16


def test_the_record_is_plain(source: Model) -> None:
    made = conversion(replace(RIGHT, outputs={}))
    assert json.loads(json.dumps(record(report(source, made), made)))["methods"] == ["__call__"]


def test_a_curve_has_only_times_that_were_measured() -> None:
    assert curve(performance((1, 0.5), (4, 1e-12))) == {"1": 0.5, "4": 1e-12}
    assert curve([replace(performance((1, 1.0))[0], median_ms=0.0)]) == {}
