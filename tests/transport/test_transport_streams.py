"""Streaming calls."""

from __future__ import annotations

import queue
import threading

import grpc
import pytest

from tests.transport.rig import WAIT_S, Child, eventually

THOUSAND_STREAMS = """
import asyncio, sys
import grpc.aio

async def main():
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        calls = [channel.stream_stream("/t.T/Stream")() for _ in range(1000)]

        async def use(call, number):
            for i in range(3):
                await call.write(b"%d-%d" % (number, i))
                assert await call.read() == b"%d-%d" % (number, i)

        await asyncio.gather(*(use(call, number) for number, call in enumerate(calls)))
        print("open", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await asyncio.gather(*(call.done_writing() for call in calls))
        codes = {code.name for code in await asyncio.gather(*(call.code() for call in calls))}
        print(",".join(codes), flush=True)

asyncio.run(main())
"""


def endless(stop):
    """A request iterator that ends when the test does."""
    yield b"x"
    stop.wait(WAIT_S)


@pytest.fixture
def stop():
    event = threading.Event()
    yield event
    event.set()


def test_bidirectional_echo_keeps_order(rig):
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Stream")(iter([b"%d" % i for i in range(500)]))
        assert list(replies) == [b"%d" % i for i in range(500)]
        assert dict(replies.trailing_metadata()) == {"x-end": "1"}
    assert rig.next_end() is False


def test_empty_messages_are_messages(rig):
    with rig.channel() as channel:
        assert list(channel.stream_stream("/t.T/Stream")(iter([b"", b"a", b""]))) == [b"", b"a", b""]


def test_status_comes_after_all_that_was_sent(rig, stop):
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Stream")(endless(stop))
        call = rig.next_call()
        for i in range(50):
            assert call.send(b"%d" % i)
        assert call.fail(grpc.StatusCode.ABORTED, "enough")
        assert not call.send(b"late")
        assert not call.finish()
        got = []
        with pytest.raises(grpc.RpcError) as caught:
            got.extend(iter(replies.__next__, None))
        got = [reply for reply in got if reply != b"x"]
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert got == [b"%d" % i for i in range(50)]


def test_initial_metadata_leaves_before_any_message(rig, stop):
    def handler(call):
        call.set_initial_metadata((("i", "1"),))
        call.send_initial_metadata()
        rig.calls.put(call)

    rig.server.add_stream("/t.T/Begin", handler)
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Begin")(endless(stop))
        assert dict(replies.initial_metadata())["i"] == "1"
        rig.next_call().finish()
        assert list(replies) == []


def test_cancel_by_the_client_is_told(rig, stop):
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Open")(endless(stop))
        call = rig.next_call()
        assert next(replies) == b"x"
        replies.cancel()
        assert rig.next_end() is True
    assert not call.send(b"y")
    assert not call.finish()


def test_end_of_messages_is_told_once_and_reads_may_be_owed(rig):
    seen = queue.Queue()

    def handler(call):
        call.on_message = seen.put
        for _ in range(5):  # more than come
            call.read()
        rig.calls.put(call)

    rig.server.add_stream("/t.T/Reads", handler)
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Reads")(iter([b"1", b"2"]))
        assert [seen.get(timeout=WAIT_S) for _ in range(3)] == [b"1", b"2", None]
        call = rig.next_call()
        call.read()
        call.finish()
        assert list(replies) == []
        eventually(lambda: rig.server.active == 0)
    assert seen.empty()


def test_slow_client_makes_messages_pend_and_drained_is_told(rig, stop):
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Stream")(endless(stop))
        call = rig.next_call()
        assert next(replies) == b"x"
        drained = threading.Event()
        call.on_drained = drained.set
        count, body = 64, bytes(1 << 20)
        for _ in range(count):
            call.send(body)
        assert call.pending > 0
        for _ in range(count):
            assert len(next(replies)) == len(body)
        assert drained.wait(WAIT_S)
        call.finish()
        assert list(replies) == []


def test_message_callback_that_raises_ends_its_stream_alone(rig):
    def handler(call):
        def message(data):
            raise ValueError("bug")

        call.on_message = message
        call.read()

    rig.server.add_stream("/t.T/Raises", handler)
    with rig.channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.stream_stream("/t.T/Raises")(iter([b"1", b"2"])))
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert channel.unary_unary("/t.T/Echo")(b"x") == b"x"


def test_stream_handler_that_raises_is_internal(rig):
    rig.server.add_stream("/t.T/Boom", lambda call: 1 / 0)
    with rig.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream("/t.T/Boom")(iter([b"1"])))
    assert caught.value.code() is grpc.StatusCode.INTERNAL


def test_message_that_is_no_bytes_raises_at_the_sender(rig, stop):
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Stream")(endless(stop))
        call = rig.next_call()
        with pytest.raises(TypeError):
            call.send("text")
        with pytest.raises(grpc.RpcError) as caught:
            list(replies)
    assert caught.value.code() is grpc.StatusCode.INTERNAL


def test_stream_method_may_answer_like_a_unary_one(rig):
    def handler(call):
        call.on_message = lambda data: call.respond(b"got " + data) if data is not None else None
        call.read()

    rig.server.add_stream("/t.T/One", handler)
    with rig.channel() as channel:
        assert channel.unary_unary("/t.T/One")(b"it") == b"got it"


def test_thousand_streams_at_once(rig):
    with Child(THOUSAND_STREAMS, rig.target) as client:
        assert client.read() == "open"
        assert rig.server.active == 1000
        assert client.ask("end") == "OK"
    eventually(lambda: rig.server.active == 0)


@pytest.mark.parametrize("trailing", [(("k", 3),), (("Upper", "x"),)])
def test_trailing_metadata_that_cannot_be_sent_is_internal(rig, stop, trailing):
    with rig.channel() as channel:
        replies = channel.stream_stream("/t.T/Stream")(endless(stop))
        call = rig.next_call()
        with pytest.raises((TypeError, ValueError)):
            call.finish(trailing)
        with pytest.raises(grpc.RpcError) as caught:
            list(replies)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
