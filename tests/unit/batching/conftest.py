"""Keys that tests share begin each of them unlearned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.scheduling import A, B
from tests.support.tasks import KEY


@pytest.fixture(autouse=True)
def unlearned_keys() -> Iterator[None]:
    """A policy keeps what it has learned about a key with the key."""
    yield
    for key in (A, B, KEY):
        key.curve, key.limit = None, 0
