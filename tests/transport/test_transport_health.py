"""grpc.health.v1 per model."""

from __future__ import annotations

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from runtime.transport.health import HealthBoard
from tests.transport.rig import WAIT_S, eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def board(rig):
    made = HealthBoard()
    made.serve_on(rig.server)
    return made


@pytest.fixture
def stub(rig, board):
    with rig.channel() as channel:
        yield health_pb2_grpc.HealthStub(channel)


def check(stub, service=""):
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S).status


def watch(stub, service=""):
    return stub.Watch(health_pb2.HealthCheckRequest(service=service))


def test_server_is_alive_without_any_model(stub):
    assert check(stub) == SERVING


def test_each_model_has_its_own_status(board, stub):
    board.set("a", True)
    board.set("b", False)
    assert (check(stub, "a"), check(stub, "b")) == (SERVING, NOT_SERVING)


def test_unknown_model_is_not_found(board, stub):
    board.set("gone", True)
    board.remove("gone")
    for name in ("never", "gone"):
        with pytest.raises(grpc.RpcError) as caught:
            check(stub, name)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.skipif(not hasattr(health_pb2, "HealthListRequest"), reason="older health package")
def test_list_shows_every_service(board, stub):
    board.set("a", False)
    reply = stub.List(health_pb2.HealthListRequest(), timeout=WAIT_S)
    assert {name: entry.status for name, entry in reply.statuses.items()} == {"": SERVING, "a": NOT_SERVING}


def test_watch_follows_every_change(board, stub):
    watching = watch(stub, "m")
    seen = [next(watching).status]
    for change in (lambda: board.set("m", True), lambda: board.set("m", False), lambda: board.remove("m")):
        change()
        seen.append(next(watching).status)
    watching.cancel()
    assert seen == [UNKNOWN, SERVING, NOT_SERVING, UNKNOWN]


def test_unchanged_status_is_not_repeated(board, stub):
    board.set("m", True)
    watching = watch(stub, "m")
    assert next(watching).status == SERVING
    board.set("m", True)
    board.set("m", False)
    assert next(watching).status == NOT_SERVING
    watching.cancel()


def test_many_watchers_hold_no_threads_and_leave_nothing_behind(rig, board, stub):
    board.set("m", True)
    warm = watch(stub, "m")
    assert next(warm).status == SERVING
    before = {thread.name for thread in threading.enumerate() if thread.name.startswith("grpc-")}
    watchers = [watch(stub, "m") for _ in range(100)]
    assert all(next(one).status == SERVING for one in watchers)
    assert {thread.name for thread in threading.enumerate() if thread.name.startswith("grpc-")} == before
    board.set("m", False)
    assert all(next(one).status == NOT_SERVING for one in watchers)
    for one in [*watchers, warm]:
        one.cancel()
    eventually(lambda: board.watchers == 0)
    eventually(lambda: rig.server.active == 0)


def test_shutdown_is_not_serving_for_good(board, stub):
    board.set("m", True)
    watching = watch(stub, "m")
    assert next(watching).status == SERVING
    board.shutdown()
    assert next(watching).status == NOT_SERVING
    board.set("m", True)
    assert (check(stub), check(stub, "m")) == (NOT_SERVING, NOT_SERVING)
    watching.cancel()


def test_watchers_do_not_hold_up_the_drain(rig, stub):
    watching = watch(stub)
    assert next(watching).status == SERVING
    assert rig.server.stop(60).wait(WAIT_S)
    with pytest.raises(grpc.RpcError) as caught:
        next(watching)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_malformed_request_is_invalid(rig, stub, method):
    with rig.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream(f"/grpc.health.v1.Health/{method}")(b"\xff\xff\xff", timeout=WAIT_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
