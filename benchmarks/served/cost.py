"""Point 8: what deciding costs, and that nothing ticks while nothing happens."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks import processes
from benchmarks.served.bar import Row
from benchmarks.served.bench import RESNET, Bench, poisson
from benchmarks.served.plan import Plan

SERVICE: Final = "runtime.service.process"
MOST_US: Final = 20.0
LOAD: Final = 0.6
WAKE_UPS: Final = 0.2


def decisions(bench: Bench, plan: Plan) -> Iterator[Row]:
    """CPU of the service process for each request, beside that of a server that never holds."""
    service = _service(bench)
    spent: dict[str, list[float]] = {"resnet": [], "resnet-greedy": []}
    noise = []
    for seed in range(plan.rounds):
        for name, found in spent.items():
            before = processes.cpu_seconds(service)
            measured = bench.load(name, poisson(LOAD * RESNET.capacity, plan.seconds(2), seed, 1000))
            offered = measured.total.offered * (measured.seconds + 0.5)
            found.append((processes.cpu_seconds(service) - before) / offered * 1e6)
            noise.append(measured.strangers)
    ours, greedy = (statistics.median(found) for found in spent.values())
    note = f"{ours:.0f} against {greedy:.0f} µs of the service process for a request, gRPC included"
    yield Row(
        "8",
        "a learned hold costs each request",
        ours - greedy,
        most=MOST_US,
        unit=" µs",
        note=note,
        strangers=statistics.median(noise),
    )


def idle(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Wake-ups of the service process in some idle seconds after a load.

    grpcio's wait for the next event ends every 200 ms, and gRPC's core has threads of its own; what batching
    does goes on in the other threads of Python, which are to sleep.
    """
    time.sleep(1.0)
    seconds = plan.seconds(5)
    before = _wake_ups(_service(bench))
    time.sleep(seconds)
    woken = {task: count - before.get(task, 0) for task, count in _wake_ups(_service(bench)).items()}
    core = sum([count for (name, _), count in woken.items() if name != "python"])
    *ours, grpcio = sorted([count for (name, _), count in woken.items() if name == "python"])
    note = f"beside these: grpcio's waiting thread {grpcio / seconds:.1f}, gRPC's core {core / seconds:.1f}"
    yield Row(
        "8", "wake-ups of the idle service process", sum(ours) / seconds, most=WAKE_UPS, unit="/s", note=note
    )


def _service(bench: Bench) -> int:
    return next(pid for pid, line in processes.family(bench.pid).items() if SERVICE in line)


def _wake_ups(pid: int) -> dict[tuple[str, str], int]:
    """Voluntary switches of each thread, by its name and id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        words = dict(
            line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line
        )
        found[words["Name"], task.name] = int(words["voluntary_ctxt_switches"])
    return found
