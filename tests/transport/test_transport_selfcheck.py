"""Which implementation is chosen, and the environment that is prepared for it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from runtime.errors import ConfigError
from runtime.transport import aio, completion_queue, selfcheck
from tests.transport.rig import ROOT

PREPARE = """
from runtime.transport.environment import prepare_environment
import os, sys
assert "grpc" not in sys.modules
print(",".join(prepare_environment()), os.environ.get("GRPC_EXPERIMENTS", ""))
import grpc
print(",".join(prepare_environment()))
"""


@pytest.fixture
def no_verdict(monkeypatch):
    monkeypatch.setattr(selfcheck, "_verdicts", {})


@pytest.mark.usefixtures("no_verdict")
def test_installed_grpcio_carries_the_completion_queue(caplog):
    with caplog.at_level(logging.INFO, logger="runtime.transport.selfcheck"):
        assert selfcheck.choose() is completion_queue.Server
    assert caplog.records[0].message == "transport_chosen"
    assert caplog.records[0].transport == "completion_queue"


@pytest.mark.usefixtures("no_verdict")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "the trial ended with -6"),
        ("raise SystemExit('no such thing')", "no such thing"),
        ("import threading; threading.Event().wait()", "did not end"),
    ],
)
def test_trial_that_dies_or_hangs_chooses_the_fallback(monkeypatch, caplog, program, reason):
    monkeypatch.setattr(selfcheck, "_PROGRAM", program)
    assert reason in str(selfcheck.unsupported(timeout_s=1.0))
    with caplog.at_level(logging.INFO, logger="runtime.transport.selfcheck"):
        assert selfcheck.choose("auto") is aio.Server
    assert caplog.records[-1].levelno == logging.WARNING
    assert reason in caplog.records[-1].reason


@pytest.mark.usefixtures("no_verdict")
def test_missing_name_in_the_binding_chooses_the_fallback(monkeypatch):
    from runtime.transport import core

    monkeypatch.setitem(core.NEEDED, "Server", ("no_such_method",))
    assert "Server.no_such_method" in str(selfcheck.unsupported())


def test_preference_is_obeyed_and_checked():
    assert selfcheck.choose("aio") is aio.Server
    assert selfcheck.choose("completion_queue") is completion_queue.Server
    with pytest.raises(ConfigError, match="completion_queue"):
        selfcheck.choose("quick")


def prepared(**environment):
    clean = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    done = subprocess.run(
        [sys.executable, "-c", PREPARE],
        env={**clean, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n")[:2]


def test_environment_is_prepared_before_grpc_and_not_after():
    first, second = prepared()
    assert first in {"-event_engine_listener -event_engine_listener", " "}  # the latter: no such switch
    assert second == ""


def test_switch_that_the_user_set_is_left_alone():
    first, _ = prepared(GRPC_EXPERIMENTS="event_engine_listener,other")
    assert first == " event_engine_listener,other"
