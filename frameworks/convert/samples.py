"""Samples: the inputs that a conversion is made with, verified with and measured with.

Taken from a dataloader in one pass that holds no more rows than it returns, or from the sample that a model
was saved with. They are kept as single rows with the batch axis; ``stack`` makes batches of them again.

Invariants: all samples have the same names in the same order, datatypes and ranks; each has one row, where
there is a batch axis; the same dataloader and seed give the same samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from frameworks import sample
from frameworks.arrays import Array, Arrays, as_array
from frameworks.convert import npz, specs
from frameworks.convert.choose import Chooser
from frameworks.convert.items import InvalidSamples, Layout, read_items
from store import Model, TensorSpec, datatypes
from store.fields import is_int
from store.signature import DYNAMIC

__all__ = [
    "COUNT",
    "EXTENTS",
    "KINDS",
    "InvalidSamples",
    "Samples",
    "collect",
    "from_model",
    "specs_of",
    "stack",
]

KINDS: Final = ("conversion", "correctness", "profiling")

EXTENTS: Final = "extents"
"""A further kind, which a run adds; see ``frameworks.convert.extents``."""

COUNT: Final = 100
"""Samples for correctness, unless told otherwise."""

FORMAT_VERSION: Final = "1"

_RECORD: Final = "samples.json"
_OTHER_NAMES: Final = {"profiling": "performance"}
"""A second name that packages made elsewhere may use for a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Inputs of one method, as it takes them.

    Args:
        conversion: span every axis that varies: the smallest and the largest of each.
        correctness: random ones.
        profiling: one: random among the largest.
        batch_size: rows of the dataloader's first item; 1 where there is no batch axis.
        batch_dim: batch axis, which is 1 in every sample; None where samples are whole inputs.
        generated: made up from specs, not taken from data.
        extents: at extents that the others do not have; may be empty.

    Raises:
        InvalidSamples: a kind is empty, or an invariant of the module is broken.
    """

    conversion: tuple[Arrays, ...]
    correctness: tuple[Arrays, ...]
    profiling: tuple[Arrays, ...]
    batch_size: int = 1
    batch_dim: int | None = 0
    generated: bool = False
    extents: tuple[Arrays, ...] = ()

    def __post_init__(self) -> None:
        layout: Layout | None = None
        for kind in (*KINDS, EXTENTS):
            items: tuple[Arrays, ...] = getattr(self, kind)
            if not items and kind != EXTENTS:
                raise InvalidSamples(f"there are no {kind} samples", field=kind)
            for index, arrays in enumerate(items):
                where = f"{kind} sample {index}"
                layout = layout or Layout.of(where, arrays, self.batch_dim)
                if layout.rows(where, arrays) != 1:
                    raise InvalidSamples(f"{where} must have one row", field=kind)

    @property
    def all(self) -> tuple[Arrays, ...]:
        """The samples of every kind, as they were given."""
        return self.conversion + self.correctness + self.profiling

    def save(self, folder: Path) -> None:
        """Write ``conversion``, ``correctness`` and ``profiling`` below a folder, replacing what is there.

        Those of ``extents`` are a run's own.

        Raises:
            CorruptArrays: a tensor's name cannot be stored.
        """
        for kind in KINDS:
            npz.write_kind(folder / kind, getattr(self, kind))
        record = {
            "format_version": FORMAT_VERSION,
            "batch_size": self.batch_size,
            "batch_dim": self.batch_dim,
            "generated": self.generated,
        }
        unfinished = folder / f".{_RECORD}"
        unfinished.write_text(json.dumps(record), encoding="utf-8")
        unfinished.rename(folder / _RECORD)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote, and the samples of ``extents`` that a run has added.

        Raises:
            CorruptArrays: a file is missing or damaged.
            InvalidSamples: the samples are not as they should be.
        """
        record = _read_record(folder / _RECORD)
        found: dict[str, Any] = {}
        for kind in KINDS:
            own, other = folder / kind, folder / _OTHER_NAMES.get(kind, kind)
            found[kind] = tuple(npz.read_kind(own if own.is_dir() or not other.is_dir() else other))
        if (folder / EXTENTS).is_dir():
            found[EXTENTS] = tuple(npz.read_kind(folder / EXTENTS))
        return cls(**found, **record)


def collect(
    dataloader: object,
    *,
    names: Sequence[str] | None = None,
    batch_dim: int | None = 0,
    count: int | None = None,
    convert: Callable[[object], Array] = as_array,
    seed: int = 0,
) -> Samples:
    """Choose samples from a dataloader, reading each of its items once.

    Args:
        dataloader: has ``len()`` and ``iter()``. An item is a tensor, a tuple or list of tensors, or a
            mapping by name; it may have any number of rows.
        names: of the tensors of a tuple, in order, or which ones of a mapping to take; None for ``input_0``
            and so on, or all of the mapping.
        batch_dim: axis of the rows; None if each item is one whole input.
        count: samples for correctness; all when there are fewer. Default 100.
        convert: a tensor of the items to an array.
        seed: of the choice.

    Raises:
        InvalidSamples: no dataloader, no items, or an item differs from the first; item and input are named.
    """
    count = COUNT if count is None else count
    for field, value, least in (("count", count, 1), ("batch_dim", batch_dim or 0, 0)):
        if not is_int(value) or value < least:
            raise InvalidSamples(f"{field} must be an integer from {least} up, not {value!r}", field=field)
    chooser = Chooser(count, batch_dim, seed)
    layout: Layout | None = None
    batch_size = 1
    for index, arrays in enumerate(read_items(dataloader, names, convert)):
        where = f"item {index} of the dataloader"
        if layout is None:
            layout = Layout.of(where, arrays, batch_dim)
            batch_size = layout.rows(where, arrays)
        chooser.add(layout.order(arrays), layout.rows(where, arrays))
    if layout is None:
        raise InvalidSamples("the dataloader has no items", field="dataloader")
    return Samples(
        conversion=chooser.conversion,
        correctness=chooser.correctness,
        profiling=chooser.profiling,
        batch_size=batch_size,
        batch_dim=batch_dim,
    )


def from_model(model: Model, method: str, count: int | None = None, *, seed: int = 0) -> Samples:
    """Return the rows of the sample that a model was saved with, or rows made up from its specs.

    Args:
        model: a saved model.
        method: whose inputs they are to be.
        count: samples for correctness; None for all there are, or 16 made-up ones.
        seed: of choice and of made-up numbers.

    Returns:
        The samples; ``generated`` says that they were made up.

    Raises:
        InvalidSamples: no such method, or neither sample nor input specs.
        StoreError: the stored sample is damaged or gone.
    """
    signature = model.info.signatures.get(method)
    if signature is None:
        raise InvalidSamples(f"{model.tag} has no method {method!r}", field="method")
    batch_dim = signature.batch_dim[0] if signature.batchable else None
    stored = sample.load(model, method if signature.inputs is not None else None)
    if stored is not None:
        return collect([stored], batch_dim=batch_dim, count=count, seed=seed)
    if not signature.inputs:
        raise InvalidSamples(
            f"{model.tag} was saved without a sample, and method {method!r} has no input specs; "
            "give samples, or save it with sample=",
            field="samples",
        )
    items = specs.made_up(signature, specs.ROWS if count is None else count, seed)
    found = collect(items, batch_dim=batch_dim, count=count or specs.ROWS, seed=seed)
    return Samples(
        conversion=found.conversion,
        correctness=found.correctness,
        profiling=found.profiling,
        batch_size=found.batch_size,
        batch_dim=batch_dim,
        generated=True,
    )


def stack(samples: Sequence[Arrays], rows: int, axis: int) -> Arrays:
    """Return a batch made of single rows, by turns of those whose other extents are those of the first.

    Args:
        samples: single rows, at least one.
        rows: of the batch, from 1 up.
        axis: the batch axis.

    Raises:
        InvalidSamples: no samples, or no rows.
    """
    if not samples or rows < 1:
        raise InvalidSamples(f"{rows} rows cannot be made of {len(samples)} samples", field="rows")
    extents = extents_of(samples[0], axis)
    alike = [arrays for arrays in samples if extents_of(arrays, axis) == extents]
    return join([alike[row % len(alike)] for row in range(rows)], axis)


def join(parts: Sequence[Arrays], axis: int) -> Arrays:
    """Return tensors of the same names, one after the other along an axis."""
    return {
        name: np.ascontiguousarray(np.concatenate([part[name] for part in parts], axis=axis))
        for name in parts[0]
    }


def extents_of(arrays: Arrays, axis: int | None) -> tuple[tuple[int, ...], ...]:
    """Return every tensor's shape without the batch axis; equal ones can stand in one batch."""
    return tuple(
        array.shape if axis is None else (*array.shape[:axis], *array.shape[axis + 1 :])
        for array in arrays.values()
    )


def specs_of(
    samples: Samples, dynamic: Mapping[str, Collection[int]] | None = None
) -> tuple[TensorSpec, ...]:
    """Return the input specs that samples show.

    Args:
        samples: their batch axis, and axes whose extents differ between them, are -1.
        dynamic: further axes that are to be -1, by name of input.

    Raises:
        InvalidSamples: ``dynamic`` names an input or an axis that is not there.
    """
    first = samples.all[0]
    opened = {name: {axis for axis in axes} for name, axes in (dynamic or {}).items()}
    for name, axes in opened.items():
        if name not in first:
            raise InvalidSamples(
                f"dynamic axes are given for {name!r}; the inputs are {', '.join(first)}", field=name
            )
        for axis in axes:
            if not is_int(axis) or not 0 <= axis < first[name].ndim:
                raise InvalidSamples(
                    f"input {name!r} has {first[name].ndim} axes; {axis!r} is none of them", field=name
                )
    for arrays in samples.all:
        for name, array in arrays.items():
            open_here = opened.setdefault(name, set())
            sizes = zip(array.shape, first[name].shape, strict=True)
            open_here.update(axis for axis, (one, other) in enumerate(sizes) if one != other)
    return tuple(
        TensorSpec(
            name,
            datatypes.from_numpy(array.dtype),
            tuple(
                DYNAMIC if axis == samples.batch_dim or axis in opened[name] else size
                for axis, size in enumerate(array.shape)
            ),
        )
        for name, array in first.items()
    )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise npz.CorruptArrays(f"{path} cannot be read: {error}", field=path.name) from error
    if not isinstance(record, dict) or record.get("format_version") != FORMAT_VERSION:
        raise npz.CorruptArrays(f"{path} is not of format_version {FORMAT_VERSION!r}", field=path.name)
    size, axis, generated = (record.get(name) for name in ("batch_size", "batch_dim", "generated"))
    if (
        not isinstance(size, int)
        or size < 1
        or not (axis is None or (is_int(axis) and axis >= 0))
        or not isinstance(generated, bool)
    ):
        raise npz.CorruptArrays(
            f"{path} needs batch_size from 1 up, batch_dim from 0 up or null, and generated", field=path.name
        )
    return {"batch_size": size, "batch_dim": axis, "generated": generated}
