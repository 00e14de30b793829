"""ModelInfer from a request's bytes to a response's, with a model that runs when the test says so."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode

from protos import open_inference_pb2 as pb
from runtime.errors import InvalidInput
from runtime.lifecycle.routes import Route, Routes
from runtime.rpc import infer as module
from runtime.rpc import plan
from runtime.rpc.infer import Infer
from runtime.tensors import heads, wire
from store import Signature, TensorSpec
from tests.support.calls import FakeCall
from tests.support.execution import Inputs
from tests.support.serving import Inline, infer_request, serve

A = np.arange(4, dtype=np.float32).reshape(2, 2)


def double(inputs: Inputs) -> Inputs:
    return {"y": inputs["x"] * 2}


class Server:
    """One model ``m`` behind an :class:`Infer`."""

    def __init__(self) -> None:
        self.routes = Routes()
        self.route, self.instance = self.serve()
        self.infer = Infer(self.routes)

    def serve(self, signature: Signature | None = None, **options: object) -> tuple[Route, Inline]:
        return serve(self.routes, double, signature or Signature(batchable=True), **options)  # type: ignore[arg-type]

    def call(self, request: pb.ModelInferRequest | bytes, *, deadline: float = math.inf) -> FakeCall:
        """Hand over a request and let everything happen."""
        call = self.submit(request, deadline=deadline)
        self.infer.flush()
        self.instance.work()
        return call

    def submit(self, request: pb.ModelInferRequest | bytes, *, deadline: float = math.inf) -> FakeCall:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        call = FakeCall(data, deadline=deadline)
        self.infer(call)
        return call


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def plans_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models for which a plan was made, in order."""
    made: list[str] = []

    def counting(request: pb.ModelInferRequest, routes: Routes) -> object:
        made.append(request.model_name)
        return plan.make(request, routes)

    monkeypatch.setattr(module, "make", counting)
    return made


def answer(call: FakeCall) -> pb.ModelInferResponse:
    assert call.message is not None, call.details
    assert call.answers == 1
    return pb.ModelInferResponse.FromString(call.message)


def failed(call: FakeCall) -> tuple[StatusCode | None, str]:
    assert call.answers == 1
    return call.code, str(call.trailing["runtime-reason"])


def test_a_request_is_answered_with_the_models_outputs(server: Server) -> None:
    response = answer(server.call(infer_request(x=A, id="42")))
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "42")
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [2, 2])
    assert list(response.raw_output_contents) == [(A * 2).tobytes()]


def test_ids_are_echoed_each_to_its_own_call(server: Server) -> None:
    ids = ["", "1", "ä" * 100, "1"]
    calls = [server.submit(infer_request(x=A + index, id=identity)) for index, identity in enumerate(ids)]
    server.infer.flush()
    server.instance.work()
    assert [answer(call).id for call in calls] == ids
    assert [answer(call).raw_output_contents[0] for call in calls] == [
        ((A + n) * 2).tobytes() for n in range(4)
    ]
    assert server.instance.batches == 1


def test_large_tensors_come_through(server: Server) -> None:
    large = np.arange(2 * wire.COPY_BELOW, dtype=np.float32).reshape(1, -1)
    assert answer(server.call(infer_request(x=large))).raw_output_contents[0] == (large * 2).tobytes()


def test_nothing_runs_before_the_flush(server: Server) -> None:
    call = server.submit(infer_request(x=A))
    server.instance.work()
    assert (call.answers, server.instance.batches) == (0, 0)
    server.infer.flush()
    server.infer.flush()
    server.instance.work()
    assert call.answers == 1


def test_a_plan_is_made_once_for_equal_heads(server: Server, plans_made: list[str]) -> None:
    for index in range(3):
        answer(server.call(infer_request(x=A + index, id=str(index))))
    assert plans_made == ["m"]
    answer(server.call(infer_request(x=A[:1])))
    assert plans_made == ["m", "m"]


def test_plans_are_forgotten_when_routes_change(server: Server, plans_made: list[str]) -> None:
    assert answer(server.call(infer_request(x=A))).model_version == "1"
    old = server.instance
    _, server.instance = server.serve(version="2", order=1)
    assert answer(server.call(infer_request(x=A))).model_version == "2"
    assert len(plans_made) == 2
    server.routes.remove(server.routes.resolve("m", "2"))
    server.instance = old
    assert answer(server.call(infer_request(x=A))).model_version == "1"
    server.routes.remove(server.route)
    assert failed(server.call(infer_request(x=A))) == (StatusCode.NOT_FOUND, "model_not_found")


def test_heads_without_end_do_not_fill_the_memory(
    server: Server, monkeypatch: pytest.MonkeyPatch, plans_made: list[str]
) -> None:
    monkeypatch.setattr(heads, "HEADS_KEPT", 2)
    for rows in (1, 2, 3, 3, 1):
        answer(server.call(infer_request(x=np.zeros((rows, 2), np.float32))))
    assert len(plans_made) == 4


def test_inputs_in_another_order_reach_the_model_by_name(server: Server) -> None:
    specs = tuple(TensorSpec(name, "FP32", (-1, 2)) for name in ("x", "z"))
    _, server.instance = server.serve(Signature(batchable=True, inputs=specs), name="two")
    both: list[dict[str, Any]] = [{"x": A, "z": -A}, {"z": -A, "x": A}]
    for inputs in both:
        assert answer(server.call(infer_request("two", **inputs))).raw_output_contents[0] == (A * 2).tobytes()


def test_an_answer_can_change_its_shape_from_call_to_call(server: Server) -> None:
    _, server.instance = serve(
        server.routes, lambda inputs: {"y": inputs["x"][:, : int(inputs["x"][0, 0])]}, name="cut"
    )
    for width in (1, 2, 1):
        request = infer_request("cut", x=np.full((1, 2), width, np.float32))
        assert list(answer(server.call(request)).outputs[0].shape) == [1, width]


def test_typed_contents_are_taken_and_given(server: Server, plans_made: list[str]) -> None:
    request = pb.ModelInferRequest(model_name="m", id="7")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    request.parameters["binary_data_output"].bool_param = False
    for _ in range(2):
        response = answer(server.call(request))
        assert (response.id, list(response.outputs[0].contents.fp32_contents)) == ("7", [2, 4])
    assert len(plans_made) == 2  # a head that holds tensors is not kept


def test_fields_of_later_versions_are_no_obstacle(server: Server) -> None:
    data = infer_request(x=A, id="9").SerializeToString() + b"\x82\x7d\x01x"
    for _ in range(2):
        assert answer(server.call(data)).id == "9"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff", "invalid_input"),
        (b"\x0a\x05m", "invalid_input"),
        (b"\x0a\x02\xff\xfe", "invalid_input"),  # the name is not UTF-8
        (infer_request(x=A).SerializeToString() + b"\x1a\x01\xff", "invalid_input"),  # the id is not
        (b"", "invalid_input"),
        (infer_request("nope", x=A).SerializeToString(), "model_not_found"),
    ],
)
def test_bytes_that_are_no_request_are_refused(server: Server, data: bytes, reason: str) -> None:
    assert failed(server.call(data))[1] == reason


@pytest.mark.parametrize("raws", [[], [b"", b""]])
def test_each_input_needs_its_contents(server: Server, raws: list[bytes]) -> None:
    request = infer_request(x=A)
    request.raw_input_contents[:] = raws
    call = server.call(request)
    assert failed(call) == (StatusCode.INVALID_ARGUMENT, "invalid_input")
    assert f"{len(raws)} raw_input_contents for 1 inputs" in call.details


def test_raw_and_typed_contents_exclude_each_other(server: Server) -> None:
    request = infer_request(x=A)
    request.inputs[0].contents.fp32_contents.append(1)
    assert "both" in server.call(request).details


@pytest.mark.parametrize("size", [0, 15, 17])
def test_bytes_that_do_not_fill_the_shape_are_refused(server: Server, size: int) -> None:
    answer(server.call(infer_request(x=A)))  # the plan is known
    request = infer_request(x=A)
    request.raw_input_contents[0] = bytes(size)
    call = server.call(request)
    assert failed(call) == (StatusCode.INVALID_ARGUMENT, "shape_mismatch")
    assert call.details == f"inputs['x']: {size} bytes sent, its shape and datatype need 16"


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\x01\0\0\0a", "1 elements sent, its shape has 2"), (b"\x05\0\0\0a", "end inside element 1")],
)
def test_texts_that_do_not_fill_the_shape_are_refused(server: Server, data: bytes, text: str) -> None:
    request = infer_request(x=np.array([b"a", b"b"], object))
    request.raw_input_contents[0] = data
    call = server.call(request)
    assert failed(call) == (StatusCode.INVALID_ARGUMENT, "shape_mismatch")
    assert text in call.details


def test_texts_that_have_as_many_bytes_as_elements_are_still_counted(server: Server) -> None:
    request = infer_request(x=np.array([b""] * 4, object))
    request.raw_input_contents[0] = bytes(4)  # one empty element, not four
    assert "1 elements sent, its shape has 4" in server.call(request).details


def test_a_bad_request_does_not_touch_its_neighbours(server: Server) -> None:
    good = server.submit(infer_request(x=A))
    bad = infer_request(x=A)
    bad.raw_input_contents[0] = b"x"
    refused = server.submit(bad)
    also_good = server.submit(infer_request(x=A))
    server.infer.flush()
    server.instance.work()
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert answer(good).raw_output_contents == answer(also_good).raw_output_contents
    assert server.instance.batches == 1


def test_a_full_queue_rejects_at_once() -> None:
    server = Server()
    _, server.instance = server.serve(name="small", max_queued_rows=2)
    server.submit(infer_request("small", x=A))
    call = server.submit(infer_request("small", x=A))
    assert failed(call) == (StatusCode.RESOURCE_EXHAUSTED, "queue_full")


def test_more_rows_than_a_batch_are_answered_in_one_piece_and_in_order(server: Server) -> None:
    _, server.instance = server.serve(name="narrow", max_batch_size=16)
    many = np.arange(1000, dtype=np.float32).reshape(500, 2)
    response = answer(server.call(infer_request("narrow", x=many)))
    assert (list(response.outputs[0].shape), server.instance.batches) == ([500, 2], 32)
    assert response.raw_output_contents[0] == (many * 2).tobytes()


def test_the_pieces_of_a_caller_who_has_gone_never_start(server: Server) -> None:
    route, server.instance = server.serve(name="narrow", max_batch_size=16)
    call = server.submit(infer_request("narrow", x=np.zeros((100, 2), np.float32)))
    call.end(cancelled=True)
    server.infer.flush()
    server.instance.work()
    assert (call.answers, server.instance.batches, route.scheduler.queued_rows) == (0, 0, 0)


def test_an_output_that_the_model_does_not_have_is_refused_when_it_is_known(server: Server) -> None:
    request = infer_request(x=A)
    request.outputs.add(name="z")
    call = server.call(request)
    assert failed(call) == (StatusCode.INVALID_ARGUMENT, "invalid_input")
    assert "the outputs are y" in call.details


def test_a_failing_model_fails_the_calls_of_its_batch_only(server: Server) -> None:
    def fail(_: Inputs) -> Inputs:
        raise ZeroDivisionError

    _, server.instance = serve(server.routes, fail, name="bad")
    assert failed(server.call(infer_request("bad", x=A))) == (StatusCode.INTERNAL, "model_error")


def test_a_deadline_that_passed_in_the_queue_is_told(server: Server) -> None:
    call = server.call(infer_request(x=A), deadline=time.time() - 1)
    assert failed(call) == (StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded")
    assert server.instance.batches == 0


def test_the_work_of_a_caller_who_has_gone_never_starts(server: Server) -> None:
    call = server.submit(infer_request(x=A))
    call.end(cancelled=True)
    server.infer.flush()
    server.instance.work()
    assert (call.answers, server.instance.batches) == (0, 0)
    assert server.route.scheduler.statistics.cancelled == 1


def test_the_end_of_an_answered_call_changes_nothing(server: Server) -> None:
    call = server.call(infer_request(x=A))
    call.end(cancelled=False)
    call.end(cancelled=True)
    statistics = server.route.scheduler.statistics
    assert (statistics.completed, statistics.cancelled) == (1, 0)


def test_what_is_unforeseen_is_internal(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(_: bytes) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(wire, "split", break_down)
    call = server.call(infer_request(x=A))
    assert failed(call) == (StatusCode.INTERNAL, "internal")
    assert "secret" not in call.details
    assert "secret" in caplog.text


def test_parse_gives_the_inputs_as_views_of_the_request(server: Server) -> None:
    data = infer_request(x=np.zeros((1, wire.COPY_BELOW), np.float32)).SerializeToString()
    _, _, (part,) = server.infer.parse(data)
    assert isinstance(part, memoryview)
    assert part.obj is data
    with pytest.raises(InvalidInput):
        server.infer.parse(data[:-1])
