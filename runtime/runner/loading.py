"""Brings a model from the store to the point where it can serve: load, then warm up."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import product, zip_longest
from pathlib import Path

import numpy as np

from frameworks import registry, sample
from frameworks.base import LoadOptions
from runtime.runner.executor import Executor, Method
from runtime.runner.order import Order
from runtime.tensors.layout import Array
from store import Model, ModelStore, Signature, TensorSpec
from store.datatypes import numpy_dtype

Extents = dict[tuple[str, int], int]

log = logging.getLogger(__name__)


def load(order: Order) -> Executor:
    """Load and warm up.

    Raises:
        Exception: whatever the store, the adapter or the model raised.
    """
    model = ModelStore(Path(order.store)).get(order.tag)
    adapter = registry.adapter(model.info.module)
    methods = adapter.open_methods(model, LoadOptions(device=order.device, threads=order.threads))
    warm_up(model, methods, order.allowed_batch_sizes or _doubling(order.max_batch_size))
    return Executor(methods, model.info.signatures, allowed_batch_sizes=order.allowed_batch_sizes)


def warm_up(model: Model, methods: Mapping[str, Method], sizes: Sequence[int]) -> None:
    """Run every method that has specs once for each batch size, or just once if it is not batchable.

    Where requests are padded, that is done for each bucket.

    The sample that was saved with the model is used where its names fit, zeros elsewhere. A method that
    fails on the saved sample makes the model unloadable; one that fails on zeros is only logged.
    """
    saved = sample.load(model) or {}
    for name, signature in model.info.signatures.items():
        if signature.inputs is None:
            continue
        real = all(spec.name in saved for spec in signature.inputs)
        for size, extents in product(sizes if signature.batchable else (1,), _buckets(signature)):
            inputs = {
                spec.name: _rows(spec, saved.get(spec.name), signature, size, extents)
                for spec in signature.inputs
            }
            try:
                methods[name](inputs)
            except Exception as error:
                if real:
                    raise
                log.warning("warm_up_skipped", extra={"method": name, "cause": describe(error)})
                break


def _doubling(max_batch_size: int) -> list[int]:
    """1, 2, 4 … and the largest batch size, where all sizes may come."""
    sizes = [max_batch_size]
    size = 1
    while size < max_batch_size:
        sizes.insert(-1, size)
        size *= 2
    return sizes


def _buckets(signature: Signature) -> Iterator[Extents]:
    """The extents of each bucket by input and axis; of several paddings the first ones together, and so on.

    Without buckets there is no end of them: the sample's extents have to do.
    """
    axis = signature.batch_dim[0]
    for extents in zip_longest(*[padding.buckets for padding in signature.padding]):
        made: Extents = {}
        for padding, extent in zip(signature.padding, extents, strict=True):
            bucket = extent or (padding.buckets[-1] if padding.buckets else 0)
            axes = padding.inputs if padding.mask is None else (*padding.inputs, (padding.mask, 1 - axis))
            made.update({pair: bucket for pair in axes if bucket})
        yield made
    if not any(padding.buckets for padding in signature.padding):
        yield {}


def _rows(spec: TensorSpec, saved: Array | None, signature: Signature, size: int, extents: Extents) -> Array:
    """``size`` rows of the saved sample, or of zeros (empty text for BYTES), repeated up to the extents."""
    axis = signature.batch_dim[0]
    if saved is None:
        shape = [1 if extent < 0 else extent for extent in spec.shape]
        saved = np.zeros(shape, dtype=numpy_dtype(spec.datatype))
        if spec.datatype == "BYTES":
            saved[...] = b""
    if not signature.batchable:
        return saved.copy()
    rows: Array = np.take(saved, np.arange(size) % saved.shape[axis], axis=axis)
    for (name, along), extent in extents.items():
        if name == spec.name and rows.shape[along]:
            rows = np.take(rows, np.arange(extent) % rows.shape[along], axis=along)
    return rows


def describe(error: BaseException) -> str:
    """Say an error in one line: what, and where in the code its first cause was raised."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    frames = traceback.extract_tb(first.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
