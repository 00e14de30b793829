"""The life of a worker process, from its order to its end, without the process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from runtime import logs
from runtime.runner import control, loading, worker
from runtime.runner.executor import Executor
from runtime.runner.order import Order
from tests.support.execution import executor
from tests.support.serving import echo

ORDER = Order(store="/s", tag="m:1", instance="m:1#0")


class Supervisor:
    """The other end of the control connection, which says all it has to say beforehand."""

    def __init__(self) -> None:
        self.sock, self._theirs = control.pair()

    def run(self) -> int:
        """Run the worker to its end and return its exit status."""
        descriptor = os.dup(self._theirs.fileno())
        self._theirs.close()
        return worker.main(descriptor)

    def close(self) -> None:
        self.sock.close()
        self._theirs.close()


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the signals, the logs and the fate of the test's own process alone."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(control, "die_with_parent", lambda: None)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    supervisor.close()


def loads(monkeypatch: pytest.MonkeyPatch, orders: list[Order]) -> None:
    def load(order: Order) -> Executor:
        orders.append(order)
        return executor(echo)

    monkeypatch.setattr(loading, "load", load)


def test_a_loaded_worker_says_so_and_ends_with_its_supervisor(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[Order] = []
    loads(monkeypatch, orders)
    control.send(supervisor.sock, asdict(ORDER))
    supervisor.sock.shutdown(socket.SHUT_WR)
    assert supervisor.run() == 0
    assert orders == [ORDER]
    assert control.receive(supervisor.sock) == ({"type": "ready"}, [])
    assert control.receive(supervisor.sock) is None


def test_a_model_that_cannot_be_loaded_is_told_with_its_cause(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    control.send(supervisor.sock, asdict(ORDER))
    assert supervisor.run() == 1
    received = control.receive(supervisor.sock)
    assert received is not None
    assert received[0]["type"] == "failed"
    assert received[0]["message"].startswith("ModelMissing: model 'm' is not in /s")
    assert "load_failed" in caplog.text


def test_without_an_order_there_is_nothing_to_do(supervisor: Supervisor) -> None:
    supervisor.sock.close()
    assert supervisor.run() == 0


def test_a_supervisor_that_is_gone_when_the_model_is_loaded_ends_the_worker(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: Order) -> Executor:
        supervisor.sock.close()
        return executor(echo)

    monkeypatch.setattr(loading, "load", load)
    control.send(supervisor.sock, asdict(ORDER))
    assert supervisor.run() == 0
