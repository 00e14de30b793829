"""Stopping: in order, in time, and under load."""

from __future__ import annotations

import contextlib
import queue
import threading
import time

import grpc
import pytest

from runtime.transport.options import TransportOptions
from tests.transport.rig import WAIT_S, Rig

REFUSALS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_graceful_stop_lets_calls_end_and_refuses_new_ones(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        stopped = rig.server.stop(30)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Echo")(b"x", timeout=2)
        assert caught.value.code() in REFUSALS
        assert not stopped.is_set()
        call.respond(b"done")
        assert future.result(timeout=WAIT_S) == b"done"
        assert stopped.wait(WAIT_S)
    assert rig.next_end() is False


def test_stop_cancels_after_the_grace(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        start = time.monotonic()
        assert rig.server.stop(0.3).wait(WAIT_S)
        assert time.monotonic() - start > 0.25
        assert future.exception(timeout=WAIT_S).code() in REFUSALS
    assert rig.next_end() is True
    assert not call.respond(b"late")


def test_stop_may_be_called_by_a_handler(rig):
    events = queue.Queue()

    def handler(call):
        events.put(rig.server.stop(30))
        call.respond(b"bye")

    rig.server.add_unary("/t.T/Stop", handler)
    with rig.channel() as channel:
        assert channel.unary_unary("/t.T/Stop")(b"", timeout=WAIT_S) == b"bye"
    assert events.get(timeout=WAIT_S).wait(WAIT_S)


def test_second_stop_shortens_the_grace(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        rig.next_call()
        rig.server.stop(60)
        assert rig.server.stop(None).wait(WAIT_S)
        assert future.exception(timeout=WAIT_S).code() in REFUSALS


def test_stop_without_calls_is_quick_and_may_be_repeated(factory):
    rig = Rig(factory)
    assert rig.server.stop(60).wait(WAIT_S)
    assert rig.server.stop(None).is_set()
    assert rig.server.stop(1).is_set()


def test_server_that_never_started_stops(factory):
    server = factory(TransportOptions())
    server.add_port("127.0.0.1:0")
    assert server.stop(1).wait(WAIT_S)


def test_hooks_before_the_stop_run_once(rig):
    seen = []
    rig.server.before_stop.append(lambda: seen.append(1))
    rig.server.stop(1)
    rig.server.stop(1)
    assert seen == [1]


def test_impatient_stop_during_the_hooks_of_the_first(rig):
    rig.server.before_stop.append(lambda: rig.server.stop(None))
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        rig.next_call()
        assert rig.server.stop(60).wait(WAIT_S)
        assert future.exception(timeout=WAIT_S).code() in REFUSALS


def test_open_stream_is_cancelled_by_stop(rig):
    release = threading.Event()
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Open")(iter(lambda: release.wait(WAIT_S) and None, None))
        rig.next_call()
        assert rig.server.stop(None).wait(WAIT_S)
        assert replies.code() in REFUSALS
        release.set()
    assert rig.next_end() is True


@pytest.mark.parametrize("grace", [None, 0.02])
def test_stop_under_load_from_many_threads(factory, grace):
    """Answers from other threads race with the shutdown; the process must live."""
    for _ in range(4):
        rig = Rig(factory)
        ended = threading.Event()

        def answer(rig=rig, ended=ended):
            while not ended.is_set():
                with contextlib.suppress(queue.Empty):
                    rig.calls.get(timeout=0.02).respond(b"r")

        threads = [threading.Thread(target=answer) for _ in range(4)]
        for thread in threads:
            thread.start()
        with rig.channel() as channel:
            futures = [channel.unary_unary("/t.T/Hold").future(b"x") for _ in range(300)]
            futures[0].exception(timeout=WAIT_S)
            assert rig.server.stop(grace).wait(WAIT_S)
            for future in futures:
                error = future.exception(timeout=WAIT_S)
                assert error is None or error.code() in REFUSALS
        ended.set()
        for thread in threads:
            thread.join()
        assert rig.server.active == 0
