"""What the load generator itself costs: ``python -m benchmarks.generator [--keep]``.

A bare completion-queue echo is put under the same loads by both senders of the profiler, in turn, in one run.
The figure is the generator's own CPU time, all threads, for each request that was sent, answered and booked.
The bound is 60 us for the sender on grpcio's completion queue, in a closed loop of 64. At low rates of an
open loop each request wakes two threads, which is most of what is seen there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator

import click

from benchmarks import results
from runtime.profiling.engine import run
from runtime.profiling.recording import Deck, Payload
from runtime.profiling.records import Load, Run
from runtime.profiling.target import Target

BOUND_US = 60
PAYLOAD_BYTES = 330
LOADS = {
    "closed, 1": Load(mode="closed", concurrency=1, warm_up_s=0.5, duration_s=2),
    "closed, 16": Load(mode="closed", concurrency=16, warm_up_s=0.5, duration_s=2),
    "closed, 64": Load(mode="closed", concurrency=64, warm_up_s=0.5, duration_s=2),
    "open, 500/s": Load(mode="open", rate=500, warm_up_s=0.5, duration_s=2),
    "open, 4000/s": Load(mode="open", rate=4000, warm_up_s=0.5, duration_s=2),
}


@contextlib.contextmanager
def echo() -> Iterator[Target]:
    """Run the echo server until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.echo", "completion_queue", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield Target(url=f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def cpu_us(made: Run) -> float:
    """The generator's CPU for each request."""
    return made.total.cpu_ns / max(1, made.total.ok) / 1000


@click.command()
@click.option("--repeats", default=3, show_default=True, help="Measurements of each kind; medians are shown.")
@click.option("--keep", is_flag=True, help="Write the table to RESULTS.md.")
def main(repeats: int, keep: bool) -> None:
    """Measure what the load generator costs."""
    payloads = tuple(Payload(data=os.urandom(PAYLOAD_BYTES)) for _ in range(64))
    deck = Deck(payloads, tuple(range(len(payloads))))
    rows = []
    with echo() as target:
        for name, load in LOADS.items():
            runs: dict[str, list[Run]] = {"core": [], "public": []}
            for _ in range(repeats):
                for sender, made in runs.items():
                    made.append(run(target, load, deck, sender=sender))
            core, public = (statistics.median(map(cpu_us, made)) for made in runs.values())
            slip = statistics.median(made.total.slip.percentile(50) for made in runs["core"]) / 1000
            rows.append([name, f"{core:.0f}", f"{public:.0f}", f"{core / public:.2f}", f"{slip:.0f}"])
    header = ["load", "completion queue, us", "public API, us", "ratio", "median slip, us"]
    body = f"{results.table(header, rows)}\n\n{results.fingerprint('grpcio')}"
    print(body)
    if keep:
        results.keep("Load generator", body)
    closed = next(float(row[1]) for row in rows if row[0] == "closed, 64")
    sys.exit(closed > BOUND_US)


if __name__ == "__main__":
    main()
