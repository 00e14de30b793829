"""Every caller gets exactly its own rows, however they were merged, or an error."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from store import ModelStore
from tests.support import rpc
from tests.support.models import MARK
from tests.support.server import Server, serving

CALLS = 10_000
WAITING_ROOM = {"max_queued_rows": 8 * CALLS}


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("services", [1, 2])
def test_each_of_10_000_callers_gets_its_own_rows(zoo: ModelStore, services: int, instances: int) -> None:
    rows = random.Random(services * 10 + instances).choices(range(1, 8), k=CALLS)
    first = np.cumsum([0, *rows])
    tags = [np.arange(first[n], first[n + 1]) for n in range(CALLS)]
    requests = [rpc.tagged("tags", one) for one in tags]
    with serving(
        zoo, "tags", server={"services": services}, model={"instances": instances, **WAITING_ROOM}
    ) as server:
        answers = rpc.all_at_once(server.target, requests, connections=8 * services)
        assert Counter(answer.code for answer in answers) == {"OK": CALLS}
        merged, executors = 0, set()
        for answer, own in zip(answers, tags, strict=True):
            outputs = answer.outputs
            assert np.array_equal(outputs["tags"], own)
            assert len(set(outputs["batch"])) == 1, "the rows of one call ran in one batch"
            merged += int(outputs["batch"][0] > len(own))
            executors.add(int(outputs["pid"][0]))
        assert merged > CALLS // 2
        assert executors == set(server.workers())
        assert server.counted("runtime_requests_completed_total", "tags") == CALLS
        assert server.counted("runtime_requests_admitted_total", "tags") == CALLS


@pytest.mark.parametrize("marks", [1, 2])
def test_a_wrong_number_of_rows_fails_every_caller_of_the_batch_and_shows_nobody_anything(
    shared: Server, marks: int
) -> None:
    bad = rpc.tagged("wrong", [7_777_777] * 3 + [MARK] * marks)
    good = [rpc.tagged("wrong", [n] * (n % 7 + 1)) for n in range(500)]
    answers = rpc.all_at_once(shared.target, [bad, *good, bad])
    for answer in (answers[0], answers[-1]):
        assert answer.error is not None
        assert answer.code == "INTERNAL"
        assert answer.error.reason == "output_mismatch"
    for n, answer in enumerate(answers[1:-1]):
        if answer.error is None:
            assert answer.outputs["tags"].tolist() == [n] * (n % 7 + 1)
        else:
            assert answer.error.reason == "output_mismatch"
            assert not answer.message
            assert "7777777" not in answer.error.details


def test_calls_after_a_wrong_number_of_rows_are_fine(caller: rpc.Caller) -> None:
    assert caller.infer(rpc.tagged("wrong", [1, MARK])).code == "INTERNAL"
    assert caller.infer(rpc.tagged("wrong", [1, 2])).outputs["tags"].tolist() == [1, 2]
