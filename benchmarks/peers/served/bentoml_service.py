# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
# The server's own modules, and so its types, exist only where it runs.
"""The models as BentoML runners with adaptive batching, and a service with one call for each."""

from __future__ import annotations

import bentoml
import compute
from bentoml.io import NumpyNdarray


def runner(name: str) -> bentoml.Runner:
    """Return a runner of one model."""

    class Runnable(bentoml.Runnable):
        SUPPORTED_RESOURCES = ("cpu",)
        SUPPORTS_CPU_MULTI_THREADING = True

        def __init__(self) -> None:
            self._model = compute.load(name)

        @bentoml.Runnable.method(batchable=True, batch_dim=0)
        def predict(self, x):
            return self._model(x)

    return bentoml.Runner(Runnable, name=name)


linear, perceptron = runner("linear64"), runner("mlp")
service = bentoml.Service("peers", runners=[linear, perceptron])


@service.api(input=NumpyNdarray(dtype="float32"), output=NumpyNdarray(dtype="float32"))
async def linear64(x):
    """Call the linear model."""
    return await linear.predict.async_run(x)


@service.api(input=NumpyNdarray(dtype="float32"), output=NumpyNdarray(dtype="float32"))
async def mlp(x):
    """Call the perceptron."""
    return await perceptron.predict.async_run(x)
