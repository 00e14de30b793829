"""What exporters are told of shapes: an example, which axes are dynamic, and between which extents.

The batch axis is one dimension shared by all inputs. Other dynamic axes may or may not be equal: the exporter
finds out from what the model does with them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from frameworks import base
from frameworks.arrays import Arrays
from frameworks.convert.work import NotConvertible, Work
from frameworks.sample import fit
from store import Signature
from store.signature import DYNAMIC

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

BATCH: Final = "batch"

LEAST: Final = 2
"""Extent of a dynamic axis in an example: exporters take one for a constant."""


def example(work: Work, signature: Signature) -> Arrays:
    """Return inputs to export with, by name in the signature's order: two rows of the largest sample.

    Raises:
        NotConvertible: no sample fits the signature.
    """
    specs = signature.inputs or ()
    names = [spec.name for spec in specs]
    fitting = []
    for sample in work.samples:
        values = [sample[name] for name in names] if set(names) <= set(sample) else list(sample.values())
        found = fit(values, specs)
        if found is not None:
            fitting.append(found)
    if not fitting:
        raise NotConvertible("no sample fits the specs of the method's inputs", field="samples")
    largest = max(fitting, key=lambda one: sum(array.size for array in one.values()))
    alike = [one for one in fitting if all(one[name].shape == largest[name].shape for name in names)]
    batch = batch_axis(signature)
    result = {}
    for spec in specs:
        array = largest[spec.name]
        for axis, size in enumerate(spec.shape):
            if axis == batch:
                array = np.concatenate([one[spec.name] for one in (alike * 2)[:LEAST]], axis=axis)
            elif size == DYNAMIC and array.shape[axis] < LEAST:
                array = np.repeat(array, LEAST, axis=axis)
        result[spec.name] = np.ascontiguousarray(array)
    return result


def batch_axis(signature: Signature) -> int | None:
    """Return the batch axis of the inputs; None where rows are not merged."""
    return signature.batch_dim[0] if signature.batchable else None


def dynamic_shapes(signature: Signature, max_batch_size: int) -> tuple[dict[int, Any], ...]:
    """Return what ``torch.export`` is told of each input, by position.

    Args:
        signature: with input specs.
        max_batch_size: most rows that the program is to take.
    """
    # A range of one extent is no range: torch would take the axis for a constant.
    rows = torch.export.Dim(BATCH, min=1, max=max(max_batch_size, LEAST))
    batch = batch_axis(signature)
    return tuple(
        {
            axis: rows if axis == batch else torch.export.Dim.DYNAMIC
            for axis, size in enumerate(spec.shape)
            if size == DYNAMIC
        }
        for spec in signature.inputs or ()
    )


def dynamic_axes(signature: Signature, names: list[str]) -> dict[str, dict[int, str]]:
    """Return what the older ONNX exporter is told.

    Args:
        signature: with all specs.
        names: of the inputs and outputs in the graph, in this order.
    """
    specs = (*(signature.inputs or ()), *(signature.outputs or ()))
    count = len(signature.inputs or ())
    found = {}
    for index, (name, spec) in enumerate(zip(names, specs, strict=True)):
        batch = signature.batch_dim[0 if index < count else 1] if signature.batchable else None
        found[name] = {
            axis: BATCH if axis == batch else f"{name}_{axis}"
            for axis, size in enumerate(spec.shape)
            if size == DYNAMIC
        }
    return found
