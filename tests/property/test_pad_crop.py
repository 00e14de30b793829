"""Padding and cropping again changes nothing, whatever the datatype, the axes and the extents."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.tensors.layout import Array, Layout, TensorLayout
from runtime.tensors.padding import Padder, crop, cropped
from store import Signature
from store.datatypes import NAMES, from_numpy, numpy_dtype
from tests.support.execution import array_of, raw


def filled(datatype: str, shape: tuple[int, ...], seed: int) -> Array:
    """An array of the datatype with content of its own, none of it zero or empty."""
    random = np.random.default_rng(seed)
    if datatype == "BYTES":
        flat = np.empty(math.prod(shape), dtype=object)
        flat[:] = [bytes(random.integers(0, 256, random.integers(1, 9), np.uint8)) for _ in flat]
        return flat.reshape(shape)
    return np.asarray(random.integers(1, 100, size=shape)).astype(numpy_dtype(datatype))


@st.composite
def requests(draw: st.DrawFn) -> tuple[Signature, Array]:
    rank = draw(st.integers(2, 4))
    batch_axis = draw(st.integers(0, 1))
    others = [axis for axis in range(rank) if axis != batch_axis]
    axes = draw(st.lists(st.sampled_from(others), min_size=1, unique=True))
    paddings = [
        {
            "inputs": {"x": axis},
            "outputs": {"x": axis},
            "buckets": draw(st.sampled_from([[], [3, 5], [7]])),
            "mask": draw(st.sampled_from([None, f"mask_{axis}"])),
        }
        for axis in axes
    ]
    signature = Signature.parse({"batchable": True, "batch_dim": batch_axis, "padding": paddings})
    shape = tuple(draw(st.lists(st.integers(0, 5), min_size=rank, max_size=rank)))
    return signature, filled(draw(st.sampled_from(NAMES)), shape, draw(st.integers(0, 1 << 30)))


@settings(deadline=None, max_examples=200)
@given(requests())
def test_what_is_padded_and_cropped_is_what_it_was(request: tuple[Signature, Array]) -> None:
    signature, array = request
    sent = TensorLayout.of("x", from_numpy(array.dtype), array.shape)
    padder = Padder(signature, [sent], [0], max_bytes=1 << 20)
    whole, *masks = padder.pad([raw(array)])
    tensor = padder.tensors[0]
    (shown,) = cropped(Layout("", None, (tensor,)), padder.crops)
    assert shown.dims == array.shape
    assert bytes(crop(tensor, whole, tensor.dims, shown.dims)) == raw(array)

    padded = array_of(tensor, bytes(whole), 0)
    inside = tuple(slice(extent) for extent in array.shape)
    content = np.zeros(padded.shape, bool)
    content[inside] = True
    assert not any(padded[~content].tolist())  # zeros and empty texts
    for made, data in zip(padder.tensors[1:], masks, strict=True):
        axis = int(made.name.removeprefix("mask_"))
        mask = array_of(made, bytes(data), 0)
        rows = mask if signature.batch_dim[0] == 0 else mask.T
        assert rows.sum(axis=1).tolist() == [array.shape[axis]] * array.shape[signature.batch_dim[0]]
        assert rows[:, : array.shape[axis]].all()
