"""10,000 requests that were damaged at random: each gets a proper status, and nobody else notices."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np

from protos import open_inference_pb2 as pb
from tests.support import rpc
from tests.support.rpc import Answer, Caller
from tests.support.server import Server

REQUESTS = 10_000
PROPER = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"}
NUMBERS = (
    -1,
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    (1 << 63) - 1,
    -(1 << 63),
)
WORDS = (
    "",
    "x",
    "nobody",
    "scaled",
    "strict",
    "plain",
    "FP32",
    "INT64",
    "BYTES",
    "BF16",
    "predict",
    "\0",
    "é" * 300,
)


def seeds() -> list[pb.ModelInferRequest]:
    """Valid requests of every kind."""
    floats = np.arange(12, dtype=np.float32).reshape(3, 4)
    typed = pb.ModelInferRequest(
        model_name="plain",
        inputs=[
            {"name": "a", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1, 2]}},
            {"name": "b", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"a", b"bc"]}},
        ],
    )
    text = pb.ModelInferRequest(
        model_name="plain",
        inputs=[{"name": "s", "datatype": "BYTES", "shape": [1, 2]}],
        raw_input_contents=[b"\x01\0\0\0a\x02\0\0\0bc"],
        parameters={"binary_data_output": pb.InferParameter(bool_param=False)},
    )
    method = {"method": pb.InferParameter(string_param="total")}
    return [
        rpc.message("scaled", {"x": floats}, parameters=method, outputs=[{"name": "sum"}], id="seven"),
        rpc.message("strict", {"tags": np.arange(5)}),
        rpc.message("plain", {"a": np.zeros((2, 0), np.int8), "b": np.array(1.5)}),
        typed,
        text,
    ]


class Damage:
    """Damages requests, reproducibly."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def requests(self, count: int) -> Iterator[bytes]:
        """Damaged requests: half by field, a third by byte, the rest noise."""
        valid = seeds()
        for _ in range(count):
            request = pb.ModelInferRequest.FromString(self._random.choice(valid).SerializeToString())
            kind = self._random.random()
            if kind < 0.5:
                for _ in range(self._random.randint(1, 3)):
                    self._fields(request)
                yield request.SerializeToString()
            elif kind < 0.9:
                yield self._bytes(bytearray(request.SerializeToString()))
            else:
                yield self._random.randbytes(self._random.randint(0, 200))

    def _bytes(self, data: bytearray) -> bytes:
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(data)) if data else 0
            match self._random.randrange(4):
                case 0:
                    data[at : at + 1] = self._random.randbytes(1)
                case 1:
                    del data[at : at + self._random.randint(1, 8)]
                case 2:
                    data[at:at] = self._random.randbytes(self._random.randint(1, 8))
                case _:
                    data[at:at] = data[: self._random.randint(0, 40)]
        return bytes(data)

    def _fields(self, request: pb.ModelInferRequest) -> None:
        choose = self._random.choice
        tensor = choose(request.inputs) if request.inputs else request.inputs.add()
        match self._random.randrange(10):
            case 0:
                tensor.shape[:] = [choose(NUMBERS) for _ in range(self._random.randint(0, 4))]
            case 1:
                tensor.shape.append(choose(NUMBERS))
            case 2:
                tensor.datatype = choose(WORDS)
            case 3:
                tensor.name = choose(WORDS)
            case 4:
                request.model_name = choose(WORDS)
            case 5:
                request.model_version = choose(WORDS)
            case 6:
                request.parameters[choose(WORDS)].int64_param = choose(NUMBERS)
            case 7:
                request.outputs.add(name=choose(WORDS))
            case 8:
                request.raw_input_contents.append(self._random.randbytes(self._random.randint(0, 50)))
            case _:
                tensor.contents.int_contents.append(choose(NUMBERS[:11]))


def test_10_000_damaged_requests_get_proper_statuses_and_hurt_nobody(shared: Server) -> None:
    before = shared.pids()
    damaged = list(Damage(20_240_607).requests(REQUESTS))
    neighbours: list[Answer] = []
    stop = threading.Event()

    def neighbour() -> None:
        with Caller(shared.target) as caller:
            while not stop.is_set():
                neighbours.append(caller.infer(rpc.tagged("tags", [len(neighbours)] * 3)))

    thread = threading.Thread(target=neighbour)
    thread.start()
    answers: list[Answer] = []
    try:
        for first in range(0, REQUESTS, 1000):
            answers += rpc.all_at_once(shared.target, damaged[first : first + 1000], connections=2)
    finally:
        stop.set()
        thread.join()
    improper = [
        (request, a.error) for request, a in zip(damaged, answers, strict=True) if a.code not in PROPER
    ]
    assert improper == []
    counts = Counter(answer.code for answer in answers)
    assert counts["INVALID_ARGUMENT"] > REQUESTS // 2
    assert counts["OK"] > 100
    refusals = [a.error for a in answers if a.error and a.code in {"INVALID_ARGUMENT", "NOT_FOUND"}]
    unnamed = [error for error in refusals if not error.violations]
    assert unnamed == []
    assert [answer.outputs["tags"].tolist() for answer in neighbours] == [
        [n] * 3 for n in range(len(neighbours))
    ]
    assert shared.pids() == before
