"""A conversion step may crash, hang or eat memory: its caller is told so, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from frameworks.convert.formats import Status
from frameworks.convert.isolate import Limits, isolated
from frameworks.errors import FrameworkError

HERE = "tests.support.converters"


def run(
    tmp_path: Path, function: str, limits: Limits | None = None, **arguments: str
) -> tuple[str, str, str]:
    outcome = isolated(f"{HERE}:{function}", arguments, limits or Limits(), tmp_path / "log")
    return outcome.status.value, outcome.reason, outcome.message


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_value_comes_back(tmp_path: Path) -> None:
    outcome = isolated(f"{HERE}:echo", {"a": [1, 2.5, None], "b": {"c": "ü"}}, Limits(), tmp_path / "log")
    assert outcome.status is Status.OK
    assert outcome.facts == {"a": [1, 2.5, None], "b": {"c": "ü"}}
    assert outcome.seconds > 0


def test_a_crash_is_told_with_its_signal_and_last_words(tmp_path: Path) -> None:
    status, reason, message = run(tmp_path, "crash")
    assert (status, reason) == ("fail", "crashed")
    assert "SIGSEGV" in message
    assert "about to touch address zero" in message


def test_a_silent_exit_is_told_with_its_status(tmp_path: Path) -> None:
    assert run(tmp_path, "exit_quietly") == ("fail", "crashed", "the process ended with status 7")


def test_a_hang_ends_at_the_limit_of_time(tmp_path: Path) -> None:
    status, reason, message = run(tmp_path, "hang", Limits(seconds=1))
    assert (status, reason) == ("fail", "timed_out")
    assert "1 s" in message


def test_eating_memory_ends_at_the_limit(tmp_path: Path) -> None:
    status, reason, message = run(tmp_path, "eat_memory", Limits(memory_bytes=400 << 20))
    assert (status, reason) == ("fail", "out_of_memory")
    assert "its limit is 0.39 GiB" in message


def test_what_is_missing_is_skipped_not_failed(tmp_path: Path) -> None:
    assert run(tmp_path, "lack") == ("skipped", "missing_tool", "the tool is not here; install it")


def test_an_error_of_ours_keeps_its_reason(tmp_path: Path) -> None:
    assert run(tmp_path, "refuse") == ("fail", "not_convertible", "this model has no such form")


def test_any_other_error_is_told_by_type_and_first_words(tmp_path: Path) -> None:
    status, reason, message = run(tmp_path, "raise_long")
    assert (status, reason) == ("fail", "raised")
    assert message.startswith("ValueError: first line second line")
    assert len(message) <= 2000
    assert "Traceback" in (tmp_path / "log").read_text()


def test_children_of_a_stopped_step_are_gone_too(tmp_path: Path) -> None:
    run(tmp_path, "hang_with_child", Limits(seconds=3), pid_file=str(tmp_path / "pids"))
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        wait_for(lambda pid=pid: gone(pid))


def test_a_step_dies_with_its_caller(tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from frameworks.convert.isolate import Limits, isolated
        isolated("{HERE}:hang_with_child", {{"pid_file": {str(tmp_path / "pids")!r}}}, Limits(),
                 Path({str(tmp_path / "log")!r}))
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    caller = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment)
    wait_for((tmp_path / "pids").exists)
    step, child = map(int, (tmp_path / "pids").read_text().split())
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    try:
        wait_for(lambda: gone(step))
    finally:
        for pid in (step, child):
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("wrong", "field"), [({"seconds": 0}, "timeout"), ({"memory_bytes": 0}, "memory_limit")]
)
def test_limits_are_above_zero(wrong: dict[str, int], field: str) -> None:
    with pytest.raises(FrameworkError) as caught:
        Limits(**wrong)
    assert caught.value.field == field
