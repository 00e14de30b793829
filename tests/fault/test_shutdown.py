"""The end of a server: in order, within the grace, at once when told twice, and without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health_pb2

from runtime.client import RpcFailed
from store import ModelStore
from tests.support import rpc
from tests.support.gate import Gate
from tests.support.rpc import OWN_CONNECTION, Answer, Caller
from tests.support.server import WAIT_S, Server, eventually, serving

WATCH = "/grpc.health.v1.Health/Watch"
ENDLESS_MS = 600_000
SOON_S = 15.0
"""Far below the grace of 600 s, far above what ending takes."""


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Turning:
    """A client that watches the health of the server that it uses and turns to another one in time."""

    def __init__(self, first: str, second: str) -> None:
        self.answers: list[Answer] = []
        self.turned = asyncio.Event()
        self.enough = asyncio.Event()
        self._channels = [
            grpc.aio.insecure_channel(target, options=(OWN_CONNECTION,)) for target in (first, second)
        ]
        self._stopping = False

    async def run(self, loops: int = 16) -> None:
        await asyncio.gather(self._watch(), *(self._call() for _ in range(loops)))
        for channel in self._channels:
            await channel.close()

    def stop(self) -> None:
        self._stopping = True

    async def _watch(self) -> None:
        request = health_pb2.HealthCheckRequest(service="tags").SerializeToString()
        async for message in self._channels[0].unary_stream(WATCH)(request):
            if health_pb2.HealthCheckResponse.FromString(message).status != 1:
                self.turned.set()
                return

    async def _call(self) -> None:
        request = rpc.tagged("tags", [1, 2, 3])
        methods = [channel.unary_unary(rpc.INFER) for channel in self._channels]
        while not self._stopping:
            try:
                message = await methods[self.turned.is_set()](request, timeout=WAIT_S)
                self.answers.append(Answer(message))
            except grpc.aio.AioRpcError as error:
                self.answers.append(Answer(error=RpcFailed.of(error)))
            if len(self.answers) > 200:
                self.enough.set()


def test_a_client_that_honours_health_sees_no_failed_call(zoo: ModelStore) -> None:
    async def main(first: Server, second: Server) -> None:
        client = Turning(first.target, second.target)
        running = asyncio.create_task(client.run())
        async with asyncio.timeout(WAIT_S):
            await client.enough.wait()
            first.signal()
            await client.turned.wait()
            assert await asyncio.to_thread(first.wait) == 0
        client.stop()
        await running
        assert Counter(answer.code for answer in client.answers) == {"OK": len(client.answers)}

    with serving(zoo, "tags") as second, serving(zoo, "tags", server={"drain_delay_ms": 300}) as first:
        asyncio.run(main(first, second))
        first.assert_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("services", [1, 2])
def test_admitted_calls_are_finished_and_new_ones_refused(
    zoo: ModelStore, shut: Gate, number: signal.Signals, services: int
) -> None:
    with serving(zoo, "gated", server={"services": services}) as server, Caller(server.target) as caller:
        admitted = [caller.start(rpc.tagged("gated", [n])) for n in range(12)]
        running = shut.next()
        eventually(lambda: server.counted("runtime_requests_admitted_total", "gated") == 12, "all are in")
        server.signal(number)
        eventually(lambda: refuses(server.grpc), "nobody is let in any more")
        assert caller.infer(rpc.tagged("gated", [99])).code == "UNAVAILABLE"
        running.release()
        shut.open()
        assert [call.answer().outputs["tags"].tolist() for call in admitted] == [[n] for n in range(12)]
        assert server.wait() == 0
        server.assert_gone()


def test_health_turns_before_calls_are_refused(zoo: ModelStore) -> None:
    with (
        serving(zoo, "tags", server={"drain_delay_ms": ENDLESS_MS}) as server,
        Caller(server.target) as caller,
    ):
        request = health_pb2.HealthCheckRequest(service="tags").SerializeToString()
        watch = caller.channel.unary_stream(WATCH)(request, timeout=WAIT_S)
        assert health_pb2.HealthCheckResponse.FromString(next(watch)).status == 1
        server.signal()
        assert health_pb2.HealthCheckResponse.FromString(next(watch)).status == 2
        assert caller.infer(rpc.tagged("tags", [4])).outputs["tags"].tolist() == [4]
        server.signal()
        assert server.wait(SOON_S) == 0
        server.assert_gone()
        watch.cancel()


def test_the_grace_bounds_a_call_that_never_ends(zoo: ModelStore, shut: Gate) -> None:
    with serving(zoo, "gated", server={"grace_ms": 300}) as server, Caller(server.target) as caller:
        call = caller.start(rpc.tagged("gated", [1]))
        shut.next()
        server.signal()
        assert server.wait(SOON_S) == 0
        assert call.answer().code in {"CANCELLED", "UNAVAILABLE"}
        server.assert_gone()


def test_a_stopped_worker_does_not_hold_up_the_end(zoo: ModelStore) -> None:
    with serving(zoo, "tags", server={"grace_ms": 300}) as server:
        (worker,) = server.workers()
        server.look()
        os.kill(worker, signal.SIGSTOP)
        server.signal()
        assert server.wait(SOON_S) == 0
        server.assert_gone()


def test_a_second_signal_ends_at_once(zoo: ModelStore, shut: Gate) -> None:
    with serving(zoo, "gated", server={"grace_ms": ENDLESS_MS}) as server, Caller(server.target) as caller:
        call = caller.start(rpc.tagged("gated", [1]))
        shut.next()
        server.signal()
        eventually(lambda: refuses(server.grpc), "the first signal was obeyed")
        assert not call.is_over
        server.signal()
        assert server.wait(SOON_S) == 0
        assert call.answer().code in {"CANCELLED", "UNAVAILABLE"}
        server.assert_gone()


def test_clients_that_ignore_health_are_all_answered_and_nothing_is_left(zoo: ModelStore) -> None:
    """gRPC itself breaks off, as CANCELLED, what crosses its GOAWAY on the way."""
    with serving(zoo, "tags", server={"services": 2}, model={"instances": 2}) as server:
        answers: list[Answer] = []
        request = rpc.tagged("tags", [1] * 7)
        under_way = threading.Event()

        def hammer() -> None:
            with Caller(server.target) as caller:
                while True:
                    answers.append(caller.infer(request))
                    if len(answers) > 100:
                        under_way.set()
                    if answers[-1].error is not None:
                        return

        threads = [threading.Thread(target=hammer) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert under_way.wait(WAIT_S)
        server.signal()
        assert server.wait() == 0
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        assert Counter(a.code for a in answers).keys() <= {"OK", "UNAVAILABLE", "CANCELLED"}
        server.assert_gone()
