"""A server that cannot start says why and leaves; one that is told to leave while it starts does so."""

from __future__ import annotations

import inspect
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import ModelStore
from tests.support import models
from tests.support import zoo as all_models
from tests.support.gate import Gate
from tests.support.models import BATCHABLE, spec
from tests.support.server import WORKER, Server

FAST_S = 5.0


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def start(store: ModelStore) -> Iterator[Any]:
    started: list[Server] = []

    def begin(**sections: Any) -> Server:
        started.append(Server(store, (), sections))
        return started[-1]

    yield begin
    for server in started:
        server.close()


def test_a_model_that_cannot_be_loaded_is_named_with_file_and_line(store: ModelStore, start: Any) -> None:
    all_models.save(store, "fine", models.Tags())
    all_models.save(store, "broken", models.Broken())
    begun = time.monotonic()
    server = start()
    assert server.wait() == 1
    assert time.monotonic() - begun < FAST_S
    (line,) = [line for line in server.log.splitlines() if line.startswith("error:")]
    source, first = inspect.getsourcelines(models.Broken.__setstate__)
    raising = first + next(n for n, text in enumerate(source) if "raise" in text)
    assert "broken:" in line
    assert "the weights are gone" in line
    assert f"models.py:{raising}" in line
    server.assert_gone()


def test_a_model_that_fails_its_warm_up_is_named_with_file_and_line(store: ModelStore, start: Any) -> None:
    x = spec("x", "FP32", -1, 1)
    all_models.save(
        store,
        "cramped",
        models.BrokenAtWarmUp(),
        {"__call__": {**BATCHABLE, "inputs": [x]}},
        sample=np.ones((1, 1), np.float32),
    )
    server = start()
    assert server.wait() == 1
    (line,) = [line for line in server.log.splitlines() if line.startswith("error:")]
    assert "cramped:" in line
    assert "no room for so many rows" in line
    assert "models.py:" in line
    server.assert_gone()


@pytest.mark.parametrize("services", [1, 2])
@pytest.mark.parametrize("which", ["port", "http_port"])
def test_a_port_in_use_is_named(store: ModelStore, start: Any, which: str, services: int) -> None:
    all_models.save(store, "fine", models.Tags())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start(server={which: port, "services": services})
        assert server.wait() == 1
    (line,) = [line for line in server.log.splitlines() if line.startswith("error:")]
    assert str(port) in line
    assert "Traceback" not in server.log
    server.assert_gone()


def test_a_signal_while_models_load_ends_it(store: ModelStore, start: Any) -> None:
    with Gate() as gate:
        all_models.save(store, "slow", models.SlowToLoad(gate.path))
        server = start()
        gate.next()
        server.signal()
        assert server.wait() == 0
        server.assert_gone()


def test_a_worker_that_dies_while_it_loads_fails_the_start(store: ModelStore, start: Any) -> None:
    with Gate() as gate:
        all_models.save(store, "slow", models.SlowToLoad(gate.path))
        server = start()
        visit = gate.next()
        (worker,) = server.processes(WORKER)
        os.kill(worker, signal.SIGKILL)
        assert server.wait() == 1
        visit.release()
    (line,) = [line for line in server.log.splitlines() if line.startswith("error:")]
    assert "slow:" in line
    assert "-9" in line
    server.assert_gone()
