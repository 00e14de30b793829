"""Tensors made up from specs, for a model that was saved without a sample.

Random numbers show whether a conversion computes the same thing, not whether it does so where it matters:
real samples are better, and what was made up says so.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from frameworks.arrays import Array, Arrays
from store import Signature, TensorSpec, datatypes
from store.signature import DYNAMIC

EXTENTS: Final = (8, 16)
"""What a dynamic axis is tried with, where the signature names no buckets."""

ROWS: Final = 16
"""Rows that are made up unless asked otherwise."""

_LARGEST_INTEGER: Final = 9
"""Small, since integers are often indexes into a table of unknown length."""


def made_up(signature: Signature, rows: int, seed: int) -> list[Arrays]:
    """Return random inputs of a method whose input specs are known.

    Args:
        signature: of the method. Axes that it pads get the least and the largest bucket.
        rows: how many to make in all, from 1 up; whole inputs where it is not batchable.
        seed: of the numbers; the same one gives the same.

    Returns:
        One batch for each choice of extents, or single whole inputs, by turns of extents.
    """
    random = np.random.default_rng(seed)
    specs = signature.inputs or ()
    axis = signature.batch_dim[0] if signature.batchable else None
    choices = [_shapes(signature, index) for index in range(len(EXTENTS))]
    if choices[0] == choices[1]:
        choices = choices[:1]
    made: list[Arrays] = []
    while sum(1 if axis is None else _first(item).shape[axis] for item in made) < rows:
        shapes = choices[len(made) % len(choices)]
        if axis is not None:
            extent = -(-rows // len(choices))
            shapes = {name: (*shape[:axis], extent, *shape[axis + 1 :]) for name, shape in shapes.items()}
        made.append({spec.name: _tensor(random, spec, shapes[spec.name], signature) for spec in specs})
    return made


def _first(arrays: Arrays) -> Array:
    return next(iter(arrays.values()))


def _shapes(signature: Signature, choice: int) -> dict[str, tuple[int, ...]]:
    """Return each input's shape with its dynamic axes filled in; the batch axis is 1."""
    buckets: dict[tuple[str, int], int] = {}
    into = signature.batch_dim[0]
    for padding in signature.padding:
        pairs = [*padding.inputs, *([(padding.mask, 1 - into)] if padding.mask is not None else [])]
        if padding.buckets:
            buckets.update(dict.fromkeys(pairs, padding.buckets[-1 if choice else 0]))
    return {
        spec.name: tuple(
            1
            if signature.batchable and axis == into
            else buckets.get((spec.name, axis), EXTENTS[choice])
            if size == DYNAMIC
            else size
            for axis, size in enumerate(spec.shape)
        )
        for spec in signature.inputs or ()
    }


def _tensor(
    random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], signature: Signature
) -> Array:
    if spec.datatype == "BYTES":
        numbers = random.integers(0, _LARGEST_INTEGER, size=shape, endpoint=True)
        texts = np.empty(numbers.size, dtype=object)
        texts[:] = [b"text %d" % number for number in numbers.ravel().tolist()]
        return texts.reshape(shape)
    dtype = datatypes.numpy_dtype(spec.datatype)
    if spec.name in signature.masks:
        return np.ones(shape, dtype)
    if spec.datatype == "BOOL":
        return random.integers(0, 1, size=shape, endpoint=True).astype(dtype)
    if "INT" in spec.datatype:
        return random.integers(0, _LARGEST_INTEGER, size=shape, endpoint=True).astype(dtype)
    return np.asarray(random.standard_normal(size=shape)).astype(dtype)
