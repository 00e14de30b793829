"""Saves the models for ``runtime serve``; run beside ``compute.py``, the store is the first argument."""

from __future__ import annotations

import sys
from pathlib import Path

# It lies beside this file where this runs, and not where types are checked.
import compute  # type: ignore[import-not-found,unused-ignore]
import numpy as np

import runtime
from store import ModelStore

store = ModelStore(Path(sys.argv[1]))
for name, (width, _) in compute.WIDTHS.items():
    runtime.python.save_model(
        name,
        compute.load(name),
        signatures={"__call__": {"batchable": True, "batch_dim": 0}},
        sample=(np.zeros((2, width), "f4"),),
        external_modules=[compute],
        store=store,
    )
