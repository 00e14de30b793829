"""Requests of different extents, from their bytes to their answers: batched, and answered as if alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from grpc import StatusCode

from protos import open_inference_pb2 as pb
from runtime.lifecycle.routes import Routes
from runtime.rpc.infer import Infer
from runtime.tensors.layout import Array
from store import Signature
from store.datatypes import numpy_dtype
from tests.support.calls import FakeCall
from tests.support.execution import Inputs
from tests.support.serving import infer_request, serve

PADDING = {"inputs": {"ids": 1}, "buckets": [16, 32], "mask": "mask", "outputs": {"doubled": 1}}
PADDED = Signature.parse({"batchable": True, "padding": PADDING})
EXTENTS = (0, 1, 7, 15, 16, 17, 30, 32)


class Model:
    """Doubles each number, and sums those that the mask leaves; remembers what it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.masks: list[Array] = []

    def __call__(self, inputs: Inputs) -> Inputs:
        ids, mask = inputs["ids"], inputs["mask"]
        self.shapes.append(ids.shape)
        self.masks.append(mask.copy())
        return {"doubled": ids * 2, "total": (ids * mask).sum(axis=1)}


class Server:
    def __init__(self, signature: Signature, method: Callable[[Inputs], Inputs], **limits: object) -> None:
        routes = Routes()
        _, self.instance = serve(routes, method, signature, **limits)
        self.infer = Infer(routes)

    def call(self, *requests: pb.ModelInferRequest) -> list[FakeCall]:
        """Hand all of them over together and let everything happen."""
        calls = [FakeCall(request.SerializeToString()) for request in requests]
        for call in calls:
            self.infer(call)
        self.infer.flush()
        self.instance.work()
        return calls


def outputs(call: FakeCall) -> dict[str, Array]:
    assert call.message is not None, call.details
    response = pb.ModelInferResponse.FromString(call.message)
    return {
        output.name: np.frombuffer(data, numpy_dtype(output.datatype)).reshape(tuple(output.shape))
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def ids(extent: int, rows: int = 2) -> Array:
    return np.arange(1, rows * extent + 1, dtype=np.int64).reshape(rows, extent) * (extent + 1)


def alone(array: Array) -> Inputs:
    """What the model answers to a request that nobody pads."""
    return Model()({"ids": array, "mask": np.ones_like(array)})


def assert_same(got: dict[str, Array], expected: Inputs) -> None:
    assert {name: array.tolist() for name, array in got.items()} == {
        name: array.tolist() for name, array in expected.items()
    }


def test_eight_extents_run_in_two_batches_each_answered_as_if_alone() -> None:
    model = Model()
    server = Server(PADDED, model)
    calls = server.call(*[infer_request(ids=ids(extent)) for extent in EXTENTS])
    assert sorted(model.shapes) == [(6, 32), (10, 16)]
    for call, extent in zip(calls, EXTENTS, strict=True):
        assert_same(outputs(call), alone(ids(extent)))


def test_masks_are_one_where_a_request_has_content() -> None:
    model = Model()
    Server(PADDED, model).call(infer_request(ids=ids(3, rows=1)))
    assert [mask.tolist() for mask in model.masks] == [[[1] * 3 + [0] * 13]]


def test_a_mask_that_was_sent_is_the_callers_own() -> None:
    model = Model()
    mask = np.array([[1, 0, 1]], np.int64)
    (call,) = Server(PADDED, model).call(infer_request(ids=ids(3, rows=1), mask=mask))
    assert outputs(call)["total"].tolist() == [int((ids(3, rows=1) * mask).sum())]
    assert model.masks[0].tolist() == [[1, 0, 1] + [0] * 13]


def test_rows_beyond_the_last_bucket_fail_alone() -> None:
    good, bad, also_good = Server(PADDED, Model()).call(
        infer_request(ids=ids(4)), infer_request(ids=ids(33)), infer_request(ids=ids(5))
    )
    assert (bad.code, bad.trailing["runtime-reason"]) == (StatusCode.INVALID_ARGUMENT, "shape_mismatch")
    assert "at most 32" in bad.details
    assert_same(outputs(good), alone(ids(4)))
    assert_same(outputs(also_good), alone(ids(5)))


def test_bytes_are_compared_with_the_requests_own_shape() -> None:
    request = infer_request(ids=ids(3))
    request.raw_input_contents[0] = bytes(2 * 16 * 8)  # as many as the bucket has
    (call,) = Server(PADDED, Model()).call(request)
    assert call.details == "inputs['ids']: 256 bytes sent, its shape and datatype need 48"


def test_typed_contents_are_padded_and_answered_cropped() -> None:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="ids", datatype="INT64", shape=[1, 3]).contents.int64_contents.extend([1, 2, 3])
    request.parameters["binary_data_output"].bool_param = False
    (call,) = Server(PADDED, Model()).call(request)
    doubled, total = pb.ModelInferResponse.FromString(call.message or b"").outputs
    assert list(doubled.contents.int64_contents) == [2, 4, 6]
    assert list(total.contents.int64_contents) == [6]


def test_one_output_can_be_asked_for() -> None:
    request = infer_request(ids=ids(3))
    request.outputs.add(name="doubled")
    (call,) = Server(PADDED, Model()).call(request)
    assert_same(outputs(call), {"doubled": ids(3) * 2})


def test_a_request_of_more_rows_than_a_batch_is_padded_cut_and_put_together() -> None:
    model = Model()
    (call,) = Server(PADDED, model, max_batch_size=4).call(infer_request(ids=ids(3, rows=10)))
    assert max(rows for rows, _ in model.shapes) == 4
    assert_same(outputs(call), alone(ids(3, rows=10)))


def test_an_axis_before_the_batch_axis_is_padded_and_cropped() -> None:
    def cumulate(inputs: Inputs) -> Inputs:
        return {"sums": np.cumsum(inputs["steps"], axis=0), "mask": inputs["mask"]}

    signature = Signature.parse(
        {
            "batchable": True,
            "batch_dim": 1,
            "padding": {"inputs": {"steps": 0}, "mask": "mask", "outputs": {"sums": 0, "mask": 0}},
        }
    )
    series = [
        np.arange(steps * rows, dtype=np.int64).reshape(steps, rows) for steps, rows in ((3, 2), (4, 1))
    ]
    server = Server(signature, cumulate)
    calls = server.call(*[infer_request(steps=array) for array in series])
    for call, array in zip(calls, series, strict=True):
        assert_same(outputs(call), {"sums": np.cumsum(array, axis=0), "mask": np.ones_like(array)})


def test_texts_are_padded_with_empty_ones() -> None:
    seen: list[Sequence[object]] = []

    def lengths(inputs: Inputs) -> Inputs:
        seen.append(inputs["words"].tolist())
        return {"lengths": np.array([[len(word) for word in row] for row in inputs["words"]], np.int64)}

    signature = Signature.parse(
        {"batchable": True, "padding": {"inputs": {"words": 1}, "buckets": [4], "outputs": {"lengths": 1}}}
    )
    (call,) = Server(signature, lengths).call(infer_request(words=np.array([[b"a", b"bcd", b"ef"]], object)))
    assert seen == [[[b"a", b"bcd", b"ef", b""]]]
    assert outputs(call)["lengths"].tolist() == [[1, 3, 2]]


@pytest.mark.parametrize("extent", [3, 16])
def test_an_output_without_the_buckets_extent_is_the_models_fault(extent: int) -> None:
    def shorten(inputs: Inputs) -> Inputs:
        return {"doubled": inputs["ids"][:, 1:]}

    (call,) = Server(PADDED, shorten).call(infer_request(ids=ids(extent)))
    assert (call.code, call.trailing["runtime-reason"]) == (StatusCode.INTERNAL, "output_mismatch")
