"""Plans of requests whose tensors are padded: what is merged, and what is refused."""

from __future__ import annotations

import pytest

from protos import open_inference_pb2 as pb
from runtime.errors import InvalidInput, ShapeMismatch, TaskTooLarge
from runtime.lifecycle.routes import Routes
from runtime.rpc.plan import make
from runtime.tensors.layout import Layout
from store import Signature
from tests.support.serving import serve

PADDED = Signature.parse(
    {
        "batchable": True,
        "inputs": [
            {"name": "mask", "datatype": "INT8", "shape": [-1, -1]},
            {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "t", "datatype": "BYTES", "shape": [-1]},
        ],
        "padding": {"inputs": {"ids": 1}, "buckets": [4, 8], "mask": "mask", "outputs": {"y": 1}},
    }
)


@pytest.fixture
def routes() -> Routes:
    routes = Routes()
    serve(routes, name="padded", signature=PADDED)
    return routes


def padded_request(extent: int, rows: int = 2) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="padded")
    message.inputs.add(name="t", datatype="BYTES", shape=[rows])
    message.inputs.add(name="ids", datatype="INT64", shape=[rows, extent])
    return message


def test_requests_of_one_bucket_share_the_key(routes: Routes) -> None:
    plan = make(padded_request(3), routes)
    assert (plan.names, plan.order, plan.sizes, plan.rows) == (("t", "ids"), (1, 0), (2, 48), 2)
    assert plan.crops == {"y": [(1, 4, 3)]}
    layout = Layout.decode(plan.key.head)
    assert [(tensor.name, tensor.datatype, tensor.dims) for tensor in layout.tensors] == [
        ("mask", "INT8", (-1, 4)),
        ("ids", "INT64", (-1, 4)),
        ("t", "BYTES", (-1,)),
    ]
    keys = {make(padded_request(extent), routes).key for extent in range(9)}
    assert len(keys) == 2
    with_mask = padded_request(3)
    with_mask.inputs.add(name="mask", datatype="INT8", shape=[2, 3])
    assert make(with_mask, routes).key is plan.key


def test_a_plan_without_padding_has_no_padder(routes: Routes) -> None:
    message = padded_request(3)
    message.model_name = "plain"
    serve(routes, name="plain")
    plan = make(message, routes)
    assert (plan.padder, plan.crops) == (None, {})


def test_an_extent_beyond_the_last_bucket_is_named(routes: Routes) -> None:
    with pytest.raises(ShapeMismatch, match="at most 8") as caught:
        make(padded_request(9), routes)
    assert caught.value.field == "inputs['ids'].shape"
    message = padded_request(3)
    del message.inputs[1]
    with pytest.raises(InvalidInput, match="'ids' is missing"):
        make(message, routes)


def test_a_mask_must_have_the_rows_of_the_others(routes: Routes) -> None:
    message = padded_request(3)
    message.inputs.add(name="mask", datatype="INT8", shape=[1, 3])
    with pytest.raises(ShapeMismatch, match="1 rows along axis 0"):
        make(message, routes)


def test_what_is_padded_is_bounded_in_bytes(routes: Routes) -> None:
    serve(routes, name="padded", signature=PADDED, version="2", order=1, max_batch_bytes=100)
    with pytest.raises(TaskTooLarge, match="padded"):
        make(padded_request(1, rows=3), routes)
