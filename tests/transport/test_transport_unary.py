"""Unary calls: messages, metadata, statuses, answers from other threads."""

from __future__ import annotations

import math
import os
import queue
import threading
import time

import grpc
import pytest

from tests.transport.rig import UNLIMITED, WAIT_S


def failure(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 1000, 40 << 20])
def test_message_comes_back_as_it_was(rig, size):
    body = os.urandom(size)
    with rig.channel() as channel:
        assert channel.unary_unary("/t.T/Echo")(body) == body


def test_metadata_travels_both_ways(rig):
    def handler(call):
        seen = [(key, value) for key, value in call.metadata if key in {"k", "b-bin"}]
        call.set_initial_metadata((("i", "1"), ("i-bin", b"\0\xff")))
        call.respond(b"", [("t-" + key, value) for key, value in seen])

    rig.server.add_unary("/t.T/Meta", handler)
    with rig.channel() as channel:
        _, call = channel.unary_unary("/t.T/Meta").with_call(b"", metadata=(("k", "v"), ("b-bin", b"\xfe\0")))
    initial = {key: value for key, value in call.initial_metadata() if key.startswith("i")}
    assert initial == {"i": "1", "i-bin": b"\0\xff"}
    assert dict(call.trailing_metadata()) == {"t-k": "v", "t-b-bin": b"\xfe\0"}


def test_failure_carries_code_details_and_rich_status(rig):
    trailing = (("grpc-status-details-bin", b"\x08\x05"), ("a", "b"))
    rig.server.add_unary("/t.T/Fail", lambda call: call.fail(grpc.StatusCode.NOT_FOUND, "nö", trailing))
    with rig.channel() as channel:
        error = failure(lambda: channel.unary_unary("/t.T/Fail")(b"x"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "nö"
    assert {tuple(pair) for pair in error.trailing_metadata()} >= set(trailing)


def test_code_may_be_a_plain_number(rig):
    rig.server.add_unary("/t.T/Fail", lambda call: call.fail(9, "no"))
    with rig.channel() as channel:
        error = failure(lambda: channel.unary_unary("/t.T/Fail")(b"x"))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), SystemExit(3)])
def test_handler_that_raises_is_internal_and_the_server_lives(rig, error):
    def handler(call):
        raise error

    rig.server.add_unary("/t.T/Boom", handler)
    with rig.channel() as channel:
        caught = failure(lambda: channel.unary_unary("/t.T/Boom")(b"x"))
        assert caught.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in caught.details()
        assert channel.unary_unary("/t.T/Echo")(b"x") == b"x"


def test_unknown_method_is_unimplemented(rig):
    with rig.channel() as channel:
        assert failure(lambda: channel.unary_unary("/t.T/Nope")(b"x")).code() is grpc.StatusCode.UNIMPLEMENTED


def test_answer_may_come_from_another_thread(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        answers = queue.Queue()
        threading.Thread(target=lambda: answers.put(call.respond(b"y"))).start()
        assert future.result(timeout=WAIT_S) == b"y"
    assert answers.get(timeout=WAIT_S)


def test_only_the_first_answer_counts(rig):
    answers = []
    rig.server.add_unary(
        "/t.T/Twice",
        lambda call: answers.extend(
            [call.respond(b"1"), call.respond(b"2"), call.fail(3, "no"), call.is_active()]
        ),
    )
    with rig.channel() as channel:
        assert channel.unary_unary("/t.T/Twice")(b"") == b"1"
    assert answers == [True, False, False, False]


def test_one_of_many_racing_answers_wins(rig):
    wins = queue.Queue()
    with rig.channel() as channel:
        for _ in range(50):
            future = channel.unary_unary("/t.T/Hold").future(b"x")
            call = rig.next_call()
            start = threading.Barrier(4)

            def race(call=call, start=start, name=b"x"):
                start.wait(WAIT_S)
                wins.put(call.respond(name))

            threads = [threading.Thread(target=race, kwargs={"name": b"%d" % i}) for i in range(4)]
            for thread in threads:
                thread.start()
            assert future.result(timeout=WAIT_S) in {b"0", b"1", b"2", b"3"}
            for thread in threads:
                thread.join()
            assert sorted(wins.get(timeout=WAIT_S) for _ in range(4)) == [False, False, False, True]


def test_deadline_is_seen_as_unix_time(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x", timeout=50)
        call = rig.next_call()
        assert 40 < call.time_remaining() <= 50.5
        assert abs(call.deadline - time.time() - 50) < 10
        call.respond(b"y")
        future.result(timeout=WAIT_S)


def test_no_deadline_is_infinite(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        assert call.deadline == math.inf
        assert call.time_remaining() == math.inf
        call.respond(b"y")
        future.result(timeout=WAIT_S)


def test_peer_method_and_plain_auth_are_told(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        assert call.peer().startswith("ipv4:127.0.0.1:")
        assert call.method == "/t.T/Hold"
        assert call.user is None
        assert b"x509_common_name" not in call.auth_context()
        call.respond(b"y")
        future.result(timeout=WAIT_S)


def test_end_of_an_answered_call_is_told_to_each_callback_once(rig):
    ends = queue.Queue()

    def handler(call):
        call.on_done(lambda cancelled: ends.put(("early", cancelled)))
        call.respond(b"")
        call.on_done(lambda cancelled: ends.put(("late", cancelled)))

    rig.server.add_unary("/t.T/Ends", handler)
    with rig.channel() as channel:
        channel.unary_unary("/t.T/Ends")(b"")
    assert sorted(ends.get(timeout=WAIT_S) for _ in range(2)) == [("early", False), ("late", False)]
    assert ends.empty()


def test_client_stream_without_a_message_is_unimplemented(rig):
    with rig.channel() as channel:
        error = failure(lambda: channel.stream_unary("/t.T/Echo")(iter(())))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


BAD_ANSWERS = [
    ("text", None),
    (None, None),
    (b"", (("k", 3),)),
    (b"", (("k", b"bytes"),)),
    (b"", (("k-bin", "text"),)),
    (b"", (("Upper", "x"),)),
    (b"", (("k", "a\nb"),)),
]


@pytest.mark.parametrize(("message", "trailing"), BAD_ANSWERS)
def test_answer_that_cannot_be_sent_is_internal(rig, message, trailing):
    rig.server.add_unary("/t.T/Bad", lambda call: call.respond(message, trailing))
    with rig.channel() as channel:
        error = failure(lambda: channel.unary_unary("/t.T/Bad")(b"x", timeout=WAIT_S))
    assert error.code() is grpc.StatusCode.INTERNAL


def test_answer_that_cannot_be_sent_raises_where_it_is_given(rig):
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x", timeout=WAIT_S)
        call = rig.next_call()
        with pytest.raises(TypeError):
            call.respond("text")
        assert future.exception(timeout=WAIT_S).code() is grpc.StatusCode.INTERNAL
    assert rig.next_end() in {True, False}


def test_many_calls_in_flight_each_get_their_own_answer(rig):
    with rig.channel() as channel:
        futures = [channel.unary_unary("/t.T/Hold").future(b"%d" % i) for i in range(300)]
        calls = [rig.next_call() for _ in futures]
        for call in reversed(calls):
            assert call.respond(call.request)
        assert [future.result(timeout=WAIT_S) for future in futures] == [b"%d" % i for i in range(300)]


def test_hooks_run_after_the_handlers_of_a_group(rig):
    log = queue.Queue()
    rig.server.add_unary("/t.T/Log", lambda call: (log.put("handled"), call.respond(b"")))
    rig.server.after_drain.append(lambda: log.put("hook"))
    with rig.channel() as channel:
        channel.unary_unary("/t.T/Log")(b"")
    while log.get(timeout=WAIT_S) != "handled":
        pass
    assert log.get(timeout=WAIT_S) == "hook"


def test_hook_that_raises_does_not_stop_the_server(rig):
    rig.server.after_drain.append(lambda: 1 / 0)
    with rig.channel() as channel:
        for number in range(3):
            assert channel.unary_unary("/t.T/Echo")(b"%d" % number) == b"%d" % number


def test_unix_socket(make_rig, tmp_path):
    one = make_rig(address=f"unix:{tmp_path}/s")
    with grpc.insecure_channel(one.target, options=UNLIMITED) as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"u")
        call = one.next_call()
        assert call.peer().startswith("unix:")
        call.respond(b"v")
        assert future.result(timeout=WAIT_S) == b"v"
