"""What every test of the runner begins with."""

from __future__ import annotations

import pytest

from tests.support import batches


@pytest.fixture(autouse=True)
def forgetful_keys() -> None:
    """What one test taught a key is not known to the next."""
    batches.forget()
