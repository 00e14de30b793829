"""Optimisation profiles: within which shapes a plan works, and for which it is fast.

A plan is built for a range of extents along each dynamic axis, and refuses everything outside of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from frameworks.arrays import Arrays
from frameworks.errors import InvalidModel
from store import Signature, TensorSpec
from store.fields import is_int
from store.signature import DYNAMIC

Shape: TypeAlias = tuple[int, ...]
Range: TypeAlias = tuple[int, int, int]
Profile: TypeAlias = Mapping[str, tuple[Shape, Shape, Shape]]
"""Input to its least, usual and largest shape."""


def as_profile(value: Any) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Return a checked copy of a profile, or of its form in JSON.

    Raises:
        InvalidModel: it is none; the input is named.
    """
    if not isinstance(value, Mapping):
        raise InvalidModel(f"a profile maps inputs to shapes; this is {value!r}", field="profile")
    found = {}
    for name, shapes in value.items():
        field = f"profile.{name}"
        if not _is_sequence(shapes) or len(shapes) != 3 or not all(map(_is_shape, shapes)):
            raise InvalidModel(
                f"the profile of input {name!r} must be its least, usual and largest shape, not {shapes!r}",
                field=field,
            )
        least, usual, largest = (tuple(shape) for shape in shapes)
        if not len(least) == len(usual) == len(largest):
            raise InvalidModel(
                f"the shapes in the profile of input {name!r} differ in their number of axes", field=field
            )
        for axis, extents in enumerate(zip(least, usual, largest, strict=True)):
            _check_range(extents, f"input {name!r}, axis {axis}", field)
        found[str(name)] = (least, usual, largest)
    return found


def derive(
    signature: Signature,
    samples: Sequence[Arrays],
    max_batch_size: int,
    axes: Mapping[str, Mapping[int, Range]],
) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Return the profile of a method's dynamic inputs.

    Each dynamic axis, in this order: as ``axes`` says; the batch axis takes 1 to ``max_batch_size`` rows and
    is fastest when full; any other takes the least, middle and largest extent that it has in the samples.

    Args:
        signature: with input specs.
        samples: inputs by name, in full or in part.
        max_batch_size: most rows, from 1 up.
        axes: input name to axis to (least, usual, largest) extent.

    Raises:
        InvalidModel: an axis is named that there is not or that is not dynamic, a range contradicts itself,
            or nothing says how far a dynamic axis extends.
    """
    specs = {spec.name: spec for spec in signature.inputs or ()}
    _check_axes(specs, axes)
    batch_axis = signature.batch_dim[0] if signature.batchable else None
    found = {}
    for name, spec in specs.items():
        if DYNAMIC not in spec.shape:
            continue
        ranges: list[Range] = []
        for axis, extent in enumerate(spec.shape):
            if extent != DYNAMIC:
                ranges.append((extent, extent, extent))
            elif axis in axes.get(name, {}):
                ranges.append(axes[name][axis])
            elif axis == batch_axis:
                ranges.append((1, max_batch_size, max_batch_size))
            else:
                ranges.append(_of_samples(name, axis, samples))
        least, usual, largest = zip(*ranges, strict=True)
        found[name] = (tuple(least), tuple(usual), tuple(largest))
    return found


def check(profile: Profile, inputs: Iterable[TensorSpec]) -> None:
    """Make sure that a profile fits what a network takes.

    Raises:
        InvalidModel: a dynamic input has no profile, or the profile names another input or contradicts a
            shape.
    """
    specs = {spec.name: spec for spec in inputs}
    for name in profile:
        if name not in specs:
            raise InvalidModel(
                f"the profile names the input {name!r}; the graph takes {', '.join(specs)}",
                field=f"profile.{name}",
            )
    for name, spec in specs.items():
        if name in profile:
            _check_shapes(spec, profile[name])
        elif DYNAMIC in spec.shape:
            raise InvalidModel(
                f"input {name!r} has the shape {list(spec.shape)}: give its least, usual and largest shape "
                "in the profile",
                field=f"profile.{name}",
            )


def largest_rows(profile: Profile, axis: int) -> int | None:
    """Return the most rows along a batch axis that every input of the profile takes; None without any."""
    rows = [shapes[2][axis] for shapes in profile.values() if len(shapes[2]) > axis]
    return min(rows) if rows else None


def _check_shapes(spec: TensorSpec, shapes: tuple[Shape, Shape, Shape]) -> None:
    for shape in shapes:
        fits = len(shape) == len(spec.shape) and all(
            extent in (DYNAMIC, given) for extent, given in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise InvalidModel(
                f"the profile of input {spec.name!r} has the shape {list(shape)}; the graph takes "
                f"{list(spec.shape)}",
                field=f"profile.{spec.name}",
            )


def _check_axes(specs: Mapping[str, TensorSpec], axes: Mapping[str, Mapping[int, Range]]) -> None:
    for name, ranges in axes.items():
        field = f"trt_axes.{name}"
        if name not in specs:
            raise InvalidModel(
                f"trt_axes names the input {name!r}; there are {', '.join(specs)}", field=field
            )
        shape = specs[name].shape
        for axis, extents in ranges.items():
            if not 0 <= axis < len(shape) or shape[axis] != DYNAMIC:
                raise InvalidModel(
                    f"trt_axes names axis {axis} of input {name!r}, which is not dynamic: its shape is "
                    f"{list(shape)}",
                    field=field,
                )
            _check_range(extents, f"input {name!r}, axis {axis}", field)


def _of_samples(name: str, axis: int, samples: Sequence[Arrays]) -> Range:
    extents = sorted(sample[name].shape[axis] for sample in samples if name in sample)
    if not extents:
        raise InvalidModel(
            f"nothing says how far axis {axis} of input {name!r} extends: give its least, usual and largest "
            "extent in the profile, or a sample",
            field=f"profile.{name}",
        )
    return extents[0], extents[len(extents) // 2], extents[-1]


def _check_range(extents: Sequence[Any], what: str, field: str) -> None:
    if len(extents) != 3 or not all(is_int(extent) for extent in extents):
        raise InvalidModel(
            f"{what} needs three extents: least, usual, largest; not {tuple(extents)!r}", field=field
        )
    least, usual, largest = extents
    if not 0 <= least <= usual <= largest:
        raise InvalidModel(
            f"{what}: least {least}, usual {usual} and largest {largest} must not decrease, nor be negative",
            field=field,
        )


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_shape(value: Any) -> bool:
    return _is_sequence(value) and all(is_int(extent) for extent in value)
