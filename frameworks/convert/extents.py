"""Samples at extents that the data does not show: what was made for one extent only must not pass for right.

Where an axis is dynamic and all samples have the same extent along it, as with the one sample that a model
was saved with, a sample is cut and repeated, and kept with the source's answer if the source takes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from frameworks import extents, sample
from frameworks.arrays import Arrays
from frameworks.calling import Opened
from frameworks.convert import npz
from frameworks.convert.samples import Samples
from frameworks.convert.verify import outputs_of
from frameworks.convert.work import Settings
from frameworks.errors import SampleFailed
from store import Signature

Answers = Mapping[str, Arrays]
"""By method."""


def find(
    samples: Samples,
    methods: Mapping[str, Opened],
    signatures: Mapping[str, Signature],
    settings: Settings,
) -> list[tuple[Arrays, Answers]]:
    """Return samples at other extents, and what each method answers them.

    Args:
        samples: inputs of the first method.
        methods: of the source.
        signatures: of the methods that take the samples, with specs.
        settings: extents given for TensorRT are the ones to try.
    """
    first = next(iter(signatures.values()))

    def run(other: Arrays) -> Answers | None:
        answers = {}
        for name, signature in signatures.items():
            try:
                (answer,) = outputs_of(methods[name], signature, [other])
            except SampleFailed:
                return None
            if sample.fit(list(answer.values()), signature.outputs or ()) is None:
                return None  # a server would not return it either
            answers[name] = answer
        return answers

    given = samples.conversion[0]
    return list(extents.try_others(given, _others(samples, given, first, settings), run))


def write(items: list[Arrays], folder: Path) -> None:
    """Keep them in the place of those that were there."""
    if items:
        npz.write_kind(folder, items)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _others(
    samples: Samples, given: Arrays, signature: Signature, settings: Settings
) -> dict[extents.Axis, tuple[int, int]]:
    """Return what to try along the dynamic axes along which the samples do not vary."""
    batch = signature.batch_dim[0] if signature.batchable else None
    shown = [*samples.conversion, *samples.correctness]
    alike = [
        (name, axis)
        for name, axis in extents.open_axes(signature.inputs or (), batch)
        if name in given and len({one[name].shape[axis] for one in shown}) == 1
    ]
    found = extents.around(given, alike)
    for padding in signature.padding:
        if padding.buckets:
            named = {*padding.inputs, (padding.mask, 1 - signature.batch_dim[0])}
            found.update({axis: (padding.buckets[0], padding.buckets[-1]) for axis in found if axis in named})
    for name, axis in found:
        if axis in settings.trt_axes.get(name, {}):
            least, _, largest = settings.trt_axes[name][axis]
            found[name, axis] = (max(least, 1), max(largest, 1))
    return found
