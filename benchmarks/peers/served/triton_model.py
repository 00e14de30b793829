# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201
# The server's own modules, and so its types, exist only where it runs.
"""A model of Triton's Python backend: all requests of an execution are merged, as its batcher intends."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as backend

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import compute


class TritonPythonModel:
    """What the backend looks for."""

    def initialize(self, args):
        """Load the model that is named like its folder."""
        self._model = compute.load(args["model_name"])

    def execute(self, requests):
        """Answer each request with its rows of the merged result."""
        rows = [backend.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        results = self._model(rows[0] if len(rows) == 1 else np.concatenate(rows))
        responses, start = [], 0
        for row in rows:
            end = start + len(row)
            responses.append(backend.InferenceResponse([backend.Tensor("y", results[start:end])]))
            start = end
        return responses
