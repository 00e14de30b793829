"""Padding: requests that differ along an axis are brought to few common extents, and so share batches.

Part of a signature, and like it a small mapping that the user writes::

    {"inputs": {"ids": 1}, "buckets": [16, 32, 64], "mask": "attention_mask", "outputs": {"logits": 1}}

Here is what it says and what makes it valid. ``runtime.tensors.padding`` does it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from store.datatypes import itemsize
from store.errors import InvalidSignature
from store.fields import is_int, read
from store.plain import Plain

if TYPE_CHECKING:
    from store.signature import Signature, TensorSpec

Scalar = int | float | str
"""What a tensor is padded with: a number, or text for BYTES."""

Axes = tuple[tuple[str, int], ...]

_KEYS: Final = ("inputs", "value", "buckets", "mask", "outputs")
_LARGEST: Final = {
    "FP16": 65504.0,
    "BF16": 3.3895313892515355e38,
    "FP32": 3.4028234663852886e38,
    "FP64": 1.7976931348623157e308,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """One axis, or several that belong together, along which a method's tensors are padded.

    All inputs of a request have one extent along their axes; it is padded to the next bucket, and the
    outputs are cut back to it.

    Args:
        inputs: axis by name of input, batch axis counted.
        values: what each of these inputs is padded with; 0, which is empty text for BYTES, unless named here.
        buckets: extents to pad to, ascending; none for the powers of two. Few and close to what callers send:
            each is a shape of its own to the batcher and to the device, and what is padded is computed for
            nothing.
        mask: name of an input ``[rows, extent]`` of the model that is 1 where a request has content and 0
            where it is padded. Callers need not send it; if they do, it is padded with 0.
        outputs: axis by name of output.

    Raises:
        InvalidSignature: a value contradicts itself; the field names it.
    """

    inputs: Axes
    values: tuple[tuple[str, Scalar], ...] = ()
    buckets: tuple[int, ...] = ()
    mask: str | None = None
    outputs: Axes = ()

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InvalidSignature("padding names no inputs", field="inputs")
        for field, axes in (("inputs", self.inputs), ("outputs", self.outputs)):
            for name, axis in axes:
                if axis < 0:
                    raise InvalidSignature(f"padding counts axes from 0 up: {name!r} has {axis}", field=field)
        if any(low >= high for low, high in zip((0, *self.buckets), self.buckets, strict=False)):
            raise InvalidSignature(
                f"buckets must be positive and ascending, not {list(self.buckets)}", field="buckets"
            )
        names = [name for name, _ in self.inputs]
        for name, _ in self.values:
            if name not in names:
                raise InvalidSignature(f"value is given for {name!r}, which is not padded", field="value")
        if self.mask in names:
            raise InvalidSignature(f"the mask {self.mask!r} is padded by itself: not in inputs", field="mask")

    @classmethod
    def parse(cls, value: object) -> Padding:
        """Read ``{"inputs": {…}, "value": …, "buckets": […], "mask": …, "outputs": {…}}``.

        Only ``inputs`` must be there; ``value`` is one for all of them, or a mapping by name.

        Raises:
            InvalidSignature: unknown key (the nearest known one is named) or a wrong value.
        """
        if isinstance(value, Padding):
            return value
        fields = read(value, _KEYS, "padding")
        inputs = _axes("inputs", fields.get("inputs", {}))
        mask = fields.get("mask")
        if mask is not None and (not isinstance(mask, str) or not mask):
            raise InvalidSignature(f"mask must be the name of an input, not {mask!r}", field="mask")
        return cls(
            inputs=inputs,
            values=_values(fields.get("value", 0), inputs),
            buckets=_buckets(fields.get("buckets")),
            mask=mask,
            outputs=_axes("outputs", fields.get("outputs", {})),
        )

    def to_dict(self) -> dict[str, Plain]:
        """Return the shortest form from which ``parse`` makes an equal padding."""
        result: dict[str, Plain] = {"inputs": dict(self.inputs)}
        if self.values:
            same = len({value for _, value in self.values}) == 1 and len(self.values) == len(self.inputs)
            result["value"] = self.values[0][1] if same else dict(self.values)
        if self.buckets:
            result["buckets"] = list(self.buckets)
        if self.mask is not None:
            result["mask"] = self.mask
        if self.outputs:
            result["outputs"] = dict(self.outputs)
        return result

    def value(self, name: str) -> Scalar:
        """What an input is padded with."""
        return dict(self.values).get(name, 0)

    def bucket(self, extent: int) -> int:
        """The extent to pad to; -1 beyond the last bucket."""
        if not self.buckets:
            return 1 << max(0, extent - 1).bit_length()
        return next((bucket for bucket in self.buckets if bucket >= extent), -1)


def parse_paddings(value: object) -> tuple[Padding, ...]:
    """Read one padding or a list of them.

    Raises:
        InvalidSignature: see ``Padding.parse``; the field starts with ``padding``.
    """
    several = isinstance(value, list | tuple)
    made: list[Padding] = []
    for index, item in enumerate(value if isinstance(value, list | tuple) else [value]):
        try:
            made.append(Padding.parse(item))
        except InvalidSignature as error:
            where = f"padding[{index}]" if several else "padding"
            field = f"{where}.{error.field}" if error.field else where
            raise InvalidSignature(error.message, field=field) from None
    return tuple(made)


def fits(value: Scalar, datatype: str) -> bool:
    """Whether a tensor of this datatype can hold a value; floats may round it."""
    if datatype == "BYTES":
        return isinstance(value, str) or value == 0
    if isinstance(value, str):
        return False
    if datatype == "BOOL":
        return value in (0, 1)
    if "INT" in datatype:
        bits = 8 * itemsize(datatype)
        low, high = (0, 1 << bits) if datatype.startswith("U") else (-(1 << bits - 1), 1 << bits - 1)
        return isinstance(value, int) and low <= value < high
    return not abs(value) < math.inf or abs(value) <= _LARGEST[datatype]


def check_paddings(signature: Signature) -> None:
    """See whether a signature's paddings agree with the rest of it and with each other.

    Raises:
        InvalidSignature: they do not.
    """
    if signature.padding and not signature.batchable:
        raise InvalidSignature(
            "padding is for batchable methods: it lets requests share batches", field="padding"
        )
    into, out = signature.batch_dim
    for padding in signature.padding:
        _check_side(padding.inputs, signature.inputs, into, "input")
        _check_side(padding.outputs, signature.outputs, out, "output")
        _check_values(padding, signature.inputs)
        _check_mask(padding, signature.inputs, into)
    _check_each_once(signature.padding)


def open_axes(
    paddings: Sequence[Padding], batch_axis: int
) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """The (name, axis) pairs of the inputs and of the outputs whose extents differ from call to call."""
    inputs = {pair for padding in paddings for pair in padding.inputs}
    inputs.update((padding.mask, 1 - batch_axis) for padding in paddings if padding.mask is not None)
    return inputs, {pair for padding in paddings for pair in padding.outputs}


# -- reading ----------------------------------------------------------------------------------------


def _axes(field: str, value: object) -> Axes:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and is_int(axis) for name, axis in value.items()
    ):
        raise InvalidSignature(f"padding's {field} must map names to axes, not {value!r}", field=field)
    return tuple(value.items())


def _buckets(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(is_int(extent) for extent in value):
        raise InvalidSignature(f"buckets must be a list of extents, not {value!r}", field="buckets")
    return tuple(value)


def _values(value: object, inputs: Axes) -> tuple[tuple[str, Scalar], ...]:
    """What differs from the default; names that are no inputs are kept, to be refused."""
    names = [name for name, _ in inputs]
    given = value if isinstance(value, Mapping) else dict.fromkeys(names, value)
    scalars = {str(name): _scalar(item) for name, item in given.items()}
    return tuple(item for item in scalars.items() if item[0] not in names or item[1] not in (0, ""))


def _scalar(value: object) -> Scalar:
    if value == b"":
        return ""
    if not isinstance(value, int | float | str):
        raise InvalidSignature(f"value must be a number, or text for BYTES, not {value!r}", field="value")
    return int(value) if isinstance(value, bool) else value


# -- one check each ---------------------------------------------------------------------------------


def _check_side(axes: Axes, specs: Sequence[TensorSpec] | None, batch_axis: int, side: str) -> None:
    field = f"padding.{side}s"
    for name, axis in axes:
        if axis == batch_axis:
            raise InvalidSignature(f"axis {axis} of {side} {name!r} is the batch axis", field=field)
        if specs is None:
            continue
        spec = _find(specs, name, side)
        if len(spec.shape) <= axis or spec.shape[axis] >= 0:
            raise InvalidSignature(
                f"{side} {name!r} has shape {list(spec.shape)}: padding needs a -1 at axis {axis}",
                field=field,
            )


def _check_values(padding: Padding, specs: Sequence[TensorSpec] | None) -> None:
    for spec in specs or ():
        value = padding.value(spec.name)
        if not fits(value, spec.datatype):
            raise InvalidSignature(
                f"input {spec.name!r} cannot be padded with {value!r}: it is {spec.datatype}",
                field="padding.value",
            )


def _check_mask(padding: Padding, specs: Sequence[TensorSpec] | None, batch_axis: int) -> None:
    if padding.mask is None:
        return
    if batch_axis > 1:
        raise InvalidSignature(f"a mask has 2 axes, so no batch axis {batch_axis}", field="padding.mask")
    if specs is None:
        return
    spec = _find(specs, padding.mask, "input")
    if spec.shape != (-1, -1) or spec.datatype == "BYTES":
        raise InvalidSignature(
            f"the mask {spec.name!r} must be numbers [-1, -1], not {spec.datatype} {list(spec.shape)}",
            field="padding.mask",
        )


def _check_each_once(paddings: Sequence[Padding]) -> None:
    """No axis is padded twice, and a tensor that is padded along two has one value."""
    seen: set[tuple[str, object]] = set()
    for item in _claims(paddings):
        if item in seen:
            raise InvalidSignature(f"{item[0]!r} is padded twice along one axis", field="padding")
        seen.add(item)
    masks = [padding.mask for padding in paddings if padding.mask is not None]
    values: dict[str, Scalar] = {}
    for padding in paddings:
        for name, _ in padding.inputs:
            if name in masks:
                raise InvalidSignature(f"the mask {name!r} is padded by itself", field="padding.mask")
            if values.setdefault(name, padding.value(name)) != padding.value(name):
                raise InvalidSignature(f"{name!r} is padded with two different values", field="padding.value")


def _claims(paddings: Sequence[Padding]) -> Iterator[tuple[str, object]]:
    for padding in paddings:
        yield from ((name, ("input", axis)) for name, axis in padding.inputs)
        yield from ((name, ("output", axis)) for name, axis in padding.outputs)
        if padding.mask is not None:
            yield padding.mask, "mask"


def _find(specs: Sequence[TensorSpec], name: str, side: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise InvalidSignature(
        f"padding names the {side} {name!r}; the {side}s are {', '.join(spec.name for spec in specs)}",
        field=f"padding.{side}s",
    )
