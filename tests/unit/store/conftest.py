from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from store import Model, ModelInfo, ModelStore, Tag

Saver = Callable[..., Model]


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def save(models: ModelStore) -> Saver:
    """Publish a small model: ``save("name", version=…, content=…, labels=…)``."""

    def saver(
        name: str = "iris", version: str | None = None, content: bytes = b"weights", **fields: object
    ) -> Model:
        info = ModelInfo(name=name, version=version or Tag.new_version(), module="python", **fields)  # type: ignore[arg-type]
        with models.create(info) as draft:
            (draft.path / "weights.bin").write_bytes(content)
            (draft.path / "more").mkdir()
            (draft.path / "more" / "vocabulary.txt").write_text("a b c")
        return draft.model

    return saver
