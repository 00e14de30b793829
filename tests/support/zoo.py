"""A store with one of each model of ``tests.support.models``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from frameworks import python
from store import ModelStore
from tests.support import models
from tests.support.gate import Gate
from tests.support.models import BATCHABLE, spec

TAGS = {
    "__call__": {
        **BATCHABLE,
        "inputs": [spec("tags", "INT64", -1)],
        "outputs": [spec("tags", "INT64", -1)],
    }
}


def save(store: ModelStore, name: str, model: object, signatures: Any = None, **arguments: Any) -> None:
    """Save a model with its code; batchable and without specs unless signatures are given."""
    python.save_model(
        name, model, signatures=signatures or {"__call__": BATCHABLE}, store=store,
        external_modules=[models.THIS], **arguments,
    )  # fmt: skip


def build(root: Path, gate: Gate) -> ModelStore:
    """Save every model that can be served."""
    store = ModelStore(root)
    save(store, "tags", models.Tags())
    save(
        store,
        "scaled",
        models.Scaled(),
        {"predict": BATCHABLE, "total": BATCHABLE},
        sample=(np.arange(8, dtype=np.float32).reshape(2, 4),),
    )
    save(store, "echo", models.echo)
    save(store, "plain", models.echo, {"__call__": {"batchable": False}})
    save(store, "wrong", models.WrongRows())
    save(store, "mortal", models.Mortal())
    save(store, "keeper", models.Keeper())
    save(store, "in_place", models.in_place)
    save(store, "strict", models.Tags(), TAGS, options={"max_batch_size": 8})
    save(store, "gated", models.Gated(gate.path), options={"max_batch_size": 4, "max_queued_rows": 40})
    return store
