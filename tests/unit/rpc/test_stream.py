"""ModelStreamInfer: order, errors in the stream, and who is not read from."""

from __future__ import annotations

import numpy as np
import pytest
from grpc import StatusCode

from protos import open_inference_pb2 as pb
from runtime.lifecycle.routes import Routes
from runtime.rpc import stream as module
from runtime.rpc.infer import Infer
from runtime.rpc.stream import InferStream
from tests.support.calls import FakeStream
from tests.support.execution import Inputs
from tests.support.serving import infer_request, serve

A = np.ones((1, 2), np.float32)


def fail(_: Inputs) -> Inputs:
    raise ZeroDivisionError


class Session:
    """A stream on ``m`` and ``other``; ``full`` takes one request at a time, ``bad`` raises."""

    def __init__(self, *, strict: bool = False) -> None:
        routes = Routes()
        self.route, self.instance = serve(routes)
        _, self.other = serve(routes, name="other")
        _, self.full = serve(routes, name="full", max_queued_rows=1)
        _, self.bad = serve(routes, fail, name="bad")
        self.infer = Infer(routes)
        self.call = FakeStream(
            metadata=(("triton_grpc_error", "true"),) if strict else (("user-agent", "x"),)
        )
        InferStream(self.call, self.infer)

    def send(self, *messages: pb.ModelInferRequest | bytes | None) -> None:
        self.call.client(
            *(
                message.SerializeToString() if isinstance(message, pb.ModelInferRequest) else message
                for message in messages
            )
        )
        self.infer.flush()

    def work(self) -> None:
        for instance in (self.other, self.full, self.bad, self.instance):
            instance.work()

    def answers(self) -> list[str]:
        """The ids of the answers, or what is said of an error."""
        said = []
        for data in self.call.sent:
            response = pb.ModelStreamInferResponse.FromString(data)
            said.append(response.error_message or response.infer_response.id)
        return said


def request(identity: str, model: str = "m") -> pb.ModelInferRequest:
    return infer_request(model, x=A, id=identity)


def test_answers_come_in_the_order_of_the_requests_whoever_is_ready_first() -> None:
    session = Session()
    session.send(request("1"), request("2", "other"), request("3"))
    session.other.work()
    assert session.answers() == []
    session.instance.work()
    assert session.answers() == ["1", "2", "3"]
    response = pb.ModelStreamInferResponse.FromString(session.call.sent[0]).infer_response
    assert list(response.raw_output_contents) == [A.tobytes()]


def test_the_stream_ends_when_the_client_has_ended_and_all_is_answered() -> None:
    session = Session()
    session.send(request("1"), None)
    assert session.call.answers == 0
    session.work()
    assert (session.answers(), session.call.code) == (["1"], StatusCode.OK)


def test_a_stream_without_requests_ends_at_once() -> None:
    session = Session()
    session.send(None)
    assert session.call.code is StatusCode.OK


def test_an_error_is_an_answer_in_its_place_and_the_stream_goes_on() -> None:
    session = Session()
    session.send(request("1"), request("2", "nope"), b"\xff", request("4"))
    assert session.answers() == []
    session.work()
    one, two, three, four = session.answers()
    assert (one, four) == ("1", "4")
    assert "no model 'nope'" in two
    assert "not a valid ModelInferRequest" in three or "inside a field" in three
    assert session.call.answers == 0


def test_an_error_of_the_first_request_is_sent_at_once() -> None:
    session = Session()
    session.send(request("1", "nope"))
    assert len(session.answers()) == 1


def test_a_request_that_the_queue_refuses_is_answered_in_its_place() -> None:
    session = Session()
    session.call.client(*(request(identity, "full").SerializeToString() for identity in ("1", "2")), None)
    session.infer.flush()
    session.work()
    one, two = session.answers()
    assert one == "1"
    assert "retry later" in two
    assert session.call.code is StatusCode.OK


def test_a_failing_answer_is_an_error_of_its_request() -> None:
    session = Session()
    wrong = request("1")
    wrong.outputs.add(name="z")
    session.send(wrong, request("2"))
    session.work()
    one, two = session.answers()
    assert "unknown output 'z'" in one
    assert two == "2"


def test_a_failing_model_is_an_error_of_its_request() -> None:
    session = Session()
    session.send(request("1", "bad"), request("2"))
    session.work()
    assert session.answers() == ["the model raised", "2"]


def test_with_grpc_errors_the_stream_ends_with_the_status() -> None:
    session = Session(strict=True)
    session.send(request("1"), request("2", "nope"), request("3"))
    session.work()
    assert session.answers() == ["1"]
    assert (session.call.answers, session.call.code) == (1, StatusCode.NOT_FOUND)
    session.call.end(cancelled=False)
    session.work()
    assert session.call.answers == 1


def test_what_waits_behind_a_status_never_starts() -> None:
    session = Session(strict=True)
    session.call.client(request("1", "nope").SerializeToString(), request("2").SerializeToString())
    session.call.end(cancelled=False)
    session.infer.flush()
    session.work()
    assert session.instance.batches == 0
    assert session.route.scheduler.statistics.cancelled == 1


def test_the_work_of_a_client_who_has_gone_never_starts() -> None:
    session = Session()
    session.call.client(request("1").SerializeToString(), request("2").SerializeToString())
    session.call.end(cancelled=True)
    session.infer.flush()
    session.work()
    assert (session.instance.batches, session.answers()) == (0, [])


def test_one_more_message_is_asked_for_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    assert session.call.reads == 1
    session.send(request("1"), request("2"))
    assert session.call.reads == 1


def test_a_client_is_not_read_from_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    session = Session()
    session.send(*(request(str(number)) for number in range(5)))
    assert session.call.reads == 0
    session.work()
    assert session.answers() == ["0", "1", "2"]
    session.call.deliver()
    session.infer.flush()
    session.work()
    assert session.answers() == ["0", "1", "2", "3", "4"]


def test_a_client_that_takes_no_answers_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    session = Session()
    session.call.pending = 3
    session.send(request("1"), request("2"))
    session.work()
    assert (session.answers(), session.call.reads) == (["1"], 0)
    session.call.pending = 0
    session.call.on_drained()
    session.call.deliver()
    session.infer.flush()
    session.work()
    assert session.answers() == ["1", "2"]


def test_answers_to_a_stream_that_is_over_go_nowhere() -> None:
    session = Session()
    session.send(request("1"), request("2"))
    session.call.finish()
    session.work()
    assert session.answers() == []
