"""Overload with deadlines, which the calls carry as tags, and how soon an expired call is answered."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any, Final

import grpc
import numpy as np

from benchmarks.served.bar import Row
from benchmarks.served.bench import COLUMNS, Bench, Timing
from benchmarks.served.plan import Plan
from protos import open_inference_pb2 as pb
from protos import service

INFER: Final = service.path("ModelInfer")
SLOW: Final = Timing(92, 1, 8)
"""Batches of 100 ms."""
DEADLINE_S: Final = 0.3
TIMES: Final = 4.0
LONG: Final = Timing(2_000, 0, 1)
"""One execution takes two seconds."""
ANSWER_MS: Final = 20.0
CALLS: Final = 40


def add(bench: Bench) -> list[str]:
    """Save the slow models."""
    bench.add("slow", SLOW, tags=True)
    bench.add("long", LONG)
    return ["slow", "long"]


def _request(model: str, tag: int, timeout_us: int = 0) -> bytes:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="INT64", shape=(1, COLUMNS))
    request.raw_input_contents.append(np.full(COLUMNS, tag, np.int64).tobytes())
    if timeout_us:
        request.parameters["timeout"].int64_param = timeout_us
    return request.SerializeToString()


def overload(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Four times the capacity: hardly a row is executed for nothing, and the capacity is used."""
    seconds = 3.0 if plan.short else 6.0
    begun = time.monotonic_ns()
    answers = asyncio.run(_offer(f"127.0.0.1:{bench.port}", TIMES * SLOW.capacity, 1.0 + seconds))
    since = begun + 1_000_000_000
    until = since + round(seconds * 1e9)
    ok = sum([code == "OK" for at, code in answers if since <= at < until])
    executed = [one for one in bench.executions("slow") if since <= one.begun_ns < until]
    rows = sum([one.rows for one in executed])
    expired = sum([tag < one.begun_ns for one in executed for tag in one.tags])
    late = sum([tag < one.ended_ns for one in executed for tag in one.tags])
    note = f"of {rows} rows in {len(executed)} batches; {late} ended too late"
    yield Row(
        "9",
        "4x overload, 300 ms: executed rows that had expired",
        100 * expired / max(1, rows),
        most=1,
        unit="%",
        note=note,
    )
    codes = sorted({code for _, code in answers})
    note = ", ".join([f"{code} {sum([one == code for _, one in answers])}" for code in codes])
    yield Row(
        "9", "4x overload, 300 ms: goodput ÷ capacity", ok / seconds / SLOW.capacity, 0.9, unit="x", note=note
    )


async def _offer(target: str, rate: float, seconds: float) -> list[tuple[int, str]]:
    """Offer independent calls; the instant and status of each answer."""
    chance = random.Random(1)
    answers: list[tuple[int, str]] = []
    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        method = channel.unary_unary(INFER)

        async def one() -> None:
            due = time.monotonic_ns() + round(DEADLINE_S * 1e9)
            code = await _code(method(_request("slow", due), timeout=DEADLINE_S))
            answers.append((time.monotonic_ns(), code))

        calls, at, end = [], time.monotonic(), time.monotonic() + seconds
        while (at := at + chance.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            calls.append(asyncio.create_task(one()))
        await asyncio.gather(*calls)
    return answers


def expiry(bench: Bench, plan: Plan) -> Iterator[Row]:
    """While one execution takes two seconds, calls expire that only the server knows to be late."""
    delays, codes = asyncio.run(_expire(f"127.0.0.1:{bench.port}"))
    note = ", ".join(sorted(codes))
    delays.sort()
    middle, last = delays[len(delays) // 2], delays[-1]
    yield Row(
        "9",
        f"{len(delays)} expired calls: answered after, median",
        middle,
        most=ANSWER_MS,
        unit=" ms",
        note=note,
    )
    yield Row(
        "9", f"{len(delays)} expired calls: answered after, max", last, most=ANSWER_MS, unit=" ms", note=note
    )


async def _expire(target: str) -> tuple[list[float], set[str]]:
    """Milliseconds from the end of its time to each call's answer, and the statuses."""
    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        method = channel.unary_unary(INFER)
        first = asyncio.create_task(_code(method(_request("long", 0))))
        await asyncio.sleep(0.2)

        async def one(number: int) -> tuple[float, str]:
            timeout_us = 50_000 + 35_000 * number
            due = time.monotonic_ns() + timeout_us * 1000
            code = await _code(method(_request("long", 0, timeout_us)))
            return (time.monotonic_ns() - due) / 1e6, code

        found = await asyncio.gather(*[one(number) for number in range(CALLS)])
        await first
    return [delay for delay, _ in found], {code for _, code in found}


async def _code(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"
