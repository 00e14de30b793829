"""One conversion to a path of the caller's choice, for ModelCI's converters.

The source goes into a store that lasts as long as it takes. Inputs are made up from specs. Nothing is
verified.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from frameworks import registry
from frameworks.base import SaveArguments
from frameworks.convert.formats import Status, Variant
from frameworks.convert.isolate import Limits
from frameworks.convert.samples import Samples, collect, stack
from frameworks.convert.single import convert_one
from frameworks.convert.specs import ROWS, made_up
from frameworks.convert.work import Settings
from frameworks.errors import FrameworkError
from runtime.convert import arguments, source
from runtime.convert.shapes import is_batchable
from runtime.convert.source import Source
from store import Model, ModelStore, Signature, TensorSpec

_NAME: Final = "source"
_SAMPLE_ROWS: Final = 3


class ConversionFailed(FrameworkError):
    """A conversion did not go well (FAILED_PRECONDITION)."""

    reason = "conversion_failed"


def samples_of(inputs: Sequence[TensorSpec]) -> Samples:
    """Return made-up samples for inputs; a first extent of -1 of all of them is the batch axis."""
    batchable = is_batchable(inputs)
    signature = Signature(batchable=batchable, inputs=tuple(inputs))
    return collect(made_up(signature, ROWS, seed=0), batch_dim=0 if batchable else None)


def from_object(
    variant: Variant, target: Path, origin: Source, inputs: Sequence[TensorSpec], settings: Settings
) -> None:
    """Convert a framework's own object that is called as a whole.

    Args:
        variant: what to make.
        target: file or folder to write.
        origin: the object.
        inputs: specs of its inputs.
        settings: of the conversion.

    Raises:
        ConversionFailed: it did not go well; the message says why.
        FrameworkError: the object cannot be saved, or cannot execute inputs of these specs.
    """
    samples = samples_of(inputs)
    given = arguments.Given(
        model_name=_NAME,
        dynamic_axes={spec.name: [i for i, size in enumerate(spec.shape) if size < 0] for spec in inputs},
        batch_dim=samples.batch_dim,
        run_profiling=False,
    )
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        model = source.save(origin, samples, arguments.check(given, origin.module), ModelStore(folder))
        _convert(variant, target, model, samples, settings)


def from_methods(
    variant: Variant,
    target: Path,
    module: str,
    model: Any,
    methods: Sequence[str],
    inputs: Sequence[TensorSpec],
    settings: Settings,
    start: tuple[Variant, Path] | None = None,
) -> None:
    """Convert what an adapter saves, all its methods of the same inputs at once.

    Args:
        variant: what to make.
        target: file or folder to write.
        module: the adapter.
        model: what it saves: an object, or the path of a file.
        methods: names of the methods.
        inputs: specs of their inputs.
        settings: of the conversion.
        start: a variant to start from and where it lies; the model then says only what its methods take.

    Raises:
        ConversionFailed: it did not go well; the message says why.
        FrameworkError: the model cannot be saved, or cannot execute inputs of these specs.
    """
    samples = samples_of(inputs)
    signature = Signature(batchable=samples.batch_dim is not None, inputs=tuple(inputs))
    rows = samples.conversion
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        given: SaveArguments = {
            "store": ModelStore(folder),
            "signatures": dict.fromkeys(methods, signature),
            "sample": rows[0] if samples.batch_dim is None else stack(rows, _SAMPLE_ROWS, 0),
        }
        saved = registry.adapter(module).save_model(_NAME, model, **given)
        _convert(variant, target, saved, samples, settings, start)


def merged(own: Sequence[TensorSpec], given: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return a file's own specs, with the extents that the user says where the file leaves them open.

    Raises:
        ConversionFailed: number, rank or extents contradict each other.
    """
    if not given:
        return tuple(own)
    if len(own) != len(given):
        raise ConversionFailed(f"the model has {len(own)} inputs, {len(given)} are described", field="inputs")
    by_name: Mapping[str, TensorSpec] = {spec.name: spec for spec in given}
    pairs = [(spec, by_name.get(spec.name, other)) for spec, other in zip(own, given, strict=True)]
    for spec, other in pairs:
        fits = len(spec.shape) == len(other.shape) and all(
            -1 in (mine, theirs) or mine == theirs
            for mine, theirs in zip(spec.shape, other.shape, strict=True)
        )
        if not fits:
            raise ConversionFailed(
                f"input {spec.name!r} has shape {list(spec.shape)}, not {list(other.shape)}", field="inputs"
            )
    return tuple(
        replace(spec, shape=tuple(map(max, zip(spec.shape, other.shape, strict=True))))
        for spec, other in pairs
    )


def _convert(
    variant: Variant,
    target: Path,
    model: Model,
    samples: Samples,
    settings: Settings,
    start: tuple[Variant, Path] | None = None,
) -> None:
    outcome = convert_one(
        variant,
        target,
        origin=start or model,
        signatures=model.info.signatures,
        samples=samples,
        settings=settings,
        limits=Limits(),
    )
    if outcome.status is not Status.OK:
        raise ConversionFailed(outcome.message or outcome.reason, field=str(variant))
