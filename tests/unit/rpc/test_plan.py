"""Validation of a request's head: what is wrong, and the field it is wrong in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protos import open_inference_pb2 as pb
from runtime.errors import (
    DatatypeMismatch,
    InvalidInput,
    MethodNotFound,
    ModelNotFound,
    NotSupported,
    RuntimeServingError,
    ShapeMismatch,
    TaskTooLarge,
    VersionNotFound,
)
from runtime.lifecycle.routes import Routes
from runtime.rpc.plan import Plan, make
from runtime.tensors.layout import Layout
from store import Signature, TensorSpec
from tests.support.serving import echo, serve

SPECS = Signature(
    batchable=True,
    inputs=(TensorSpec("x", "FP32", (-1, 2)), TensorSpec("t", "BYTES", (-1,))),
    outputs=(TensorSpec("x", "FP32", (-1, 2)), TensorSpec("t", "BYTES", (-1,))),
)
Change = Callable[[pb.ModelInferRequest], object]


@pytest.fixture
def routes() -> Routes:
    """``m`` has specs, ``free`` has none, ``fixed`` is not batchable, ``many`` has several methods."""
    routes = Routes()
    serve(routes, signature=SPECS, max_batch_size=4, max_queued_rows=10)
    serve(routes, name="free", max_batch_size=4)
    serve(routes, name="fixed", signature=Signature())
    serve(routes, name="across", signature=Signature(batchable=True, batch_dim=(1, 0)))
    serve(routes, name="many", methods={"score": echo, "embed": echo})
    return routes


def request(model: str = "m", rows: int = 2) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model)
    message.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    message.inputs.add(name="t", datatype="BYTES", shape=[rows])
    return message


def test_a_plan_knows_rows_sizes_and_order(routes: Routes) -> None:
    message = request(rows=3)
    message.inputs[0].CopyFrom(request(rows=3).inputs[1])
    message.inputs[1].CopyFrom(request(rows=3).inputs[0])
    plan = make(message, routes)
    assert (plan.rows, plan.method, plan.route.name) == (3, "__call__", "m")
    assert (plan.names, plan.variable, plan.sizes, plan.order) == (("t", "x"), (True, False), (3, 24), (1, 0))
    assert (plan.wanted, plan.typed) == (None, False)
    assert plan.key.variable == (False, True)
    layout = Layout.decode(plan.key.head)
    assert [(tensor.name, tensor.dims) for tensor in layout.tensors] == [("x", (-1, 2)), ("t", (-1,))]
    assert (layout.method, layout.axes) == ("__call__", (0, 0))


def test_requests_of_other_rows_share_the_key(routes: Routes) -> None:
    assert make(request(rows=1), routes).key is make(request(rows=4), routes).key
    assert make(request(rows=0), routes).rows == 0


def test_other_shapes_have_other_keys(routes: Routes) -> None:
    one, other = request("free"), request("free")
    other.inputs[0].shape[1] = 7
    assert make(one, routes).key is not make(other, routes).key


def test_what_is_not_batchable_is_one_row_with_all_its_dims(routes: Routes) -> None:
    plan = make(request("fixed", 9), routes)
    assert (plan.rows, plan.sizes, plan.key.batchable) == (1, (72, 9), False)
    assert Layout.decode(plan.key.head).tensors[0].dims == (9, 2)


def test_a_batch_axis_further_in_is_found(routes: Routes) -> None:
    message = request("across")
    del message.inputs[1]
    message.inputs[0].shape[:] = [5, 3]
    plan = make(message, routes)
    assert plan.rows == 3
    assert Layout.decode(plan.key.head).tensors[0].dims == (5, -1)


def test_scalars_need_no_batch_axis_where_none_is_merged(routes: Routes) -> None:
    message = request("fixed")
    for tensor in message.inputs:
        tensor.ClearField("shape")
    assert make(message, routes).sizes == (4, 1)


def test_outputs_and_their_form_are_chosen_by_the_request(routes: Routes) -> None:
    message = request()
    message.outputs.add(name="t")
    message.parameters["binary_data_output"].bool_param = False
    plan = make(message, routes)
    assert (plan.wanted, plan.typed) == (("t",), True)
    message.parameters["binary_data_output"].bool_param = True
    assert not make(message, routes).typed


def test_the_method_can_be_named(routes: Routes) -> None:
    message = request("many")
    message.parameters["method"].string_param = "embed"
    assert make(message, routes).method == "embed"


def test_more_rows_than_a_batch_may_have_are_no_error(routes: Routes) -> None:
    assert make(request(rows=10), routes).rows == 10
    assert make(request(rows=10), routes).key is make(request(rows=1), routes).key


def test_a_request_says_how_urgent_it_is(routes: Routes) -> None:
    serve(routes, name="timed", slo_ms=1.5)
    plain = make(request("timed"), routes)
    assert (plain.priority, plain.timeout_ns, plain.slo_ns) == (0, 0, 1_500_000)
    message = request()
    message.parameters["priority"].uint64_param = 1
    message.parameters["timeout"].int64_param = 250
    urgent = make(message, routes)
    assert (urgent.priority, urgent.timeout_ns, urgent.slo_ns) == (1, 250_000, 0)
    assert urgent.key is make(request(), routes).key


def add(**fields: Any) -> Change:
    return lambda message: message.inputs.add(**fields)


def parameter(name: str, at: Callable[[pb.ModelInferRequest], object] = lambda message: message) -> Change:
    def change(message: pb.ModelInferRequest) -> None:
        at(message).parameters[name].int64_param = 1  # type: ignore[attr-defined]

    return change


def output(name: str, parameter: str = "", model: str = "m") -> Change:
    def change(message: pb.ModelInferRequest) -> None:
        message.model_name = model
        made = message.outputs.add(name=name)
        if parameter:
            made.parameters[parameter].int64_param = 1

    return change


def set_field(**fields: str) -> Change:
    def change(message: pb.ModelInferRequest) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return change


def tensor(index: int = 0, *, model: str = "m", shape: list[int] | None = None, **fields: str) -> Change:
    def change(message: pb.ModelInferRequest) -> None:
        message.model_name = model
        for name, value in fields.items():
            setattr(message.inputs[index], name, value)
        if shape is not None:
            message.inputs[index].shape[:] = shape

    return change


def method(**value: object) -> Change:
    def change(message: pb.ModelInferRequest) -> None:
        message.parameters["method"].MergeFrom(pb.InferParameter(**value))  # type: ignore[arg-type]

    return change


def whole(name: str, text: str) -> Change:
    def change(message: pb.ModelInferRequest) -> None:
        message.parameters[name].string_param = text

    return change


def both_outputs(message: pb.ModelInferRequest) -> None:
    for _ in range(2):
        message.outputs.add(name="x")


def drop(*indices: int) -> Change:
    def change(message: pb.ModelInferRequest) -> None:
        for index in sorted(indices, reverse=True):
            del message.inputs[index]

    return change


BAD: list[tuple[str, Change, type[RuntimeServingError], str, str]] = [
    ("no model", set_field(model_name=""), InvalidInput, "model_name", "empty"),
    ("unknown model", set_field(model_name="fre"), ModelNotFound, "model_name", "did you mean 'free'"),
    ("far model", set_field(model_name="zzz"), ModelNotFound, "model_name", "served: m, free"),
    ("version", set_field(model_version="9"), VersionNotFound, "model_version", "served: 1"),
    ("method", method(string_param="nope"), MethodNotFound, "parameters.method", "it has __call__"),
    ("method type", method(int64_param=3), InvalidInput, "parameters.method", "must be a string"),
    ("which method", set_field(model_name="many"), InvalidInput, "parameters.method", "one of score, embed"),
    (
        "shared memory",
        parameter("shared_memory_region"),
        NotSupported,
        "parameters.shared_memory_region",
        "shared",
    ),
    ("sequence", parameter("sequence_id"), NotSupported, "parameters.sequence_id", "no state"),
    (
        "input parameter",
        parameter("shared_memory_offset", lambda message: message.inputs[1]),
        NotSupported,
        "inputs['t'].parameters.shared_memory_offset",
        "shared memory",
    ),
    (
        "output parameter",
        output("x", "shared_memory_region"),
        NotSupported,
        "outputs['x'].parameters.shared_memory_region",
        "shared memory",
    ),
    (
        "classification",
        output("x", "classification"),
        NotSupported,
        "outputs['x'].parameters",
        "classification",
    ),
    ("no name", tensor(name=""), InvalidInput, "inputs.name", "no name"),
    ("twice", tensor(1, name="x"), InvalidInput, "inputs['x']", "given twice"),
    ("none", drop(0, 1), InvalidInput, "inputs", "no inputs"),
    ("missing", drop(1), InvalidInput, "inputs['t']", "'t' is missing"),
    (
        "unexpected",
        add(name="z", datatype="FP32", shape=[2]),
        InvalidInput,
        "inputs['z']",
        "the inputs are x, t",
    ),
    (
        "datatype",
        tensor(datatype="FLOAT"),
        DatatypeMismatch,
        "inputs['x'].datatype",
        "unknown datatype 'FLOAT'",
    ),
    ("no datatype", tensor(datatype=""), DatatypeMismatch, "inputs['x'].datatype", "unknown datatype ''"),
    ("other datatype", tensor(datatype="FP64"), DatatypeMismatch, "inputs['x'].datatype", "takes FP32"),
    ("negative", tensor(shape=[-1, 2]), ShapeMismatch, "inputs['x'].shape", "none negative"),
    ("rank", tensor(shape=[1] * 33), ShapeMismatch, "inputs['x'].shape", "at most 32 dims"),
    (
        "enormous",
        tensor(model="free", shape=[1, 0, 1 << 62]),
        ShapeMismatch,
        "inputs['x'].shape",
        "any array",
    ),
    ("other shape", tensor(shape=[2, 3]), ShapeMismatch, "inputs['x'].shape", "takes [-1, 2]"),
    ("other rank", tensor(shape=[2]), ShapeMismatch, "inputs['x'].shape", "takes [-1, 2]"),
    ("scalar", tensor(model="free", shape=[]), ShapeMismatch, "inputs['x'].shape", "no batch axis 0"),
    (
        "rows differ",
        tensor(1, shape=[3]),
        ShapeMismatch,
        "inputs['t'].shape",
        "3 rows along axis 0, but 2 in 'x'",
    ),
    (
        "too many rows",
        lambda message: message.CopyFrom(request(rows=11)),
        TaskTooLarge,
        "inputs['x'].shape",
        "11 rows, at most 10 may wait",
    ),
    ("priority", whole("priority", "high"), InvalidInput, "parameters.priority", "a whole number"),
    ("timeout", whole("timeout", "1.5"), InvalidInput, "parameters.timeout", "a whole number"),
    ("unknown output", output("z"), InvalidInput, "outputs['z']", "the outputs are x, t"),
    ("output twice", both_outputs, InvalidInput, "outputs", "asked for twice"),
]


@pytest.mark.parametrize(
    ("change", "kind", "field", "text"),
    [case[1:] for case in BAD],
    ids=[case[0].replace(" ", "-") for case in BAD],
)
def test_what_is_wrong_is_named(
    routes: Routes, change: Change, kind: type[RuntimeServingError], field: str, text: str
) -> None:
    message = request()
    change(message)
    with pytest.raises(RuntimeServingError) as caught:
        make(message, routes)
    assert type(caught.value) is kind
    assert caught.value.field == field
    assert text in caught.value.message


def test_outputs_of_a_model_without_specs_are_checked_later(routes: Routes) -> None:
    message = request("free")
    message.outputs.add(name="anything")
    assert make(message, routes).wanted == ("anything",)


def test_empty_tensors_have_no_bytes(routes: Routes) -> None:
    message = request("free", rows=0)
    plan: Plan = make(message, routes)
    assert plan.sizes == (0, 0)


def test_a_hundred_thousand_inputs_are_refused_without_a_quadratic_search(routes: Routes) -> None:
    message = pb.ModelInferRequest(model_name="free")
    for index in range(100_000):
        message.inputs.add(name=f"x{index}", datatype="FP32", shape=[1])
    message.inputs.add(name="x99999", datatype="FP32", shape=[1])
    with pytest.raises(InvalidInput, match="given twice"):
        make(message, routes)
