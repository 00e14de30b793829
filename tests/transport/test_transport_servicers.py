"""Ordinary generated servicers on the transport server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from runtime.transport.servicers import adapter
from tests.transport.rig import WAIT_S, eventually

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture
def served(rig, pool):
    rig.server.use_servicers(adapter(pool))
    return rig


class Toy:
    """Behaviours of all four shapes over bytes."""

    def __init__(self):
        self.seen = threading.Semaphore(0)

    def one(self, request, context):
        context.send_initial_metadata((("i", "1"),))
        context.set_trailing_metadata((("t", "2"),))
        return request + b"!"

    def abort(self, request, context):
        context.set_trailing_metadata((("t", "2"),))
        context.abort(grpc.StatusCode.ALREADY_EXISTS, "twice")

    def set_code(self, request, context):
        context.set_code(grpc.StatusCode.OUT_OF_RANGE)
        context.set_details("far")

    def nothing(self, request, context):
        return None

    def boom(self, request, context):
        raise ValueError("bug")

    def count(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def join(self, requests, context):
        return b",".join(requests)

    def each(self, requests, context):
        for request in requests:
            yield request * 2

    def forever(self, request, context):
        context.add_callback(self.seen.release)
        while context.is_active():
            yield bytes(100_000)


def register(server, toy):
    unary, out, into, both = (
        grpc.unary_unary_rpc_method_handler,
        grpc.unary_stream_rpc_method_handler,
        grpc.stream_unary_rpc_method_handler,
        grpc.stream_stream_rpc_method_handler,
    )
    shapes = {
        "one": unary, "abort": unary, "set_code": unary, "nothing": unary, "boom": unary,
        "count": out, "forever": out, "join": into, "each": both,
    }  # fmt: skip
    handlers = {name: shape(getattr(toy, name)) for name, shape in shapes.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Toy", handlers),))


@pytest.fixture
def toy(served):
    made = Toy()
    register(served.server, made)
    return made


@pytest.fixture
def channel(served, toy):
    with served.channel() as opened:
        yield opened


def test_all_four_shapes_work(channel):
    reply, call = channel.unary_unary("/toy.Toy/one").with_call(b"a", timeout=WAIT_S)
    assert reply == b"a!"
    assert dict(call.initial_metadata())["i"] == "1"
    assert dict(call.trailing_metadata())["t"] == "2"
    assert list(channel.unary_stream("/toy.Toy/count")(b"100")) == [b"%d" % i for i in range(100)]
    assert channel.stream_unary("/toy.Toy/join")(iter([b"a", b"b"])) == b"a,b"
    assert list(channel.stream_stream("/toy.Toy/each")(iter([b"a", b"b"]))) == [b"aa", b"bb"]


@pytest.mark.parametrize(
    ("method", "code", "details"),
    [
        ("abort", grpc.StatusCode.ALREADY_EXISTS, "twice"),
        ("set_code", grpc.StatusCode.OUT_OF_RANGE, "far"),
        ("nothing", grpc.StatusCode.UNKNOWN, "TypeError"),
        ("boom", grpc.StatusCode.UNKNOWN, "ValueError: bug"),
        ("missing", grpc.StatusCode.UNIMPLEMENTED, ""),
    ],
)
def test_errors_become_statuses(channel, method, code, details):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/toy.Toy/{method}")(b"x", timeout=WAIT_S)
    assert caught.value.code() is code
    assert details in caught.value.details()


def test_client_that_leaves_frees_the_thread(served, toy, channel, pool):
    for _ in range(8):  # more than the pool has threads
        stream = channel.unary_stream("/toy.Toy/forever")(b"")
        next(stream)
        stream.cancel()
        assert toy.seen.acquire(timeout=WAIT_S)
    assert pool.submit(int, "7").result(timeout=WAIT_S) == 7
    eventually(lambda: served.server.active == 0)


def test_silent_client_that_leaves_frees_the_thread(served, channel, pool):
    release = threading.Event()
    calls = [
        channel.stream_stream("/toy.Toy/each")(iter(lambda: release.wait(WAIT_S) and None, None))
        for _ in range(8)
    ]
    eventually(lambda: served.server.active == 8)
    for call in calls:
        call.cancel()
    release.set()
    eventually(lambda: served.server.active == 0)
    assert pool.submit(int, "7").result(timeout=WAIT_S) == 7


def test_pool_that_was_shut_down_makes_calls_unavailable(channel, pool):
    pool.shutdown()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/toy.Toy/one")(b"x", timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_generated_registration_and_non_blocking_methods_work(served, pool):
    servicer = health.HealthServicer()
    servicer.set("m", SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, served.server)
    with served.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="m")
        assert stub.Check(request, timeout=WAIT_S).status == SERVING
        watches = [stub.Watch(request) for _ in range(20)]  # more than the pool has threads
        assert all(next(watch).status == SERVING for watch in watches)
        servicer.set("m", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert all(next(watch).status != SERVING for watch in watches)
        for watch in watches:
            watch.cancel()
    eventually(lambda: served.server.active == 0)


def test_malformed_message_to_a_servicer_is_invalid(served):
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), served.server)
    with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff\xff\xff", timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
