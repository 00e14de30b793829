"""The worker's loop, spoken to in frames."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from runtime.clock import now_ns
from runtime.errors import InvalidInput
from runtime.runner.executor import Executor
from runtime.tensors.frame import Frame, Kind
from store import Signature
from tests.support.execution import Inputs, head_of
from tests.support.workers import WAIT_S, RawService, WorkerRig, worker

X = np.zeros((1, 2), np.uint8)
HEAD = head_of({"x": X}, (0, 0))


class Gated:
    """A model that says when it begins and waits for permission to go on; ``x + 1``."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.seen: list[int] = []

    def __call__(self, inputs: Inputs) -> Inputs:
        self.seen.append(len(inputs["x"]))
        self.begun.release()
        assert self.go.acquire(timeout=WAIT_S)
        return {"y": np.add(inputs["x"], np.uint8(1))}


def batch(number: int, *rows: int, value: int = 0, head: bytes = HEAD, deadline: int = 0) -> Frame:
    payload = bytes([value]) * (2 * sum(rows))
    return Frame(Kind.EXECUTE, number, head, rows, (), payload, length=len(payload), deadline=deadline)


def begin(rig: WorkerRig, model: Gated) -> RawService:
    """Connect a service and have the worker be busy with its batch 0."""
    service = rig.connect_raw()
    service.send(batch(0, 1))
    assert model.begun.acquire(timeout=WAIT_S)
    return service


def test_a_batch_is_answered_with_its_number_times_and_outputs() -> None:
    with worker(lambda inputs: {"y": np.add(inputs["x"], np.uint8(1))}) as rig:
        service = rig.connect_raw()
        before = now_ns()
        service.send(batch(7, 2, 1, value=4))
        (answer,) = service.receive(1)
        assert (answer.kind, answer.batch, answer.payload) == (Kind.RESULT, 7, bytes([5]) * 6)
        assert answer.rows == (3,)
        timing = answer.timing
        assert before <= timing.received <= timing.started <= timing.executed <= timing.finished <= now_ns()


def test_batches_of_two_services_with_one_key_run_together() -> None:
    model = Gated()
    with worker(model) as rig:
        other = rig.connect_raw()
        one = begin(rig, model)
        one.send(batch(1, 2, value=1))
        other.send(batch(1, 1, 2, value=2))
        model.go.release(2)
        assert model.begun.acquire(timeout=WAIT_S)
        _, mine = one.receive(2)
        (theirs,) = other.receive(1)
        assert model.seen == [1, 5]
        assert (mine.payload, theirs.payload) == (bytes([2]) * 4, bytes([3]) * 6)
        assert mine.rows == theirs.rows == (5,)


def test_batches_are_merged_only_up_to_the_limit_and_smaller_ones_fill_up() -> None:
    model = Gated()
    with worker(model, max_batch_size=4) as rig:
        service = begin(rig, model)
        service.send(batch(1, 2), batch(2, 3), batch(3, 2), batch(4, 9))
        model.go.release(5)
        answers = service.receive(5)
        assert model.seen == [1, 4, 3, 9]
        assert [answer.batch for answer in answers] == [0, 1, 3, 2, 4]


def test_batches_of_other_keys_stay_apart() -> None:
    model = Gated()
    with worker(model) as rig:
        service = begin(rig, model)
        wide = head_of({"x": np.zeros((1, 1), np.uint8)}, (0, 0))
        service.send(batch(1, 1), batch(2, 1, head=wide)._replace(payload=b"\0", length=1), batch(3, 1))
        model.go.release(4)
        assert [answer.batch for answer in service.receive(4)] == [0, 1, 3, 2]
        assert model.seen == [1, 2, 1]


def test_what_cannot_be_merged_runs_alone() -> None:
    model = Gated()
    alone = head_of({"x": X}, None)
    with worker(Executor({"f": model}, {"f": Signature()})) as rig:
        service = begin(rig, model)
        service.send(batch(1, 1, head=alone), batch(2, 1, head=alone))
        model.go.release(3)
        service.receive(3)
        assert model.seen == [1, 1, 1]


def test_an_expired_batch_is_refused_and_not_run() -> None:
    model = Gated()
    with worker(model) as rig:
        service = begin(rig, model)
        service.send(batch(1, 1, deadline=1), batch(2, 1, deadline=now_ns() + (1 << 50)), batch(3, 1))
        model.go.release(2)
        answers = {answer.batch: answer for answer in service.receive(4)}
        assert model.seen == [1, 2]
        assert answers[1].kind == Kind.FAILURE
        assert json.loads(answers[1].head)["reason"] == "deadline_exceeded"
        assert answers[2].kind == answers[3].kind == Kind.RESULT


def test_an_inbox_of_expired_batches_is_emptied() -> None:
    with worker(lambda inputs: inputs) as rig:
        service = rig.connect_raw()
        service.send(batch(1, 1, deadline=1), batch(2, 1, deadline=2))
        assert [answer.kind for answer in service.receive(2)] == [Kind.FAILURE] * 2


def test_the_batches_of_a_service_that_went_away_do_not_start() -> None:
    model = Gated()
    with worker(model) as rig:
        stays = rig.connect_raw()
        gone = begin(rig, model)
        gone.send(batch(1, 5))
        gone.link.close()
        stays.send(batch(1, 2))
        model.go.release(2)
        (answer,) = stays.receive(1)
        assert answer.kind == Kind.RESULT
        assert model.seen == [1, 2]


@pytest.mark.parametrize("late_first", [True, False])
def test_refusing_a_batch_of_a_vanished_service_spares_the_others(late_first: bool) -> None:
    """That it is gone is seen only when it is answered: its other batches go with it."""
    model = Gated()
    with worker(model) as rig:
        gone, stays = rig.connect_raw(), rig.connect_raw()
        gate = begin(rig, model)
        late, good = batch(1, 1, deadline=1), batch(2, 1)
        gone.send(*((late, good) if late_first else (good, late)))
        gone.link.close()
        stays.send(batch(1, 1, value=3))
        model.go.release(2)
        (answer,) = stays.receive(1)
        assert answer.payload == bytes([4]) * 2
        assert model.seen == [1, 1]
        assert gate.receive(1)[0].kind == Kind.RESULT


def test_noise_from_a_service_ends_its_connection_and_no_other() -> None:
    with worker(lambda inputs: inputs) as rig:
        bad, good = rig.connect_raw(), rig.connect_raw()
        bad.link.send(b"\xff" * 200)
        good.send(batch(1, 1))
        assert good.receive(1)[0].kind == Kind.RESULT


def test_a_model_that_raises_fails_its_batch_and_the_next_one_runs() -> None:
    def fail_once(inputs: Inputs) -> Inputs:
        if inputs["x"][0, 0] == 9:
            raise KeyError("secret")
        return inputs

    with worker(fail_once) as rig:
        service = rig.connect_raw()
        service.send(batch(1, 1, value=9))
        (answer,) = service.receive(1)
        report = json.loads(answer.head)
        assert (answer.kind, report["reason"], report["field"]) == (Kind.FAILURE, "model_error", None)
        assert "KeyError" in report["message"]
        assert "error id" in report["message"]
        assert "secret" not in report["message"]
        service.send(batch(2, 1))
        assert service.receive(1)[0].kind == Kind.RESULT


def test_an_error_of_ours_keeps_its_reason_and_field() -> None:
    def refuse(_: Inputs) -> Inputs:
        raise InvalidInput("x is too red", field="x")

    with worker(refuse) as rig:
        service = rig.connect_raw()
        service.send(batch(1, 1))
        report = json.loads(service.receive(1)[0].head)
        assert report == {"reason": "invalid_input", "message": "x is too red", "field": "x"}


def test_a_head_that_cannot_be_read_fails_its_batch_only() -> None:
    with worker(lambda inputs: inputs) as rig:
        service = rig.connect_raw()
        service.send(batch(1, 1, head=b"not json"))
        assert service.receive(1)[0].kind == Kind.FAILURE
        service.send(batch(2, 1))
        assert service.receive(1)[0].kind == Kind.RESULT


def test_answers_that_do_not_fit_into_the_socket_are_sent_later() -> None:
    count, size = 200, 60_000
    head = head_of({"x": np.zeros((1, size), np.uint8)}, (0, 0))
    with worker(lambda inputs: inputs, max_batch_size=1) as rig:
        service = rig.connect_raw()
        for number in range(count):
            service.send(Frame(Kind.EXECUTE, number, head, (1,), (), bytes([number]) * size, length=size))
            while service.link.wants_write:
                service.link.flush()
        answers = service.receive(count)
        assert [answer.batch for answer in answers] == list(range(count))
        assert all(answer.payload == bytes([answer.batch]) * size for answer in answers)


def test_the_worker_ends_with_the_supervisors_connection() -> None:
    rig = WorkerRig(lambda inputs: inputs)
    rig.start()
    service = rig.connect_raw()
    service.send(batch(1, 1))
    service.receive(1)
    rig.stop()
