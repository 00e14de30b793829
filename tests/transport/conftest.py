"""Fixtures of the conformance suite, which runs on both implementations of the transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runtime.transport.interface import ServerFactory
from runtime.transport.selfcheck import choose
from tests.transport.rig import WAIT_S, Rig


@pytest.fixture(params=["completion_queue", "aio"])
def implementation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def factory(implementation: str) -> ServerFactory:
    return choose(implementation)


@pytest.fixture
def make_rig(factory: ServerFactory) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**options: object) -> Rig:
        made.append(Rig(factory, **options))
        return made[-1]

    yield make
    for one in made:
        assert one.server.stop(0.1).wait(WAIT_S), "did not stop"
        assert one.server.active == 0


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()
