# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201
# The server's own modules, and so its types, exist only where it runs.
"""The models as MLServer's custom runtimes: arrays in and out, without its slower conversions."""

from __future__ import annotations

import compute
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Model(MLModel):
    """One model, by its name."""

    async def load(self):
        """Load the weights."""
        self._model = compute.load(self.name)
        return True

    async def predict(self, payload):
        """Answer a request, merged from several by the adaptive batcher."""
        result = self._model(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", result)])
