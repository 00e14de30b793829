"""CPU in use on the server's side."""

from __future__ import annotations

import os

import pytest

from runtime.clock import SECOND
from runtime.profiling.usage import Processes, Sample


def test_cores_are_counted_per_process() -> None:
    first = Sample(0, {"worker": 10.0, "front-end": 1.0}, (100.0, 200.0))
    later = Sample(2 * SECOND, {"worker": 13.0, "front-end": 2.0}, (103.0, 204.0))
    usage = first.until(later, {"worker": 2, "front-end": 1})
    assert usage.cores == pytest.approx({"worker": 0.75, "front-end": 0.5})
    assert usage.machine == pytest.approx(0.75)


def test_a_process_that_ended_counts_no_more() -> None:
    first, later = Sample(0, {"worker": 10.0}, (0.0, 0.0)), Sample(SECOND, {"worker": 0.0}, (0.0, 0.0))
    usage = first.until(later, {"worker": 1})
    assert usage.cores == {"worker": 0.0}
    assert usage.machine is None


def test_no_time_makes_no_usage() -> None:
    sample = Sample(5, {"worker": 1.0}, (1.0, 2.0))
    assert sample.until(sample, {"worker": 1}).to_dict() == {"cores": {}, "machine": None}


def test_our_own_process_has_used_something() -> None:
    processes = Processes({"worker": [os.getpid()], "front-end": []})
    assert processes.sample().cpu_s["worker"] > 0
    assert processes.resident_bytes()["worker"] > 1 << 20
    assert "front-end" not in processes.resident_bytes()


def test_a_server_that_is_none_of_ours_has_no_known_processes() -> None:
    assert Processes.of("127.0.0.1:1").counts == {}
