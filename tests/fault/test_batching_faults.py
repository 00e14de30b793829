"""One request that cannot be executed fails alone, whatever it does and whoever it is batched with."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from frameworks import python
from store import ModelStore
from tests.support import faulty, rpc
from tests.support.faulty import KILL, RAISE, Fragile, Recorder
from tests.support.gate import Gate
from tests.support.models import BATCHABLE
from tests.support.rpc import Answer, Call, Caller, Connections
from tests.support.server import Server, eventually, serving

TOGETHER = 32


@pytest.fixture
def fragile(tmp_path: Path, gate: Gate) -> Iterator[Server]:
    """A server with one fragile model, whose gate is open and has seen nobody."""
    store = ModelStore(tmp_path / "store")
    python.save_model(
        "fragile", Fragile(gate.path), signatures={"__call__": BATCHABLE}, store=store,
        external_modules=[faulty],
    )  # fmt: skip
    with serving(store) as server:
        gate.open()
        gate.forget()
        yield server


def fragile_request(tag: int, rows: int = 1) -> bytes:
    x = np.random.default_rng(abs(tag)).standard_normal((rows, 5)).astype(np.float32)
    return rpc.message("fragile", {"tags": np.full(rows, tag, np.int64), "x": x}).SerializeToString()


def in_one_batch(server: Server, caller: Caller, gate: Gate, requests: list[bytes]) -> list[Call]:
    """Send requests so that they are executed together; the gate is open again.

    The server must not have executed anything yet: once it knows how long that takes, it sends the first to
    wait to the worker when it expects the one before to end.
    """
    gate.close()
    first = caller.start(fragile_request(0))
    visit = gate.next()
    calls = [caller.start(request) for request in requests]
    eventually(lambda: server.counted("runtime_queued_rows") == len(calls), "all are queued")
    gate.forget()
    visit.release()
    gate.open()
    assert first.answer().code == "OK"
    return calls


@pytest.mark.parametrize("poisoned", [1, 3, 9])
def test_poisoned_requests_fail_alone_and_their_neighbours_get_what_they_would_get_alone(
    fragile: Server, gate: Gate, poisoned: int
) -> None:
    bad = set(random.Random(poisoned).sample(range(TOGETHER), poisoned))
    with Caller(fragile.target) as caller:
        requests = [fragile_request(RAISE if n in bad else n + 1) for n in range(TOGETHER)]
        answers = [call.answer() for call in in_one_batch(fragile, caller, gate, requests)]
        batches = gate.seen
        gate.forget()
        alone = [caller.infer(fragile_request(n + 1)).outputs for n in range(TOGETHER)]
    assert len(batches[0]) == TOGETHER
    for n, answer in enumerate(answers):
        if n in bad:
            assert answer.error is not None
            assert (answer.code, answer.error.reason) == ("INTERNAL", "model_error")
        else:
            assert answer.outputs["tags"].tolist() == [n + 1]
            assert answer.outputs["y"].tobytes() == alone[n]["y"].tobytes()
    runs = Counter(tag for batch in batches for tag in batch if tag > 0)
    assert max(runs.values()) <= 1 + TOGETHER.bit_length()
    assert fragile.counted("runtime_worker_restarts_total") == 0


def test_a_request_that_kills_twice_is_refused_from_then_on(fragile: Server, gate: Gate) -> None:
    killer = fragile_request(KILL)
    with Caller(fragile.target) as caller:
        requests = [fragile_request(n + 1) for n in range(16)]
        requests.insert(7, killer)
        answers = [call.answer() for call in in_one_batch(fragile, caller, gate, requests)]
        assert reason(answers.pop(7)) == ("INTERNAL", "poison_input")
        assert [answer.outputs["tags"].tolist() for answer in answers] == [[n + 1] for n in range(16)]
        eventually(lambda: len(fragile.workers()) == 1, "the worker is back")
        deaths = fragile.counted("runtime_worker_restarts_total")
        assert deaths == 2
        assert reason(caller.infer(killer)) == ("INTERNAL", "poison_input")
        assert caller.infer(fragile_request(5)).code == "OK"
        assert fragile.counted("runtime_worker_restarts_total") == deaths


def reason(answer: Answer) -> tuple[str, str | None]:
    assert answer.error is not None
    return answer.code, answer.error.reason


def recorder(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "store")
    python.save_model(
        "recorder", Recorder(tmp_path / "log", 2, 0.1), signatures={"__call__": BATCHABLE}, store=store,
        external_modules=[faulty],
    )  # fmt: skip
    return store


def recorded(*tags: int) -> bytes:
    return rpc.message("recorder", {"tags": np.array(tags, np.int64)[:, None]}).SerializeToString()


class Storm:
    """Calls without end, of which many are cancelled and many make the model fail.

    Attributes:
        answers: by tag, of calls that were not cancelled here.
        cancelled: tags of those that were.
    """

    def __init__(self, infer: Connections, *, fails: bool) -> None:
        self.answers: dict[int, Answer] = {}
        self.cancelled: set[int] = set()
        self._infer = infer
        self._fails = fails
        self._numbers = iter(range(1, 1 << 40))
        self._chance = random.Random(1)

    async def blow(self, seconds: float) -> None:
        """Keep many calls in flight for so long, and wait until all have ended."""
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._caller(end) for _ in range(64)))

    async def _caller(self, end: float) -> None:
        while time.monotonic() < end:
            number = next(self._numbers)
            fails = self._fails and number % 2
            call = asyncio.ensure_future(self._infer(recorded(number, RAISE if fails else number)))
            if self._chance.random() < 0.5:
                await asyncio.wait([call], timeout=self._chance.random() * 0.03)
                call.cancel()
            try:
                self.answers[number] = await call
            except asyncio.CancelledError:
                self.cancelled.add(number)


def storm(server: Server, seconds: float, *, kills: bool) -> Storm:
    async def kill() -> None:
        while True:
            await asyncio.sleep(0.4)
            for pid in server.workers()[:1]:
                os.kill(pid, signal.SIGKILL)

    async def main() -> Storm:
        async with Connections(server.target, 4) as infer:
            made = Storm(infer, fails=not kills)
            killing = asyncio.create_task(kill()) if kills else None
            await made.blow(seconds)
            if killing is not None:
                killing.cancel()
            return made

    return asyncio.run(main())


def test_a_steady_share_of_poisoned_requests_does_not_wear_their_neighbours_out(tmp_path: Path) -> None:
    async def main(target: str) -> list[tuple[int, Answer]]:
        numbers = iter(range(1, 4001))

        async def loop(infer: Connections) -> list[tuple[int, Answer]]:
            return [
                (number, await infer(recorded(RAISE if number % 20 == 0 else number))) for number in numbers
            ]

        async with Connections(target, 4) as infer:
            return [
                pair for pairs in await asyncio.gather(*(loop(infer) for _ in range(64))) for pair in pairs
            ]

    with serving(recorder(tmp_path)) as server:
        answers = asyncio.run(main(server.target))
    failed = sorted(number for number, answer in answers if answer.code != "OK")
    assert failed == list(range(20, 4001, 20))


@pytest.mark.parametrize("kills", [False, True])
@pytest.mark.parametrize("seconds", [3.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_storm_of_cancellations_and_failures_leaves_nothing_behind(
    tmp_path: Path, seconds: float, kills: bool
) -> None:
    with serving(recorder(tmp_path), model={"instances": 2}) as server:
        made = storm(server, seconds, kills=kills)
        eventually(lambda: len(server.workers()) == 2, "all workers are back")
        good = [recorded(1 << 41, n) for n in range(1000)]
        answers = rpc.all_at_once(server.target, good, connections=4)
        assert Counter(answer.code for answer in answers) == {"OK": 1000}
        assert [int(answer.outputs["tags"][1, 0]) for answer in answers] == list(range(1000))
        eventually(lambda: server.counted("runtime_active_calls") == 0, "no call is left")
        assert server.counted("runtime_queued_rows") == 0
        counted = {name: server.counted(f"runtime_requests_{name}_total") for name in ENDS}
        assert server.counted("runtime_requests_admitted_total") == sum(counted.values())
    assert made.answers
    assert made.cancelled
    check(made, tmp_path / "log", kills=kills)


ENDS = ("completed", "failed", "expired", "cancelled")


def check(made: Storm, log: Path, *, kills: bool) -> None:
    """Who was answered was executed; who was answered with an error deserved it."""
    begun = {tag for batch in faulty.executed(log) for tag in batch.tags}
    for number, answer in made.answers.items():
        if answer.code == "OK":
            assert kills or not number % 2
            assert answer.outputs["tags"].tolist() == [[number], [number]]
            assert number in begun
        elif kills:
            assert reason(answer) in {("UNAVAILABLE", "worker_lost"), ("INTERNAL", "poison_input")}
        else:
            assert reason(answer) == ("INTERNAL", "model_error")
