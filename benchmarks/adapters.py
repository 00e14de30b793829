"""What an adapter costs beyond its framework: ``python -m benchmarks.adapters [--quick] [--only NAMES]``.

A method of a small saved model, as a worker calls it, is measured beside the quickest direct call of the same
loaded model: in one process of one thread for each adapter, in short turns, medians of turns and of their
ratios. Both take and give numpy arrays.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click

from benchmarks import adapter_cases, results

ROWS = (1, 32)
TURN_NS = 1_000_000
WARM_UP = 30
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = (
    "numpy",
    "torch",
    "onnxruntime",
    "tensorflow-cpu",
    "jax",
    "xgboost-cpu",
    "lightgbm",
    "transformers",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One adapter at one batch size; times of one call in microseconds."""

    adapter: str
    rows: int
    direct: float
    method: float
    beyond: float
    ratio: float


def turn(call: Callable[[], object], count: int) -> float:
    """Return microseconds for one call, of so many."""
    begun = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - begun) / count / 1000


def compare(direct: Callable[[], object], method: Callable[[], object], turns: int) -> tuple[float, ...]:
    """Return the medians of both, of their differences and of their ratios."""
    turn(direct, WARM_UP), turn(method, WARM_UP)
    count = max(1, int(TURN_NS / 1000 / min(turn(direct, WARM_UP), turn(direct, WARM_UP))))
    pairs = [(turn(direct, count), turn(method, count)) for _ in range(turns)]
    columns = zip(*((one, other, other - one, other / one) for one, other in pairs), strict=True)
    return tuple(map(statistics.median, columns))


def measure(name: str, turns: int) -> list[Figures]:
    """Measure one adapter in this process."""
    from frameworks import LoadOptions, registry
    from store import ModelStore

    case = next(case for case in adapter_cases.CASES if case.adapter == name)
    found = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = case.save(ModelStore(Path(folder)))
        method = registry.adapter(name).open_methods(model, LoadOptions(threads=1))[case.method]
        direct = case.direct(model)
        for rows in ROWS:
            inputs = dict(case.inputs(rows))
            figures = compare(partial(direct, inputs), partial(method, inputs), turns)
            found.append(Figures(name, rows, *figures))
    return found


def measured_aside(name: str, turns: int) -> list[Figures]:
    """Measure one adapter in a process of its own, whose libraries have one thread."""
    command = [sys.executable, "-m", "benchmarks.adapters", "--child", name, "--turns", str(turns)]
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{name} could not be measured")
    return [Figures(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def table(figures: list[Figures]) -> str:
    """Return the figures, the adapters in their order."""
    header = ("adapter", "rows", "direct µs", "method µs", "beyond µs", "÷ direct")
    rows = [
        [
            one.adapter,
            str(one.rows),
            f"{one.direct:.1f}",
            f"{one.method:.1f}",
            f"{one.beyond:+.1f}",
            f"{one.ratio:.2f}",
        ]
        for one in figures
    ]
    return results.table(header, rows)


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the turns: to see that it works.")
@click.option("--only", default="", help="Some adapters, with commas.")
@click.option("--turns", default=500, show_default=True, help="Pairs of turns of each case.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Write the table to RESULTS.md.")
@click.option("--child", default="", hidden=True)
def main(quick: bool, only: str, turns: int, keep: bool, child: str) -> None:
    """Measure what adapters cost beyond their frameworks."""
    if child:
        click.echo(json.dumps([asdict(one) for one in measure(child, turns)]))
        return
    turns = turns // 10 if quick else turns
    wanted = set(filter(None, only.split(",")))
    figures: list[Figures] = []
    for case in adapter_cases.CASES:
        if not wanted or case.adapter in wanted:
            figures += measured_aside(case.adapter, turns)
            click.echo(f"{case.adapter} measured", err=True)
    text = table(figures)
    click.echo(text)
    if keep and not quick and not wanted:
        about = f"`python -m benchmarks.adapters`, medians of {turns} turns, one thread."
        results.keep("Adapters", f"{about} {results.fingerprint(*PACKAGES)}\n\n{text}")


if __name__ == "__main__":
    main()
