"""Each option changes behaviour: limits, compression, pings, connection age."""

from __future__ import annotations

import threading

import grpc
import pytest

from runtime.errors import ConfigError
from runtime.transport.options import TransportOptions, channel_arguments
from tests.transport.rig import OWN_CONNECTION, WAIT_S, eventually

PINGING_CLIENT = (("grpc.keepalive_time_ms", 100), ("grpc.http2.max_pings_without_data", 0))
STRICT = {"min_client_ping_interval_ms": 60_000, "max_ping_strikes": 1}


def test_request_over_the_limit_is_resource_exhausted(make_rig):
    rig = make_rig(max_message_bytes=1000)
    with rig.channel() as channel:
        assert channel.unary_unary("/t.T/Echo")(bytes(1000)) == bytes(1000)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Echo")(bytes(1001))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.unary_unary("/t.T/Echo")(b"x") == b"x"
    eventually(lambda: rig.server.active == 0)


def test_response_over_the_limit_is_resource_exhausted_and_names_the_option(make_rig):
    rig = make_rig(max_message_bytes=1000)
    rig.server.add_unary("/t.T/Big", lambda call: call.respond(bytes(1001)))
    with rig.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Big")(b"")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1001 bytes" in caught.value.details()
    assert "max_message_bytes" in caught.value.details()


def test_stream_message_over_the_limit_ends_the_stream(make_rig):
    rig = make_rig(max_message_bytes=1000)
    sent = []

    def handler(call):
        sent.append(call.send(b"fits"))
        sent.append(call.send(bytes(1001)))

    rig.server.add_stream("/t.T/Big", handler)
    with rig.channel() as channel:
        replies = channel.unary_stream("/t.T/Big")(b"")
        assert next(replies) == b"fits"
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sent == [True, False]


def test_default_limit_lets_64_mib_through(rig):
    body = bytes(64 << 20)
    with rig.channel() as channel:
        assert channel.unary_unary("/t.T/Echo")(body) == body


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("compression", [False, True])
def test_compressed_requests_are_understood(make_rig, algorithm, compression):
    rig = make_rig(compression=compression)
    body = b"a" * 100_000
    with grpc.insecure_channel(rig.target, compression=algorithm) as channel:
        assert channel.unary_unary("/t.T/Echo")(body) == body


def test_more_calls_than_allowed_are_refused_at_once(make_rig):
    rig = make_rig(max_concurrent_calls=10)
    with rig.channel() as channel:
        futures = [channel.unary_unary("/t.T/Hold").future(b"x") for _ in range(10)]
        calls = [rig.next_call() for _ in futures]
        for method in ("/t.T/Echo", "/t.T/Stream"):
            with pytest.raises(grpc.RpcError) as caught:
                list(channel.unary_stream(method)(b"x", timeout=WAIT_S))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "max_concurrent_calls" in caught.value.details()
        for call in calls:
            call.respond(b"")
        for future in futures:
            future.result(timeout=WAIT_S)
        eventually(lambda: rig.server.active == 0)
        assert channel.unary_unary("/t.T/Echo")(b"x") == b"x"


def test_client_pings_within_the_interval_are_tolerated_during_a_call(make_rig):
    rig = make_rig(min_client_ping_interval_ms=20)
    with rig.channel(*PINGING_CLIENT) as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(timeout=1.2)
        call.respond(b"y")
        assert future.result(timeout=WAIT_S) == b"y"


def test_pings_more_often_than_allowed_end_the_connection(make_rig):
    rig = make_rig(**STRICT)
    with rig.channel(*PINGING_CLIENT) as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        rig.next_call()
        error = future.exception(timeout=WAIT_S)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "ping" in error.details().lower()


def test_zero_strikes_tolerate_everything(make_rig):
    rig = make_rig(min_client_ping_interval_ms=60_000, max_ping_strikes=0)
    with rig.channel(*PINGING_CLIENT) as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        call = rig.next_call()
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(timeout=1.0)
        call.respond(b"y")
        assert future.result(timeout=WAIT_S) == b"y"


def connection_lost(rig, seconds, *options):
    """Whether an idle connection that has worked breaks within some time."""
    ready, lost = threading.Event(), threading.Event()

    def changed(state):
        if state is grpc.ChannelConnectivity.READY:
            ready.set()
        elif ready.is_set():
            lost.set()

    with grpc.insecure_channel(rig.target, options=(OWN_CONNECTION, *options)) as channel:
        channel.subscribe(changed)
        assert channel.unary_unary("/t.T/Echo")(b"x") == b"x"
        assert ready.wait(WAIT_S)
        result = lost.wait(seconds)
        channel.unsubscribe(changed)
    return result


def test_pings_without_calls_are_tolerated(make_rig):
    rig = make_rig(min_client_ping_interval_ms=20)
    assert not connection_lost(rig, 1.2, *PINGING_CLIENT, ("grpc.keepalive_permit_without_calls", 1))


def test_pings_without_calls_can_be_forbidden(make_rig):
    rig = make_rig(min_client_ping_interval_ms=20, permit_pings_without_calls=False)
    assert connection_lost(rig, WAIT_S, *PINGING_CLIENT, ("grpc.keepalive_permit_without_calls", 1))


@pytest.mark.parametrize("option", ["max_connection_age_ms", "max_connection_idle_ms"])
def test_old_and_idle_connections_are_closed(make_rig, option):
    assert connection_lost(make_rig(**{option: 300}), WAIT_S)


def test_connection_age_grace_bounds_the_calls_of_an_old_connection(make_rig):
    rig = make_rig(max_connection_age_ms=200, max_connection_age_grace_ms=200)
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"x")
        rig.next_call()
        assert future.exception(timeout=WAIT_S).code() is grpc.StatusCode.UNAVAILABLE
    assert rig.next_end() is True


def test_options_out_of_bounds_are_all_named():
    with pytest.raises(ConfigError) as caught:
        TransportOptions(max_message_bytes=0, max_ping_strikes=-1)
    assert "max_message_bytes" in caught.value.message
    assert "max_ping_strikes" in caught.value.message


def test_every_argument_is_given_once():
    names = [name for name, _ in channel_arguments(TransportOptions(compression=True, reuse_port=True))]
    assert len(names) == len(set(names))
