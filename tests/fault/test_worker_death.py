"""A worker that dies loses nothing; a request that kills it fails alone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from store import ModelStore
from tests.support import models, rpc
from tests.support import zoo as all_models
from tests.support.models import MARK
from tests.support.rpc import Answer, Caller, Connections
from tests.support.server import WAIT_S, Server, eventually, serving

CHECK = "/grpc.health.v1.Health/Check"
MANY = 20_000
"""Rows whose tensors travel through shared memory."""


class Load:
    """Closed loops of calls, for as long as a test wants them."""

    def __init__(self, infer: Connections, request: bytes, loops: int = 32) -> None:
        self.answers: list[Answer] = []
        self.pids: dict[int, float] = {}
        self._infer = infer
        self._request = request
        self._stopping = False
        self._grew = asyncio.Event()
        self._loops = [asyncio.create_task(self._run()) for _ in range(loops)]

    async def _run(self) -> None:
        while not self._stopping:
            answer = await self._infer(self._request)
            self.answers.append(answer)
            if answer.error is None:
                self.pids.setdefault(int(answer.outputs["pid"][0]), time.monotonic())
            self._grew.set()

    async def until(self, condition: object) -> None:
        """Wait for a condition on the answers."""
        assert callable(condition)
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._grew.clear()
                await self._grew.wait()

    async def stop(self) -> Counter[str]:
        """End the loops; how many calls ended how."""
        self._stopping = True
        await asyncio.gather(*self._loops)
        return Counter(answer.code for answer in self.answers)


def health_of(caller: Caller, name: str) -> int:
    request = health_pb2.HealthCheckRequest(service=name).SerializeToString()
    answer = caller.call(CHECK, request)
    assert answer.error is None
    return int(health_pb2.HealthCheckResponse.FromString(answer.message).status)


@pytest.mark.parametrize(("services", "rows"), [(1, 3), (2, 3), (2, MANY)])
def test_two_instances_outlive_the_death_of_one_without_a_failed_call(
    zoo: ModelStore, services: int, rows: int
) -> None:
    async def main(server: Server) -> None:
        victim, other = server.workers()
        async with Connections(server.target, 4 * services) as infer:
            load = Load(infer, rpc.tagged("mortal", range(rows)))
            await load.until(lambda: {victim, other} <= set(load.pids) and len(load.answers) > 200)
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            await load.until(lambda: len(load.pids) == 3)
            back_s = max(load.pids.values()) - killed
            seen = len(load.answers)
            await load.until(lambda: len(load.answers) > seen + 200)
            counts = await load.stop()
        assert set(counts) == {"OK"}
        assert victim not in server.workers()
        assert len(server.workers()) == 2
        assert back_s < 3 * server.took_s + 1

    model = {"instances": 2, "max_batch_size": 2 * MANY, "max_queued_rows": 100 * MANY}
    with serving(zoo, "mortal", server={"services": services}, model=model) as server:
        asyncio.run(main(server))


def test_calls_wait_for_the_only_worker_to_come_back_but_not_beyond_their_deadlines(zoo: ModelStore) -> None:
    with serving(zoo, "mortal") as server, Caller(server.target) as caller:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: health_of(caller, "mortal") == 2, "the model's health says NOT_SERVING")
        patient = [caller.start(rpc.tagged("mortal", [n])) for n in range(20)]
        hasty = caller.infer(rpc.tagged("mortal", [99]), timeout=0.05)
        assert hasty.code == "DEADLINE_EXCEEDED"
        for n, call in enumerate(patient):
            outputs = call.answer().outputs
            assert outputs["tags"].tolist() == [n]
            assert outputs["pid"].tolist() == server.workers()
        assert health_of(caller, "mortal") == 1
        assert [one["restarts"] for one in server.instances()] == [1]


def test_a_request_that_kills_its_worker_fails_and_the_service_goes_on(zoo: ModelStore) -> None:
    with serving(zoo, "mortal", "tags") as server, Caller(server.target) as caller:
        services = server.services()
        answer = caller.infer(rpc.tagged("mortal", [1, MARK]))
        assert answer.error is not None
        assert (answer.code, answer.error.reason) == ("INTERNAL", "poison_input")
        assert answer.error.retry_after_s is None
        assert caller.infer(rpc.tagged("tags", [5])).outputs["tags"].tolist() == [5]
        assert caller.infer(rpc.tagged("mortal", [6])).outputs["tags"].tolist() == [6]
        assert [one["restarts"] for one in server.instances("mortal")] == [2]
        assert [one["restarts"] for one in server.instances("tags")] == [0]
        assert server.services() == services


def test_neighbours_of_a_request_that_kills_its_worker_are_answered(zoo: ModelStore) -> None:
    with serving(zoo, "mortal") as server:
        good = [rpc.tagged("mortal", [n]) for n in range(40)]
        answers = rpc.all_at_once(
            server.target, [*good[:20], rpc.tagged("mortal", [MARK]), *good[20:]], connections=2
        )
        assert answers.pop(20).code == "INTERNAL"
        assert [answer.code for answer in answers] == ["OK"] * 40
        assert [int(answer.outputs["tags"][0]) for answer in answers] == list(range(40))


def test_a_model_that_cannot_be_loaded_again_fails_its_calls_and_no_others(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    for name, model in (("mortal", models.Mortal()), ("tags", models.Tags())):
        all_models.save(store, name, model)
    with serving(store) as server, Caller(server.target) as caller:
        store.delete("mortal")
        queued = [caller.start(rpc.tagged("mortal", [MARK])) for _ in range(3)]
        for call in queued:
            answer = call.answer()
            assert answer.error is not None
            assert (answer.code, answer.error.reason) == ("UNAVAILABLE", "not_ready")
        answer = caller.infer(rpc.tagged("mortal", [1]))
        assert answer.error is not None
        assert (answer.code, answer.error.reason) == ("UNAVAILABLE", "not_ready")
        assert [one["state"] for one in server.instances("mortal")] == ["failed"]
        assert "mortal" in server.instances("mortal")[0]["error"]
        assert caller.infer(rpc.tagged("tags", [1])).code == "OK"
        assert health_of(caller, "mortal") == 2
        assert health_of(caller, "tags") == 1


def test_what_the_model_raises_stays_in_the_log(zoo: ModelStore) -> None:
    with serving(zoo, "mortal") as server, Caller(server.target) as caller:
        answer = caller.infer(rpc.tagged("mortal", [2 * MARK]))
        assert answer.error is not None
        assert (answer.code, answer.error.reason) == ("INTERNAL", "model_error")
        assert "ValueError" in answer.error.details
        assert "secret" not in str(answer.error)
        identity = answer.error.details.rpartition("error id ")[2].rstrip(")")
        (line,) = [line for line in server.log.splitlines() if identity in line]
        assert "a secret of the model" in line
        assert [one["restarts"] for one in server.instances()] == [0]
