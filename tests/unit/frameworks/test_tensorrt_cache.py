from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from frameworks.trt import cache as tensorrt_cache
from frameworks.trt.cache import building, look_up, publish
from frameworks.trt.plan import BuildSettings, PlanInfo, Platform
from tests.support.fake_tensorrt import GPU, fake_tensorrt

HERE = Platform.here(fake_tensorrt(), GPU)
INFO = PlanInfo(settings=BuildSettings(), graph_digest="sha256:graph")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path))
    return tmp_path


def test_a_published_plan_is_found_again() -> None:
    assert look_up(INFO, HERE) is None
    path = publish(INFO, HERE, b"plan")
    assert path.is_relative_to(tensorrt_cache.root())
    assert look_up(INFO, HERE) == b"plan"
    publish(INFO, HERE, b"newer")
    assert look_up(INFO, HERE) == b"newer"
    assert {one.suffix for one in path.parent.iterdir()} == {".plan", ".json"}


def test_other_graphs_settings_and_machines_have_other_plans() -> None:
    publish(INFO, HERE, b"plan")
    assert look_up(replace(INFO, graph_digest="sha256:other"), HERE) is None
    assert look_up(replace(INFO, settings=BuildSettings(max_workspace_bytes=1)), HERE) is None
    for change in ({"card": "NVIDIA L4"}, {"driver": "12.8"}, {"version": "11"}):
        assert look_up(INFO, replace(HERE, **change)) is None


def test_a_plan_without_its_record_is_not_there() -> None:
    path = publish(INFO, HERE, b"plan")
    path.with_suffix(".json").unlink()
    assert look_up(INFO, HERE) is None


def test_a_record_without_its_plan_is_not_there() -> None:
    publish(INFO, HERE, b"plan").unlink()
    assert look_up(INFO, HERE) is None


@pytest.mark.parametrize(
    ("suffix", "content"), [(".plan", b"pla"), (".plan", b""), (".json", b""), (".json", b"{}")]
)
def test_half_written_and_damaged_files_are_not_there_until_somebody_builds_anew(
    suffix: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    publish(INFO, HERE, b"plan").with_suffix(suffix).write_bytes(content)
    assert look_up(INFO, HERE) is None
    assert "tensorrt_cache_damaged" in caplog.text
    publish(INFO, HERE, b"plan")
    assert look_up(INFO, HERE) == b"plan"


def test_a_record_of_another_machine_is_not_taken() -> None:
    path = publish(INFO, HERE, b"plan")
    other = INFO.built(replace(HERE, card="NVIDIA L4"), b"plan")
    path.with_suffix(".json").write_bytes(other.to_json())
    assert look_up(INFO, HERE) is None


def test_an_unfinished_file_is_never_taken(home: Path) -> None:
    path = publish(INFO, HERE, b"plan")
    path.with_name(f".{path.name}.abc.unfinished").write_bytes(b"pl")
    assert look_up(INFO, HERE) == b"plan"


def test_what_cannot_be_read_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = publish(INFO, HERE, b"plan")
    path.unlink()
    path.mkdir()
    assert look_up(INFO, HERE) is None
    assert "tensorrt_cache_unreadable" in caplog.text


def test_one_at_a_time_builds_a_plan() -> None:
    with building(INFO, HERE) as first:
        assert first
        with building(INFO, HERE, wait=False) as second:
            assert not second
        with building(INFO, replace(HERE, card="NVIDIA L4"), wait=False) as other:
            assert other
    with building(INFO, HERE, wait=False) as next_one:
        assert next_one
