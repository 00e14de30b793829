"""More calls than can be served in time: those that can be are, and nothing is executed for nobody."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np

from frameworks import python
from store import ModelStore
from tests.support import faulty, models, rpc
from tests.support import zoo as all_models
from tests.support.faulty import Executed, Recorder
from tests.support.gate import Gate
from tests.support.rpc import Answer, Caller, Connections
from tests.support.server import eventually, serving

BATCH_MS = 100.0
LIMIT = 8
DEADLINE_S = 0.3
RATE = 4 * LIMIT / BATCH_MS * 1000
"""Requests per second, of one row each: four times what can be executed."""
TOO_LATE = {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}


def request(model: str, tags: list[int], columns: int = 1, **parameters: int) -> bytes:
    rows = np.repeat(np.array(tags, np.int64)[:, None], columns, axis=1)
    message = rpc.message(model, {"tags": rows})
    for name, value in parameters.items():
        message.parameters[name].int64_param = value
    return message.SerializeToString()


def recorder(tmp_path: Path, *, alpha_ms: float = 0, beta_ms: float = 0, limit: int = 64) -> ModelStore:
    store = ModelStore(tmp_path / "store")
    spec = [models.spec("tags", "INT64", -1, -1)]
    python.save_model(
        "recorder", Recorder(tmp_path / "log", alpha_ms, beta_ms), store=store,
        signatures={"__call__": {"batchable": True, "inputs": spec}}, external_modules=[faulty],
        options={"max_batch_size": limit},
    )  # fmt: skip
    return store


def executed(tmp_path: Path) -> list[Executed]:
    return list(faulty.executed(tmp_path / "log"))


async def offer(target: str, seconds: float) -> list[tuple[int, Answer]]:
    """Offer calls at random instants, tagged with the instants at which nobody waits any more."""
    chance = random.Random(1)

    async def one(infer: Connections) -> tuple[int, Answer]:
        due = time.monotonic_ns() + round(DEADLINE_S * 1e9)
        return due, await infer(request("recorder", [due]), timeout=DEADLINE_S)

    async with Connections(target, 4) as infer:
        calls = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(chance.expovariate(RATE))
            calls.append(asyncio.create_task(one(infer)))
        return await asyncio.gather(*calls)


def test_four_times_the_load_executes_hardly_a_row_that_has_expired(tmp_path: Path) -> None:
    store = recorder(tmp_path, alpha_ms=BATCH_MS - LIMIT, beta_ms=1, limit=LIMIT)
    with serving(store) as server:
        answers = asyncio.run(offer(server.target, 4.0))
        eventually(lambda: server.counted("runtime_queued_rows") == 0, "nothing waits any more")
        eventually(lambda: server.counted("runtime_active_calls") == 0, "nobody waits any more")
    codes = Counter(answer.code for _, answer in answers)
    assert set(codes) <= TOO_LATE | {"OK"}
    assert all(answer.outputs["tags"].tolist() == [[due]] for due, answer in answers if answer.code == "OK")
    batches = executed(tmp_path)
    expired = [tag for batch in batches for tag in batch.tags if tag < batch.begun_ns]
    assert len(expired) <= faulty.rows_of(batches) / 100
    assert codes["OK"] >= faulty.rows_of(batches) / 2, "what is executed is for somebody"
    assert faulty.rows_of(batches) >= 6 * len(batches), "batches are as large as the deadlines permit"


def test_a_call_that_expires_behind_a_long_batch_is_answered_before_the_batch_ends(
    tmp_path: Path, gate: Gate
) -> None:
    store = ModelStore(tmp_path / "store")
    all_models.save(store, "gated", models.Gated(gate.path), options={"max_batch_size": 4})
    gate.close()
    gate.forget()
    with serving(store) as server, Caller(server.target) as caller:
        first = caller.start(rpc.tagged("gated", [0]))
        visit = gate.next()
        message = rpc.message("gated", {"tags": np.array([1], np.int64)})
        message.parameters["timeout"].int64_param = 100_000
        answers = [caller.infer(message.SerializeToString()) for _ in range(3)]
        assert [answer.code for answer in answers] == ["DEADLINE_EXCEEDED"] * 3
        assert not first.is_over
        visit.release()
        gate.open()
        assert first.answer().code == "OK"
        assert gate.seen == [[0]]


def test_the_urgent_overtake_whoever_waits(tmp_path: Path, gate: Gate) -> None:
    store = ModelStore(tmp_path / "store")
    all_models.save(store, "gated", models.Gated(gate.path), options={"max_batch_size": 4})
    gate.close()
    gate.forget()
    with serving(store, model={"priority_levels": 2}) as server, Caller(server.target) as caller:
        first = caller.start(rpc.tagged("gated", [0]))
        visit = gate.next()
        patient = [caller.start(prioritised(100 + n, 2)) for n in range(12)]
        eventually(lambda: server.counted("runtime_queued_rows") == 12, "the others wait")
        urgent = [caller.start(prioritised(200 + n, 1)) for n in range(6)]
        eventually(lambda: server.counted("runtime_queued_rows") == 18, "all wait")
        visit.release()
        gate.open()
        assert {call.answer().code for call in [first, *patient, *urgent]} == {"OK"}
        order = [tag for batch in gate.seen for tag in batch]
        assert order == [0, *range(200, 206), *range(100, 112)]
        assert [len(batch) for batch in gate.seen] == [1, 4, 4, 4, 4, 2], "who waits fills the rest"


def prioritised(tag: int, level: int) -> bytes:
    message = rpc.message("gated", {"tags": np.array([tag], np.int64)})
    message.parameters["priority"].int64_param = level
    return message.SerializeToString()


def test_eight_shapes_are_never_mixed_and_never_fail(tmp_path: Path) -> None:
    requests = [(n, n % 8 + 1) for n in range(1, 801)]
    with serving(recorder(tmp_path, alpha_ms=5)) as server:
        answers = rpc.all_at_once(
            server.target, [request("recorder", [n], columns) for n, columns in requests], connections=4
        )
    for (n, columns), answer in zip(requests, answers, strict=True):
        assert answer.outputs["tags"].tolist() == [[n] * columns]
    batches = executed(tmp_path)
    assert all(tag % 8 + 1 == batch.columns for batch in batches for tag in batch.tags)
    assert sorted(tag for batch in batches for tag in batch.tags) == list(range(1, 801))
    assert len(batches) < 400, "each shape is batched"


def test_the_model_never_gets_more_rows_than_it_takes(tmp_path: Path) -> None:
    rows = [random.Random(1).randint(1, 50) for _ in range(200)]
    with serving(recorder(tmp_path, alpha_ms=1, limit=16)) as server:
        requests = [[1000 * n + row for row in range(count)] for n, count in enumerate([*rows, 500], 1)]
        answers = rpc.all_at_once(
            server.target, [request("recorder", tags) for tags in requests], connections=4
        )
    for tags, answer in zip(requests, answers, strict=True):
        assert answer.outputs["tags"][:, 0].tolist() == tags
    batches = executed(tmp_path)
    assert max(batch.rows for batch in batches) == 16
    assert sorted(tag for batch in batches for tag in batch.tags) == [
        tag for tags in requests for tag in tags
    ]
