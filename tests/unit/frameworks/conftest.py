from __future__ import annotations

from pathlib import Path

import pytest

from store import ModelStore


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")
