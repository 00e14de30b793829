"""What a request costs beyond the model: ``python -m benchmarks.overhead [--quick] [--keep]``.

An identity model behind ``runtime serve`` is measured beside a bare completion-queue echo and a bare
grpc.aio echo, in turn, in one run: CPU per request of all the server's processes from the scheduler's own
accounting, and latency as h2load saw it. Servers run on the first core, the load on the others.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks import processes, results
from protos import open_inference_pb2 as pb
from store import ModelStore

METHOD = "/inference.GRPCInferenceService/ModelInfer"
SHAPES = {1: (1, 1), 16: (2, 8), 64: (4, 16), 256: (8, 32)}
"""In flight: connections and streams on each."""
SIZES = (64, 150_528)
SERVERS = ("runtime", "completion queue", "grpc.aio")


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement; times in microseconds for each request."""

    front: float
    worker: float
    rate: float
    p50: float
    p99: float

    @property
    def cpu(self) -> float:
        """All processes of the server."""
        return self.front + self.worker


@dataclass(frozen=True, slots=True)
class Running:
    """A server under test."""

    pid: int
    port: int


def pin(pid: int, *, first: bool) -> None:
    """Keep a process that has just started to the first core, or to the others."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, usable[:1] if first else usable[1:] or usable)


@contextlib.contextmanager
def started(command: list[str], pattern: str, environment: dict[str, str]) -> Iterator[Running]:
    """Run a server until the end of the block; its first line tells the port."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        pin(process.pid, first=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(pattern, line)
            if found is None:
                errors.seek(0)
                raise click.ClickException(f"{command[0]} did not start: {errors.read().decode()[-2000:]}")
            yield Running(process.pid, int(found[1]) if found.groups() else int(command[-1]))
        finally:
            process.terminate()
            process.wait(30)


def save_models(home: Path) -> None:
    """One identity model for each size of tensor."""
    import runtime

    for size in SIZES:
        runtime.python.save_model(
            f"identity{size}", identity, signatures={"__call__": {"batchable": True}},
            sample=(np.zeros((1, size), "f4"),), store=ModelStore(home / "models"),
        )  # fmt: skip


def identity(x: object) -> object:
    """The model."""
    return x


def body(folder: Path, size: int) -> Path:
    """A request as gRPC frames it."""
    request = pb.ModelInferRequest(model_name=f"identity{size}")
    request.inputs.add(name="x", datatype="FP32", shape=(1, size))
    request.raw_input_contents.append(np.random.default_rng(1).random(size, "f4").tobytes())
    data = request.SerializeToString()
    path = folder / f"request{size}"
    path.write_bytes(b"\0" + struct.pack(">I", len(data)) + data)
    return path


def load(port: int, request: Path, count: int, in_flight: int) -> tuple[float, list[int]]:
    """Send ``count`` requests; requests per second and every latency in microseconds."""
    connections, streams = SHAPES[in_flight]
    log = request.with_suffix(".log")
    log.unlink(missing_ok=True)
    command = ["h2load", "-n", str(count), "-c", str(connections), "-m", str(streams), "-w", "24", "-W", "28"]
    command += ["-d", str(request), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    command += [f"--log-file={log}", f"http://127.0.0.1:{port}{METHOD}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pin(process.pid, first=False)
    said, _ = process.communicate()
    if f"{count} succeeded" not in said:
        raise click.ClickException(f"calls failed:\n{said}")
    rate = re.search(r"([\d.]+) req/s", said)
    assert rate is not None
    return float(rate[1]), [int(line.split("\t")[2]) for line in log.read_text().splitlines()]


def measure(server: Running, request: Path, count: int, in_flight: int) -> Figures:
    """One measurement after a warm-up of a fifth of it."""
    load(server.port, request, max(count // 5, 50), in_flight)
    family = processes.family(server.pid)
    before = {pid: processes.cpu_seconds(pid) for pid in family}
    rate, latencies = load(server.port, request, count, in_flight)
    spent = {pid: (processes.cpu_seconds(pid) - before[pid]) / count * 1e6 for pid in family}
    worker = sum(cpu for pid, cpu in spent.items() if "runner.worker" in family[pid])
    latencies.sort()
    return Figures(
        sum(spent.values()) - worker,
        worker,
        rate,
        latencies[len(latencies) // 2],
        latencies[len(latencies) * 99 // 100],
    )


def median(runs: list[Figures]) -> Figures:
    """Median of each figure."""
    return Figures(
        *(
            statistics.median(getattr(run, name) for run in runs)
            for name in ("front", "worker", "rate", "p50", "p99")
        )
    )


def report(figures: dict[tuple[int, int, str], Figures]) -> str:
    """The tables."""
    rows = []
    for (size, in_flight, name), each in figures.items():
        bare, aio = figures[size, in_flight, "completion queue"].cpu, figures[size, in_flight, "grpc.aio"].cpu
        rows.append(
            [f"{size:,}", str(in_flight), name, f"{each.front:.0f}", f"{each.worker:.0f}", f"{each.cpu:.0f}",
             f"{each.cpu / bare:.2f}", f"{each.cpu / aio:.2f}", f"{each.rate:.0f}",
             f"{each.p50:.0f}", f"{each.p99:.0f}"]
        )  # fmt: skip
    header = ("floats", "in flight", "server", "front-end µs", "worker µs", "CPU µs/request", "÷ bare queue",
              "÷ grpc.aio", "requests/s", "p50 µs", "p99 µs")  # fmt: skip
    return results.table(header, rows)


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the requests, one round: to see that it works.")
@click.option("--rounds", default=5, show_default=True, help="Measurements of each case; the median counts.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Write the table to RESULTS.md.")
def main(quick: bool, rounds: int, keep: bool) -> None:
    """Measure the overhead of a request beside two bare echo servers."""
    if shutil.which("h2load") is None:
        raise click.ClickException("h2load is needed: apt-get install nghttp2-client")
    rounds = 1 if quick else rounds
    collected: dict[tuple[int, int, str], list[Figures]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        save_models(home)
        environment = {"RUNTIME_HOME": folder}
        serve = ["runtime.cli.main", "serve", "--port", "0", "--http-port", "0", "--drain-delay-ms", "0"]
        commands = {
            "runtime": (serve, r"grpc=127\.0\.0\.1:(\d+)"),
            "completion queue": (["benchmarks.echo", "completion_queue", "18111"], "ready"),
            "grpc.aio": (["benchmarks.echo", "aio", "18112"], "ready"),
        }
        servers = {
            name: stack.enter_context(started(*command, environment)) for name, command in commands.items()
        }
        cases = [(size, in_flight) for size in SIZES for in_flight in SHAPES]
        total = rounds * len(cases) * len(SERVERS)
        with click.progressbar(length=total, label="measuring", file=sys.stderr) as bar:
            for _ in range(rounds):
                for size, in_flight in cases:
                    count = (20_000 if in_flight > 1 else 4_000) if size == SIZES[0] else 1_000
                    for name in SERVERS:
                        figures = measure(
                            servers[name], body(home, size), count // 10 if quick else count, in_flight
                        )
                        collected.setdefault((size, in_flight, name), []).append(figures)
                        bar.update(1)
    text = report({key: median(runs) for key, runs in collected.items()})
    click.echo(text)
    if keep and not quick:
        versions = results.fingerprint("grpcio", "protobuf", "numpy")
        about = f"`python -m benchmarks.overhead`, median of {rounds} rounds. {versions}"
        results.keep("Overhead of a request", f"{about}\n\n{text}")


if __name__ == "__main__":
    main()
