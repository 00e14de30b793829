"""A store with all models, and one server over most of them for the tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store import ModelStore
from tests.support import zoo as all_models
from tests.support.gate import Gate
from tests.support.rpc import Caller
from tests.support.server import Server, serving

SHARED = ("tags", "scaled", "wrong", "strict", "gated", "keeper", "in_place", "plain")


@pytest.fixture(scope="session")
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> ModelStore:
    return all_models.build(tmp_path_factory.mktemp("store"), gate)


@pytest.fixture(scope="session")
def shared(zoo: ModelStore, gate: Gate) -> Iterator[Server]:
    """For tests that hurt nobody: none of its processes may ever be started again."""
    with serving(zoo, *SHARED) as server:
        before = server.pids()
        yield server
        gate.open()
        assert server.pids() == before


@pytest.fixture
def caller(shared: Server) -> Iterator[Caller]:
    with Caller(shared.target) as caller:
        yield caller


@pytest.fixture
def shut(gate: Gate) -> Iterator[Gate]:
    """The gate, closed for one test."""
    gate.close()
    gate.forget()
    yield gate
    gate.open()
