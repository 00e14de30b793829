"""Brings a model from the store to the point where it can serve: load, then warm up."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from frameworks import registry, sample
from frameworks.base import LoadOptions
from runtime.runner.executor import Executor, Method
from runtime.runner.order import Order
from runtime.tensors.layout import Array
from store import Model, ModelStore, Signature, TensorSpec
from store.datatypes import numpy_dtype

log = logging.getLogger(__name__)


def load(order: Order) -> Executor:
    """Load and warm up.

    Raises:
        Exception: whatever the store, the adapter or the model raised.
    """
    model = ModelStore(Path(order.store)).get(order.tag)
    adapter = registry.adapter(model.info.module)
    methods = adapter.open_methods(model, LoadOptions(device=order.device, threads=order.threads))
    warm_up(model, methods, order.max_batch_size)
    return Executor(methods, model.info.signatures)


def warm_up(model: Model, methods: Mapping[str, Method], max_batch_size: int) -> None:
    """Run every method that has specs once for each batch size 1, 2, 4 … max_batch_size.

    The sample that was saved with the model is used where its names fit, zeros elsewhere. A method that
    fails on the saved sample makes the model unloadable; one that fails on zeros is only logged.
    """
    saved = sample.load(model) or {}
    for name, signature in model.info.signatures.items():
        if signature.inputs is None:
            continue
        real = all(spec.name in saved for spec in signature.inputs)
        for size in _sizes(signature, max_batch_size):
            inputs = {
                spec.name: _rows(spec, saved.get(spec.name), signature, size) for spec in signature.inputs
            }
            try:
                methods[name](inputs)
            except Exception as error:
                if real:
                    raise
                log.warning("warm_up_skipped", extra={"method": name, "cause": describe(error)})
                break


def _sizes(signature: Signature, max_batch_size: int) -> Iterator[int]:
    size = 1
    while signature.batchable and size < max_batch_size:
        yield size
        size *= 2
    yield max_batch_size if signature.batchable else 1


def _rows(spec: TensorSpec, saved: Array | None, signature: Signature, size: int) -> Array:
    """``size`` rows of the saved sample, or of zeros (empty strings for BYTES)."""
    axis = signature.batch_dim[0]
    if saved is None:
        shape = [1 if extent < 0 else extent for extent in spec.shape]
        saved = np.zeros(shape, dtype=numpy_dtype(spec.datatype))
        if spec.datatype == "BYTES":
            saved[...] = b""
    if not signature.batchable:
        return saved.copy()
    rows: Array = np.take(saved, np.arange(size) % saved.shape[axis], axis=axis)
    return rows


def describe(error: BaseException) -> str:
    """Say an error in one line: what, and where in the code its first cause was raised."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    frames = traceback.extract_tb(first.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
