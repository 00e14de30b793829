"""Callers that leave: cancelled, out of time, killed, frozen."""

from __future__ import annotations

import queue
import signal

import grpc
import pytest

from tests.transport.rig import HOLDING_CLIENT, WAIT_S, Child, eventually


def test_client_cancel_is_told_and_a_late_answer_refused(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        assert call.is_active()
        future.cancel()
        assert rig.next_end() is True
    assert not call.is_active()
    assert not call.respond(b"late")
    assert not call.fail(13, "late")
    call.cancel()


def test_callback_given_after_the_end_runs_at_once(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        future.cancel()
        rig.next_end()
    seen = []
    call.on_done(seen.append)
    assert seen == [True]


def test_deadline_ends_the_call(rig):
    with rig.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Hold")(b"x", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert rig.next_end() is True


def test_server_cancel_is_seen_by_the_client(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        rig.next_call().cancel()
        assert future.exception(timeout=WAIT_S).code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}
    rig.next_end()


def test_killed_client_is_noticed(rig):
    with Child(HOLDING_CLIENT, rig.target, "50") as client:
        for _ in range(50):
            rig.next_call()
        client.process.kill()
        assert all(rig.next_end() for _ in range(50))
    eventually(lambda: rig.server.active == 0)


def test_frozen_client_is_found_by_keepalive(make_rig):
    rig = make_rig(keepalive_time_ms=200, keepalive_timeout_ms=300)
    with Child(HOLDING_CLIENT, rig.target, "5") as client:
        for _ in range(5):
            rig.next_call()
        client.process.send_signal(signal.SIGSTOP)
        assert all(rig.next_end() for _ in range(5))


def test_live_client_answers_keepalive(make_rig):
    rig = make_rig(keepalive_time_ms=100, keepalive_timeout_ms=2000)
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(timeout=0.7)
        call.respond(b"y")
        assert future.result(timeout=WAIT_S) == b"y"


def test_cancel_storm_leaves_nothing_active(rig):
    with rig.channel() as channel:
        futures = [channel.unary_unary("/t.T/Hold").future(b"x") for _ in range(300)]
        calls = [rig.next_call() for _ in futures]
        for future in futures[::2]:
            future.cancel()
        for call in calls:
            call.respond(b"y")  # races with the cancellations
        for future in futures[1::2]:
            assert future.result(timeout=WAIT_S) == b"y"
        for _ in futures:
            rig.next_end()
    eventually(lambda: rig.server.active == 0)


def test_only_a_cancelled_call_is_told_so_to_who_asks_for_that_alone(rig):
    told = queue.Queue()

    def handler(call):
        call.on_cancelled(lambda: told.put(call.request))
        call.on_done(told.put)
        if call.request == b"answered":
            call.respond(b"")

    rig.server.add_unary("/t.T/Told", handler)
    with rig.channel() as channel:
        method = channel.unary_unary("/t.T/Told")
        method(b"answered", timeout=WAIT_S)
        assert told.get(timeout=WAIT_S) is False
        with pytest.raises(grpc.RpcError):
            method(b"late", timeout=0.2)
        assert {told.get(timeout=WAIT_S), told.get(timeout=WAIT_S)} == {b"late", True}
    assert told.empty()
