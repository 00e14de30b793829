"""Children that are not processes."""

from __future__ import annotations

import pytest

from runtime.lifecycle import frontend, instance
from tests.support.children import FakeChild
from tests.support.clock import FakeClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    for module in (frontend, instance):
        monkeypatch.setattr(module, "now_ns", clock)
    return clock


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[FakeChild]:
    """The children that were started, in order."""
    FakeChild.made = []
    for module in (frontend, instance):
        monkeypatch.setattr(module, "Child", FakeChild)
    return FakeChild.made
