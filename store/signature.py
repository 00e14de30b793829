"""What may be called on a model: methods, their tensors, and whether rows may be merged.

A signature is written by the user as a small mapping and stored in the manifest in the same form. Shapes
count the batch axis; -1 is an axis that differs from call to call. Both records are immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from store import datatypes, fields
from store.errors import InvalidSignature
from store.fields import is_int
from store.padding import Padding, check_paddings, parse_paddings
from store.plain import Plain

DYNAMIC: Final = -1


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and shape of one tensor.

    Shapes: ``()`` is a scalar, -1 a dynamic axis.

    Raises:
        InvalidSignature: empty name, unknown datatype, or an axis below -1.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidSignature("a tensor needs a name", field="name")
        if self.datatype not in datatypes.NAMES:
            raise InvalidSignature(
                f"tensor {self.name!r}: unknown datatype {self.datatype!r}; "
                f"use one of {', '.join(datatypes.NAMES)}",
                field="datatype",
            )
        if any(not is_int(size) or size < DYNAMIC for size in self.shape):
            raise InvalidSignature(
                f"tensor {self.name!r}: shape {list(self.shape)} has an axis that is neither a size nor -1",
                field="shape",
            )

    @classmethod
    def parse(cls, value: object) -> TensorSpec:
        """Read ``{"name": …, "datatype": …, "shape": […]}``.

        Raises:
            InvalidSignature: a key is missing or unknown, or a value is wrong.
        """
        if isinstance(value, TensorSpec):
            return value
        given = fields.read(value, ("name", "datatype", "shape"), "a tensor spec")
        missing = [key for key in ("name", "datatype", "shape") if key not in given]
        if missing:
            raise InvalidSignature(f"a tensor spec lacks {missing[0]!r}: {dict(given)!r}", field=missing[0])
        name, datatype, shape = given["name"], given["datatype"], given["shape"]
        if not isinstance(name, str):
            raise InvalidSignature(f"a tensor's name must be text, not {name!r}", field="name")
        if not isinstance(datatype, str):
            raise InvalidSignature(
                f"tensor {name!r}: datatype must be text, not {datatype!r}", field="datatype"
            )
        if not isinstance(shape, list | tuple):
            raise InvalidSignature(f"tensor {name!r}: shape must be a list, not {shape!r}", field="shape")
        return cls(name, datatype, tuple(shape))

    def to_dict(self) -> dict[str, Plain]:
        """Return the form that ``parse`` reads."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Signature:
    """The contract of one method.

    Invariants: when ``batchable``, every spec has the batch axis and it is dynamic. Names are unique among
    inputs and among outputs. ``inputs`` or ``outputs`` of None mean that nothing is known. What is padded
    exists, has a dynamic axis there that is not the batch axis, and is padded once.

    Args:
        batchable: rows of different callers may be merged into one execution.
        batch_dim: batch axis of the inputs and of the outputs.
        inputs: specs in calling order.
        outputs: specs in result order.
        padding: along which axes requests are brought to common extents, so that they share batches.

    Raises:
        InvalidSignature: an invariant is broken.
    """

    batchable: bool = False
    batch_dim: tuple[int, int] = (0, 0)
    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    padding: tuple[Padding, ...] = ()

    def __post_init__(self) -> None:
        if min(self.batch_dim) < 0:
            raise InvalidSignature(
                f"batch_dim counts axes from 0 up, not {self.batch_dim}", field="batch_dim"
            )
        for side, specs, axis in (
            ("inputs", self.inputs, self.batch_dim[0]),
            ("outputs", self.outputs, self.batch_dim[1]),
        ):
            _check_specs(side, specs or (), axis if self.batchable else None)
        check_paddings(self)

    @classmethod
    def parse(cls, value: object) -> Signature:
        """Read ``{"batchable": True, "batch_dim": 0 or (1, 0), "inputs": […], "outputs": […]}``.

        Every key may be left out. ``padding`` may be there too: one as ``Padding.parse`` reads, or a list.

        Raises:
            InvalidSignature: unknown key (the nearest known one is named) or a wrong value.
        """
        if isinstance(value, Signature):
            return value
        given = fields.read(value, ("batchable", "batch_dim", "inputs", "outputs", "padding"), "a signature")
        batchable = given.get("batchable", False)
        if not isinstance(batchable, bool):
            raise InvalidSignature(f"batchable must be true or false, not {batchable!r}", field="batchable")
        return cls(
            batchable=batchable,
            batch_dim=_axes(given.get("batch_dim", 0)),
            inputs=_specs("inputs", given.get("inputs")),
            outputs=_specs("outputs", given.get("outputs")),
            padding=parse_paddings(given.get("padding", ())),
        )

    def to_dict(self) -> dict[str, Plain]:
        """Return the shortest form from which ``parse`` makes an equal signature."""
        result: dict[str, Plain] = {"batchable": self.batchable}
        into, out = self.batch_dim
        if self.batchable or into or out:
            result["batch_dim"] = into if into == out else [into, out]
        if self.inputs is not None:
            result["inputs"] = [spec.to_dict() for spec in self.inputs]
        if self.outputs is not None:
            result["outputs"] = [spec.to_dict() for spec in self.outputs]
        if self.padding:
            paddings: list[Plain] = [each.to_dict() for each in self.padding]
            result["padding"] = paddings[0] if len(paddings) == 1 else paddings
        return result

    @property
    def masks(self) -> frozenset[str]:
        """Names of the inputs that callers need not send: padding makes them."""
        return frozenset([each.mask for each in self.padding if each.mask is not None])


def parse_signatures(value: object) -> dict[str, Signature]:
    """Read a mapping of method name to signature.

    Raises:
        InvalidSignature: no mapping, a method name that Python could not call, or a wrong signature; the
            field starts with the method's name.
    """
    if not isinstance(value, Mapping):
        raise InvalidSignature(
            f"signatures must map method names, not {type(value).__name__}", field="signatures"
        )
    signatures: dict[str, Signature] = {}
    for method, signature in value.items():
        if not isinstance(method, str) or not method.isidentifier():
            raise InvalidSignature(f"{method!r} is no method name", field="signatures")
        try:
            signatures[method] = Signature.parse(signature)
        except InvalidSignature as error:
            field = f"{method}.{error.field}" if error.field else method
            raise InvalidSignature(f"signature of {method!r}: {error.message}", field=field) from None
    return signatures


def default_method(signatures: Mapping[str, Signature]) -> str | None:
    """Return the method to call if none is named.

    That is ``__call__``, ``predict``, ``serving_default`` (of TensorFlow), or the only one there is.
    """
    for name in ("__call__", "predict", "serving_default"):
        if name in signatures:
            return name
    return next(iter(signatures)) if len(signatures) == 1 else None


def _axes(value: object) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(is_int(axis) for axis in pair):
        raise InvalidSignature(
            f"batch_dim must be an axis or (input axis, output axis), not {value!r}", field="batch_dim"
        )
    return pair


def _specs(side: str, value: object) -> tuple[TensorSpec, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise InvalidSignature(f"{side} must be a list of tensor specs, not {value!r}", field=side)
    return tuple(TensorSpec.parse(item) for item in value)


def _check_specs(side: str, specs: tuple[TensorSpec, ...], axis: int | None) -> None:
    names: set[str] = set()
    for spec in specs:
        if spec.name in names:
            raise InvalidSignature(f"{side} have two tensors named {spec.name!r}", field=side)
        names.add(spec.name)
        if axis is None:
            continue
        if len(spec.shape) <= axis:
            raise InvalidSignature(
                f"tensor {spec.name!r} has {len(spec.shape)} axes, so there is no batch axis {axis}",
                field=side,
            )
        if spec.shape[axis] != DYNAMIC:
            raise InvalidSignature(
                f"tensor {spec.name!r} fixes its batch axis {axis} at {spec.shape[axis]}; a batchable method "
                "needs -1 there",
                field=side,
            )
