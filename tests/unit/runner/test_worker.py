"""The worker's loop, spoken to in frames."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from frameworks import RowErrors
from runtime.clock import now_ns
from runtime.errors import InvalidInput
from runtime.runner.executor import Executor
from runtime.tensors.frame import ALONE, JOINED, Frame, Kind
from store import Signature
from tests.support.execution import Inputs, executor, head_of
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
    payload = bytearray([value]) * (2 * sum(rows))
    return Frame(Kind.EXECUTE, number, head, rows, (), payload, length=len(payload), deadline=deadline)


def cancel(number: int, *tasks: int) -> Frame:
    return Frame(Kind.CANCEL, number, b"", tasks)


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
        assert answer.rows == (3, 3)
        timing = answer.timing
        assert before <= timing.received <= timing.begun <= timing.started
        assert timing.started <= timing.executed <= timing.finished <= now_ns()


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
        assert mine.rows == theirs.rows == (5, 5)


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


def test_a_batch_that_is_to_be_alone_is_merged_with_none_and_none_with_it() -> None:
    model = Gated()
    with worker(model) as rig:
        service = begin(rig, model)
        alone = batch(2, 2)._replace(flags=ALONE)
        service.send(batch(1, 1), alone, batch(3, 1), batch(4, 3)._replace(flags=ALONE), batch(5, 4))
        model.go.release(5)
        answers = service.receive(6)
        assert model.seen == [1, 6, 2, 3]
        assert [answer.batch for answer in answers] == [0, 1, 3, 5, 2, 4]
        assert [answer.batch for answer in answers if answer.flags & JOINED] == [3, 5]


def test_a_cancelled_task_is_left_out_of_a_batch_that_has_not_begun() -> None:
    model = Gated()
    with worker(model, max_batch_size=4) as rig:
        service = begin(rig, model)
        service.send(batch(1, 1, 2, 1, value=5), batch(2, 2), cancel(1, 1), cancel(1, 1, 99))
        model.go.release(2)
        _, refused, answer, joined = service.receive(4)
        assert model.seen == [1, 4]
        assert (refused.kind, refused.batch, refused.rows) == (Kind.REFUSED, 1, (1,))
        assert [report["reason"] for report in json.loads(refused.head)] == ["cancelled"]
        assert (answer.kind, answer.batch, answer.payload) == (Kind.RESULT, 1, bytes([6]) * 4)
        assert (answer.rows, joined.batch, joined.kind) == ((4, 4), 2, Kind.RESULT)


def test_a_batch_that_nobody_waits_for_is_answered_at_once_and_not_run() -> None:
    model = Gated()
    with worker(model) as rig:
        service = begin(rig, model)
        service.send(batch(1, 1, 1), batch(2, 1), cancel(1, 0), cancel(1, 1))
        model.go.release(2)
        _, failed, answer = service.receive(3)
        assert (failed.kind, failed.batch) == (Kind.FAILURE, 1)
        assert json.loads(failed.head)["reason"] == "cancelled"
        assert (answer.kind, answer.batch) == (Kind.RESULT, 2)
        assert model.seen == [1, 1]


def test_cancellations_of_what_runs_is_over_or_never_was_are_ignored() -> None:
    model = Gated()
    with worker(model) as rig:
        service, other = begin(rig, model), rig.connect_raw()
        service.send(cancel(0, 0), cancel(7, 0))
        other.send(batch(1, 1))
        service.send(cancel(1, 0))  # another service's
        model.go.release(3)
        assert [answer.kind for answer in service.receive(1)] == [Kind.RESULT]
        assert [answer.kind for answer in other.receive(1)] == [Kind.RESULT]
        service.send(cancel(0, 0), batch(2, 1))
        assert [answer.batch for answer in service.receive(1)] == [2]


def test_what_a_vanished_service_sent_behind_its_cancellation_does_not_start() -> None:
    model = Gated()
    with worker(model) as rig:
        gone, stays = rig.connect_raw(), rig.connect_raw()
        begin(rig, model)
        gone.send(batch(1, 1), cancel(1, 0), batch(2, 3))
        gone.link.close()
        stays.send(batch(1, 2))
        model.go.release(3)
        assert stays.receive(1)[0].kind == Kind.RESULT
        assert 3 not in model.seen


def test_one_bad_row_fails_its_task_and_the_others_of_all_services_are_answered() -> None:
    gate = Gated()

    def picky(inputs: Inputs) -> Inputs | RowErrors:
        outputs = gate(inputs)
        bad = np.flatnonzero(inputs["x"][:, 0] == 9)
        return RowErrors(outputs, {int(row): f"row {row} is a nine" for row in bad})

    with worker(picky) as rig:
        other = rig.connect_raw()
        one = begin(rig, gate)
        nine = batch(1, 1, 2, value=1)
        nine.payload[0] = 9  # type: ignore[index]
        one.send(nine)
        other.send(batch(1, 1, value=3), batch(2, 1, value=9))
        gate.go.release(2)
        _, refused, mine = one.receive(3)
        theirs, lost, empty = other.receive(3)
        assert gate.seen == [1, 5]
        assert (refused.kind, refused.batch, refused.rows) == (Kind.REFUSED, 1, (0,))
        words = {"reason": "model_error", "message": "row 0 is a nine", "field": None}
        assert json.loads(refused.head) == [words]
        assert (mine.payload, theirs.payload) == (bytes([2]) * 4, bytes([4]) * 2)
        assert (lost.kind, lost.rows, lost.batch) == (Kind.REFUSED, (0,), 2)
        assert (empty.kind, empty.batch, empty.payload, empty.rows) == (Kind.RESULT, 2, b"", (5, 5))


def test_batches_are_padded_to_sizes_that_are_allowed() -> None:
    model = Gated()
    model.go.release(1)
    with worker(executor(model, allowed_batch_sizes=(4, 8)), max_batch_size=8) as rig:
        service = rig.connect_raw()
        service.send(batch(1, 2, 1, value=1))
        (answer,) = service.receive(1)
        assert model.seen == [4]
        assert (answer.rows, answer.payload) == ((3, 4), bytes([2]) * 6)


def test_a_model_without_enough_memory_says_so() -> None:
    def greedy(_: Inputs) -> Inputs:
        return {"y": np.empty((1 << 60,), np.uint8)}

    with worker(greedy) as rig:
        service = rig.connect_raw()
        service.send(batch(1, 1))
        assert json.loads(service.receive(1)[0].head)["reason"] == "memory_exhausted"


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
