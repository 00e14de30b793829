"""What models may do with the memory of their inputs: keep it, and work in it."""

from __future__ import annotations

import threading

import numpy as np

from store import ModelStore
from tests.support import rpc
from tests.support.rpc import Caller
from tests.support.server import serving

LARGE = 200_000
"""Floats of one row: 1.6 MB, far above what travels inline."""


def request(model: str, value: float, floats: int) -> bytes:
    return rpc.message(model, {"x": np.full((1, floats), value)}).SerializeToString()


def test_a_model_that_keeps_its_inputs_never_sees_them_change(zoo: ModelStore) -> None:
    with serving(zoo, "keeper", server={"services": 2}, model={"max_batch_size": 4}) as server:
        requests = [request("keeper", n, LARGE if n % 3 else 10) for n in range(60)]
        for _ in range(2):
            answers = rpc.all_at_once(server.target, requests, connections=8)
            assert {answer.code for answer in answers} == {"OK"}
            assert {int(answer.outputs["changed"][0]) for answer in answers} == {0}
        assert max(int(answer.outputs["kept"][0]) for answer in answers) > 20
        assert [one["restarts"] for one in server.instances()] == [0]


def test_a_model_that_works_in_place_changes_nothing_else(caller: Caller) -> None:
    for floats in (10, LARGE):
        sent = np.arange(3.0 * floats).reshape(3, floats)
        outputs = caller.infer(rpc.message("in_place", {"x": sent}).SerializeToString()).outputs
        (result,) = outputs.values()
        assert np.array_equal(result, sent * 2 + 1)


def test_large_and_small_tensors_of_many_callers_do_not_mix(zoo: ModelStore) -> None:
    def call(first: int) -> None:
        with Caller(server.target) as caller:
            for n in range(first, first + 12):
                floats = LARGE // (n % 5 + 1) if n % 2 else 10
                (result,) = caller.infer(request("in_place", n, floats)).outputs.values()
                right.append(result.shape == (1, floats) and bool((result == 2 * n + 1).all()))

    right: list[bool] = []
    with serving(zoo, "in_place", server={"services": 2}, model={"instances": 2}) as server:
        threads = [threading.Thread(target=call, args=(100 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 96


def test_a_failed_large_batch_gives_its_memory_back(zoo: ModelStore) -> None:
    bad = np.zeros(100_000, np.int64)
    bad[0] = -1
    limits = {"max_batch_size": 65_536, "max_queued_rows": 1 << 20}
    with serving(zoo, "wrong", model=limits, transport={"max_message_bytes": 1 << 20}) as server:
        with Caller(server.target) as caller:
            wrong = rpc.tagged("wrong", bad[:60_000])
            assert {caller.infer(wrong).code for _ in range(50)} == {"INTERNAL"}
            assert caller.infer(rpc.tagged("wrong", np.arange(60_000))).code == "OK"
        assert "model_keeps_inputs" not in server.log
