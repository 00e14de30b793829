"""The fingerprint of the machine."""

from __future__ import annotations

import json
import os

import pytest

from runtime.profiling import environment


def test_the_fingerprint_can_be_written_down_and_has_what_matters() -> None:
    found = environment.fingerprint()
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] == os.cpu_count()
    assert found["affinity"] == sorted(os.sched_getaffinity(0))
    assert found["python"].startswith("CPython 3.")
    assert {"grpcio", "numpy", "protobuf"} <= set(found["versions"])
    assert len(found["load_average"]) == 3
    assert found["cpu"]


def test_the_processor_is_named_as_the_kernel_names_it() -> None:
    text = "processor\t: 0\nmodel name\t: Some  CPU @ 2.00GHz\nflags\t: a b\n"
    assert environment.cpu_model(text) == "Some CPU @ 2.00GHz"
    assert environment.cpu_model("") == ""


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", None), ("150000 100000\n", 1.5), ("", None), ("1 0", None), ("x y", None)],
)
def test_the_control_group_bounds_the_cores(text: str, cores: float | None) -> None:
    assert environment.cpu_limit(text) == cores


def test_a_machine_that_disturbs_is_told() -> None:
    quiet = {"load_average": [0.2, 0, 0], "affinity": [0, 1]}
    assert environment.warnings(quiet) == []
    assert environment.warnings({**quiet, "governor": "performance"}) == []
    assert "busy" in environment.warnings({**quiet, "load_average": [1.5, 0, 0]})[0]
    assert "'powersave'" in environment.warnings({**quiet, "governor": "powersave"})[0]


def test_only_what_makes_a_comparison_unfair_is_a_difference() -> None:
    first = {"cpu": "a", "cores": 2, "time": "now", "versions": {"numpy": "1", "grpcio": "1"}}
    second = {"cpu": "a", "cores": 4, "time": "then", "versions": {"numpy": "2", "grpcio": "1"}}
    assert environment.differences(first, second) == ["cores: 2 -> 4", "numpy: 1 -> 2"]
    assert environment.differences(first, {**first, "load_average": [9, 9, 9]}) == []
