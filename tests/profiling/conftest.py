"""Fixtures of the load engine's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.profiling.synthetic import Synthetic


@pytest.fixture
def server() -> Iterator[Synthetic]:
    with Synthetic() as one:
        yield one
