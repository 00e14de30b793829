"""One server for all foreign clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store import ModelStore
from tests.support import zoo as all_models
from tests.support.gate import Gate
from tests.support.server import Server, serving

MODELS = ("tags", "scaled", "plain", "echo", "mortal", "gated")


@pytest.fixture(scope="session")
def gate() -> Iterator[Gate]:
    """Shut: what comes to the gated model stays there."""
    with Gate() as gate:
        yield gate


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> ModelStore:
    return all_models.build(tmp_path_factory.mktemp("store"), gate)


@pytest.fixture(scope="session")
def server(zoo: ModelStore, gate: Gate) -> Iterator[Server]:
    with serving(zoo, *MODELS, server={"services": 2}, model={"instances": 1}) as server:
        before = server.pids()
        yield server
        gate.open()
        assert server.pids() == before
