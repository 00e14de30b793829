from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from frameworks.convert.formats import Format, RuntimeProvider, Status, TensorRTPrecision, Variant
from frameworks.convert.plainform import InvalidRecord, from_plain, to_plain
from frameworks.convert.records import (
    Conversion,
    Difference,
    Execution,
    Invariance,
    Outcome,
    Performance,
    Report,
)
from frameworks.convert.work import Settings
from frameworks.convert.workspace import Workspace, WorkspaceBusy
from store import Signature, TensorSpec

ONNX = Variant(Format.ONNX)
FP16 = Variant(Format.TENSORRT, precision=TensorRTPrecision.FP16)


def full() -> Report:
    execution = Execution(
        provider=RuntimeProvider.CPU,
        key="k",
        outcome=Outcome(
            status=Status.FAIL, reason="differs", message="…", seconds=1.5, facts={"a": [1, None]}
        ),
        outputs={"__call__/y": Difference(max_abs=math.inf, max_rel=0.0, atol=1e-5, rtol=1e-3, within=False)},
        invariance={"__call__": Invariance(sizes=(1, 2, 8), max_abs=0.0, max_rel=0.0, invariant=True)},
        performance=[
            Performance(
                batch_size=8,
                median_ms=1.0,
                mean_ms=1.0,
                p90_ms=1.0,
                p95_ms=1.0,
                p99_ms=2.0,
                rows_per_second=8000.0,
                requests=10,
                stable=True,
            )
        ],
        verified=True,
    )
    spec = TensorSpec("x", "FP32", (-1, 4))
    return Report(
        model_name="m",
        uuid="u",
        module="pytorch",
        signatures={"__call__": Signature(batchable=True, inputs=(spec,), outputs=(spec,))},
        source=Execution(provider=RuntimeProvider.PYT),
        conversions={
            ONNX: Conversion(
                variant=ONNX, executions={RuntimeProvider.CPU: execution}, methods=("__call__",)
            ),
            FP16: Conversion(variant=FP16, start=ONNX, outcome=Outcome(status=Status.SKIPPED)),
        },
        environment={"cores": 2},
    )


def test_a_report_survives_the_file(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "m.nav.workspace")
    assert workspace.load_report() is None
    workspace.save_report(full())
    assert workspace.load_report() == full()


def test_settings_survive_the_way_to_another_process() -> None:
    settings = Settings(opset=17, trt_axes={"x": {1: (1, 2, 3)}}, atol=1.0)
    assert from_plain(Settings, json.loads(json.dumps(to_plain(settings)))) == settings


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("model_name",), 3, "model_name must be a str"),
        (("source", "provider"), "GPU", "source.provider is 'GPU'"),
        (("source", "outcome", "status"), "fine", "source.outcome.status"),
        (("conversions", "onnx", "variant"), "onx", "did you mean 'onnx'"),
        (("conversions",), [], "conversions must be a dict"),
        (
            ("conversions", "onnx", "executions", "CPUExecutionProvider", "verified"),
            1,
            "verified must be a bool",
        ),
        (("signatures", "__call__", "batchable"), "yes", "signatures.__call__"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(path: tuple[str, ...], value: Any, said: str) -> None:
    document: Any = to_plain(full())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InvalidRecord, match=said.replace(".", r"\.")):
        from_plain(Report, document)


def test_a_missing_field_is_named() -> None:
    document: Any = to_plain(full())
    del document["uuid"]
    with pytest.raises(InvalidRecord, match="field 'uuid' is missing"):
        from_plain(Report, document)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "must be a dict"),
        ("[" * 2000, "is not YAML|must be"),
        ("", "must be a dict"),
    ],
)
def test_a_damaged_status_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "status.yaml").write_text(text)
    with pytest.raises(InvalidRecord, match=said) as caught:
        Workspace(tmp_path).load_report()
    assert "status.yaml" in caught.value.message


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    report = full()
    report.format_version = "99"
    Workspace(tmp_path).save_report(report)
    with pytest.raises(InvalidRecord, match="'99'; this release reads '1'"):
        Workspace(tmp_path).load_report()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        Workspace(tmp_path).occupied(),
        pytest.raises(WorkspaceBusy, match="another run"),
        Workspace(tmp_path).occupied(),
    ):
        pass
    with Workspace(tmp_path).occupied():
        pass
