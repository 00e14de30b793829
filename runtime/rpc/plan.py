"""What is known of an infer request once its head has been parsed and validated.

Requests with equal heads have equal plans, so a plan is made once and the hot path only compares the
sizes of the tensors with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from protos import open_inference_pb2 as pb
from runtime.batching.task import BatchKey
from runtime.clock import MILLISECOND
from runtime.errors import DatatypeMismatch, InvalidInput, NotSupported, ShapeMismatch, TaskTooLarge
from runtime.lifecycle.routes import Route, Routes
from runtime.rpc import parameters
from runtime.rpc.answer import Template
from runtime.tensors.layout import Layout, TensorLayout
from runtime.tensors.padding import Crop, Padder
from store import Signature, TensorSpec
from store.datatypes import NAMES, itemsize

_MAX_RANK: Final = 32
_MAX_ELEMENTS: Final = 1 << 48
"""Extents of 0 not counted: numpy takes no extents, even of an empty array, whose product is over 64 bits."""


class Plan:
    """A validated request head.

    Attributes:
        route, method: what is called.
        key: what its task may be merged with.
        rows: extent along the batch axis, 1 without one.
        priority: level asked for, 0 for the model's default.
        timeout_ns: within which the caller wants the answer, 0 if it did not say.
        slo_ns: the same, for callers who say nothing and whose call has no deadline; 0 for never.
        order: for each input of the key its position in the request; without masks that are to be made.
        padder: makes the inputs of the key; None where they are those of the request.
        crops: what of each output is the request's own, by name; the whole of those not named.
        sizes: for each input of the request its bytes; the number of elements for BYTES.
        variable: for each input of the request whether it is BYTES.
        wanted: names of the outputs asked for, None for all.
        typed: the response's tensors are wanted in ``contents`` instead of raw.
        template: how to build the response, for the output layout met last.
    """

    __slots__ = (
        "crops", "key", "method", "names", "order", "padder", "priority", "route", "rows",
        "sizes", "slo_ns", "template", "timeout_ns", "typed", "variable", "wanted",
    )  # fmt: skip

    def __init__(self, route: Route, method: str, request: pb.ModelInferRequest) -> None:
        self.route = route
        self.method = method
        signature = route.signatures[method]
        limits = route.scheduler.limits
        tensors = [_tensor(tensor) for tensor in request.inputs]
        self.names = tuple(tensor.name for tensor in tensors)
        self.order = _order(self.names, signature)
        _check_specs(tensors, signature)
        self.rows = _rows(tensors, signature, limits.max_queued_rows)
        self.variable = tuple(tensor.variable for tensor in tensors)
        self.sizes = tuple(tensor.row_bytes or math.prod(tensor.dims) * tensor.variable for tensor in tensors)
        chosen = [tensors[position] for position in self.order]
        self.padder: Padder | None = None
        self.crops: Mapping[str, Sequence[Crop]] = {}
        if signature.padding:
            self.padder = Padder(signature, tensors, self.order, max_bytes=limits.max_batch_bytes)
            chosen, self.crops = self.padder.tensors, self.padder.crops
        self.key = self._key(chosen, signature)
        self.wanted = tuple(output.name for output in request.outputs) or None
        _check_outputs(request.outputs, self.wanted, signature)
        self.typed = parameters.typed(request.parameters)
        self.priority = parameters.priority(request.parameters, limits.priority_levels)
        self.timeout_ns = parameters.timeout_ns(request.parameters)
        self.slo_ns = int(limits.slo_ms * MILLISECOND)
        self.template: Template | None = None

    def _key(self, tensors: Sequence[TensorLayout], signature: Signature) -> BatchKey:
        axes = signature.batch_dim if signature.batchable else None
        layout = Layout(
            self.method,
            axes,
            tuple(
                TensorLayout.of(tensor.name, tensor.datatype, _open(tensor.dims, axes[0] if axes else None))
                for tensor in tensors
            ),
        )
        variable = tuple(tensor.variable for tensor in tensors)
        return self.route.key(layout.encode(), batchable=signature.batchable, variable=variable)


def make(request: pb.ModelInferRequest, routes: Routes) -> Plan:
    """Validate a request's head.

    Raises:
        InvalidInput and its kinds: INVALID_ARGUMENT, with the field named.
        ModelNotFound, VersionNotFound, MethodNotFound: NOT_FOUND.
        NotSupported: UNIMPLEMENTED.
    """
    route = routes.resolve(request.model_name, request.model_version)
    parameters.check(request.parameters, "parameters")
    return Plan(route, route.method(parameters.method(request.parameters)), request)


# -- one check each ---------------------------------------------------------------------------------


def _tensor(tensor: pb.ModelInferRequest.InferInputTensor) -> TensorLayout:
    """The layout of one input; its dims are all concrete."""
    name = tensor.name
    if not name:
        raise InvalidInput("an input has no name", field="inputs.name")
    field = f"inputs[{name!r}]"
    if tensor.datatype not in NAMES:
        raise DatatypeMismatch(
            f"{field}: unknown datatype {tensor.datatype!r}; use one of {', '.join(NAMES)}",
            field=f"{field}.datatype",
        )
    dims = tuple(tensor.shape)
    if len(dims) > _MAX_RANK or any(dim < 0 for dim in dims):
        raise ShapeMismatch(
            f"{field}: shape {list(dims)} must have at most {_MAX_RANK} dims, none negative",
            field=f"{field}.shape",
        )
    if math.prod(dim or 1 for dim in dims) > _MAX_ELEMENTS:
        raise ShapeMismatch(f"{field}: shape {list(dims)} is larger than any array", field=f"{field}.shape")
    parameters.check(tensor.parameters, f"{field}.parameters")
    return TensorLayout(name, tensor.datatype, dims, itemsize(tensor.datatype) * math.prod(dims))


def _order(names: Sequence[str], signature: Signature) -> tuple[int, ...]:
    """Positions of the inputs in the signature's order, or as they came if it has no specs.

    Masks may be missing.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInput(f"inputs[{name!r}] is given twice", field=f"inputs[{name!r}]")
        seen.add(name)
    if not names:
        raise InvalidInput("the request has no inputs", field="inputs")
    if signature.inputs is None:
        return tuple(range(len(names)))
    expected = [spec.name for spec in signature.inputs]
    for name in names:
        if name not in expected:
            raise InvalidInput(
                f"unexpected input {name!r}; the inputs are {', '.join(expected)}", field=f"inputs[{name!r}]"
            )
    for name in expected:
        if name not in seen and name not in signature.masks:
            raise InvalidInput(
                f"input {name!r} is missing; the inputs are {', '.join(expected)}", field=f"inputs[{name!r}]"
            )
    return tuple(names.index(name) for name in expected if name in seen)


def _check_specs(tensors: Sequence[TensorLayout], signature: Signature) -> None:
    if signature.inputs is None:
        return
    specs = {spec.name: spec for spec in signature.inputs}
    for tensor in tensors:
        spec = specs[tensor.name]
        field = f"inputs[{tensor.name!r}]"
        if tensor.datatype != spec.datatype:
            raise DatatypeMismatch(
                f"{field}: datatype is {tensor.datatype}, the model takes {spec.datatype}",
                field=f"{field}.datatype",
            )
        if not _fits(tensor.dims, spec):
            raise ShapeMismatch(
                f"{field}: shape is {list(tensor.dims)}, the model takes {list(spec.shape)} (-1 is any size)",
                field=f"{field}.shape",
            )


def _fits(dims: Sequence[int], spec: TensorSpec) -> bool:
    return len(dims) == len(spec.shape) and all(
        want in (-1, have) for have, want in zip(dims, spec.shape, strict=True)
    )


def _rows(tensors: Sequence[TensorLayout], signature: Signature, limit: int) -> int:
    """The rows of a request, the same in all inputs. More than a batch may have are cut later."""
    if not signature.batchable:
        return 1
    axis = signature.batch_dim[0]
    rows = -1
    for tensor in tensors:
        field = f"inputs[{tensor.name!r}].shape"
        if len(tensor.dims) <= axis:
            raise ShapeMismatch(
                f"{field}: shape {list(tensor.dims)} has no batch axis {axis}; send [1, ...] for one row",
                field=field,
            )
        if rows not in (-1, tensor.dims[axis]):
            raise ShapeMismatch(
                f"{field}: {tensor.dims[axis]} rows along axis {axis}, but {rows} in {tensors[0].name!r}",
                field=field,
            )
        rows = tensor.dims[axis]
    if rows > limit:
        raise TaskTooLarge(
            f"the request has {rows} rows, at most {limit} may wait: "
            "send several requests or raise max_queued_rows",
            field=f"inputs[{tensors[0].name!r}].shape",
        )
    return rows


def _open(dims: Sequence[int], axis: int | None) -> tuple[int, ...]:
    return tuple(-1 if position == axis else dim for position, dim in enumerate(dims))


def _check_outputs(outputs: Any, wanted: tuple[str, ...] | None, signature: Signature) -> None:
    for output in outputs:
        field = f"outputs[{output.name!r}]"
        parameters.check(output.parameters, f"{field}.parameters")
        if "classification" in output.parameters:
            raise NotSupported(
                f"{field}: the classification extension is not offered", field=f"{field}.parameters"
            )
    if wanted is None:
        return
    if len(set(wanted)) != len(wanted):
        raise InvalidInput("an output is asked for twice", field="outputs")
    if signature.outputs is not None:
        known = [spec.name for spec in signature.outputs]
        for name in wanted:
            if name not in known:
                raise InvalidInput(
                    f"unknown output {name!r}; the outputs are {', '.join(known)}", field=f"outputs[{name!r}]"
                )
