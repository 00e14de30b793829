"""What nobody waits for any more does not begin; what finds no room is refused at once."""

from __future__ import annotations

import pytest

from store import ModelStore
from tests.support import rpc
from tests.support.gate import Gate
from tests.support.rpc import Caller
from tests.support.server import Server, eventually, serving

ROOM = 40
"""``max_queued_rows`` of the gated model; its batches have at most 4 rows."""


def queued(server: Server) -> float:
    return server.counted("runtime_queued_rows", "gated")


def admitted(server: Server) -> float:
    """Calls so far; who waits does so in the queue or, if it is next in turn, at the worker."""
    return server.counted("runtime_requests_admitted_total", "gated")


def calls_left(server: Server) -> float:
    return server.counted("runtime_active_calls")


@pytest.mark.parametrize("predicted", [False, True])
def test_cancelled_calls_are_never_executed(
    shared: Server, caller: Caller, shut: Gate, predicted: bool
) -> None:
    """Wherever they wait: what is expected to be executed next may lie at the worker already."""
    if predicted:
        shut.open()
        for n in range(30):
            assert caller.infer(rpc.tagged("gated", [n])).code == "OK"
        shut.close()
        shut.forget()
    before = admitted(shared)
    first = caller.start(rpc.tagged("gated", [-1]))
    visit = shut.next()
    calls = [caller.start(rpc.tagged("gated", [n])) for n in range(ROOM)]
    eventually(lambda: admitted(shared) == before + ROOM + 1, "all wait")
    for call in calls[::2]:
        call.cancel()
    eventually(lambda: calls_left(shared) == 1 + ROOM // 2, "the server knows")
    visit.release()
    shut.open()
    assert first.answer().code == "OK"
    for n, call in enumerate(calls):
        if n % 2:
            assert call.answer().outputs["tags"].tolist() == [n]
        else:
            assert call.answer().code == "CANCELLED"
    executed = sorted(tag for batch in shut.seen for tag in batch)
    assert executed == [-1, *range(1, ROOM, 2)]


def test_calls_whose_deadline_passes_in_the_queue_are_never_executed(
    shared: Server, caller: Caller, shut: Gate
) -> None:
    first = caller.start(rpc.tagged("gated", [-1]))
    visit = shut.next()
    hasty = [caller.start(rpc.tagged("gated", [n]), timeout=0.2) for n in range(10)]
    patient = [caller.start(rpc.tagged("gated", [100 + n])) for n in range(10)]
    assert [call.answer().code for call in hasty] == ["DEADLINE_EXCEEDED"] * 10
    eventually(lambda: calls_left(shared) == 11, "the server knows")
    visit.release()
    shut.open()
    assert [call.answer().outputs["tags"].tolist() for call in patient] == [[100 + n] for n in range(10)]
    assert first.answer().code == "OK"
    assert sorted(tag for batch in shut.seen for tag in batch) == [-1, *range(100, 110)]


def test_a_client_that_vanishes_takes_its_queued_calls_along(shared: Server, shut: Gate) -> None:
    before = admitted(shared)
    with Caller(shared.target) as stays:
        first = stays.start(rpc.tagged("gated", [-1]))
        visit = shut.next()
        with Caller(shared.target) as vanishes:
            calls = [vanishes.start(rpc.tagged("gated", [n])) for n in range(20)]
            eventually(lambda: admitted(shared) == before + 21, "all wait")
        eventually(lambda: calls_left(shared) == 1, "all are gone")
        visit.release()
        assert first.answer().code == "OK"
    assert [call.answer().code for call in calls] == ["CANCELLED"] * 20
    assert shut.seen == [[-1]]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(zoo: ModelStore, shut: Gate) -> None:
    with serving(zoo, "gated", "tags") as server, Caller(server.target) as caller:
        check_full_queue(server, caller, shut)


def check_full_queue(server: Server, caller: Caller, shut: Gate) -> None:
    first = caller.start(rpc.tagged("gated", [-1]))
    visit = shut.next()
    calls = [caller.start(rpc.tagged("gated", [n] * 4)) for n in range(ROOM // 4)]
    eventually(lambda: queued(server) == ROOM, "the queue is full")
    for _ in range(20):
        refused = caller.infer(rpc.tagged("gated", [99]))
        assert refused.error is not None
        assert (refused.code, refused.error.reason) == ("RESOURCE_EXHAUSTED", "queue_full")
        assert refused.error.retry_after_s
    assert caller.infer(rpc.tagged("tags", [7])).code == "OK"
    assert not any(call.is_over for call in calls)
    visit.release()
    shut.open()
    assert first.answer().code == "OK"
    assert [call.answer().outputs["tags"].tolist() for call in calls] == [[n] * 4 for n in range(ROOM // 4)]
    assert caller.infer(rpc.tagged("gated", [99])).code == "OK"


def test_a_storm_of_cancellations_harms_no_later_call(shared: Server) -> None:
    with Caller(shared.target) as caller:
        for _ in range(5):
            calls = [caller.start(rpc.tagged("tags", [n] * (n % 7 + 1))) for n in range(200)]
            for call in calls[::2]:
                call.cancel()
            for n, call in list(enumerate(calls))[1::2]:
                assert call.answer().outputs["tags"].tolist() == [n] * (n % 7 + 1)
        eventually(lambda: shared.counted("runtime_queued_rows", "tags") == 0, "nothing is left behind")
        eventually(lambda: shared.counted("runtime_active_calls") == 0, "no call is left behind")
