"""Do a plan and a model's signatures mean the same tensors?

TensorRT has fewer datatypes than ONNX and narrows some in silence, so that the two are compared wherever a
plan is built or opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from frameworks.errors import InvalidModel
from frameworks.trt.plan import PlanInfo
from store import Signature, TensorSpec


class Tensors(Protocol):
    """A plan, as far as its tensors go."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it returns."""


def answers(info: PlanInfo, plan: Tensors, method: str, signature: Signature) -> dict[str, str]:
    """Return a method's answers by the plan's names of them.

    Args:
        info: record of the plan.
        plan: its tensors.
        method: name of the method.
        signature: of the method.

    Raises:
        InvalidModel: an input or output is missing in the plan or has another datatype.
    """
    listed = info.methods.get(method)
    if listed is not None:
        found = dict(listed)
    else:
        found = {spec.name: spec.name for spec in signature.outputs or plan.outputs}
    check(signature, plan, found)
    return found


def check(signature: Signature, plan: Tensors, found: Mapping[str, str]) -> None:
    """Make sure that a plan takes and returns what a signature says.

    Args:
        signature: with or without specs.
        plan: its tensors.
        found: name of each answer to the plan's name of it.

    Raises:
        InvalidModel: a tensor is missing, is not asked for, or has another datatype.
    """
    inputs = {spec.name: spec for spec in plan.inputs}
    outputs = {spec.name: spec for spec in plan.outputs}
    for name in found.values():
        _find(name, outputs)
    for spec in signature.outputs or ():
        _compare(spec, _find(found.get(spec.name, spec.name), outputs))
    for spec in signature.inputs or ():
        _compare(spec, _find(spec.name, inputs))
    unknown = set(inputs) - {spec.name for spec in signature.inputs or plan.inputs}
    if unknown:
        name = min(unknown)
        raise InvalidModel(
            f"the plan takes the input {name!r}, which the signature does not have", field=name
        )


def complete(signature: Signature, info: PlanInfo, method: str) -> Signature:
    """Return the signature with a plan's specs where it has none.

    Raises:
        InvalidModel: it names other tensors or datatypes than the plan has.
        InvalidSignature: the method is to be batchable and the plan fixes the batch axis.
    """
    found = answers(info, info, method, signature)
    outputs = {spec.name: spec for spec in info.outputs}
    return replace(
        signature,
        inputs=signature.inputs or info.inputs,
        outputs=signature.outputs
        or tuple(replace(outputs[name], name=answer) for answer, name in found.items()),
    )


def _find(name: str, known: Mapping[str, TensorSpec]) -> TensorSpec:
    if name not in known:
        raise InvalidModel(f"the plan has no tensor {name!r}; it has {', '.join(known)}", field=name)
    return known[name]


def _compare(spec: TensorSpec, found: TensorSpec) -> None:
    if spec.datatype != found.datatype:
        raise InvalidModel(
            f"tensor {spec.name!r} is {spec.datatype} in the model and {found.datatype} in TensorRT; export "
            f"the model with {found.datatype} there",
            field=spec.name,
        )
