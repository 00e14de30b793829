# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201
# The server's own modules, and so its types, exist only where it runs.
"""The handler of a TorchServe model archive: one list of requests in, one list of answers out."""

from __future__ import annotations

import compute
import numpy as np

_models = {}


def handle(data, context):
    """Execute a batch of requests at once; called with nothing when the worker starts."""
    if data is None:
        _models[context.manifest["model"]["modelName"]] = compute.load(context.manifest["model"]["modelName"])
        return None
    model = _models[context.manifest["model"]["modelName"]]
    x = np.stack([np.frombuffer(row["x"], "<f4") for row in data])
    return [row.tobytes() for row in model(x)]
