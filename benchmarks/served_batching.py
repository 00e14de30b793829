"""The batching policy, served: ``python -m benchmarks.served_batching [--short] [--keep] [--json FILE]``.

Models that sleep are behind ``runtime serve`` on the first core; the load comes from the others. Each demand
of the policy is one line with its bar, what was measured, and a verdict. The bars are those of the simulation
(``python -m benchmarks.batching``) with five points more slack, for processes, the interpreter and timers
take time; times are those of the simulated models, doubled. A reference is the same server that never holds
a batch; it is measured in turn with ours under the same arrivals, and medians of ratios count.

What the simulation demands of models faster than a Python client, and against other policies, is left to it.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks import results
from benchmarks.served import classes, cost, deadlines, overload, start, throughput
from benchmarks.served.bar import Row, line, table
from benchmarks.served.bench import Bench
from benchmarks.served.plan import Plan

SHARED = (
    throughput.open_loop, throughput.closed_loop, deadlines.in_time, deadlines.cost_step, deadlines.load_step,
    classes.shapes, classes.sizes, classes.priorities, cost.decisions, overload.overload, overload.expiry,
    cost.idle,
)  # fmt: skip
ALONE = (start.profiles, start.cold)
"""These start servers of their own."""
NAMES = ", ".join(measure.__name__ for measure in (*SHARED, *ALONE))


def measured(folder: Path, plan: Plan, only: set[str]) -> Iterator[Row]:
    """Carry out the measurements, one server for most of them."""
    bench = Bench(folder)
    names = [name for part in (throughput, deadlines, classes, overload) for name in part.add(bench)]
    start.add(bench)
    shared = [measure for measure in SHARED if not only or measure.__name__ in only]
    if shared:
        with bench.serving(*names):
            for measure in shared:
                yield from measure(bench, plan)
    for measure in ALONE:
        if not only or measure.__name__ in only:
            yield from measure(bench, plan)


@click.command()
@click.option("--short", is_flag=True, help="A little of everything: to see that it works.")
@click.option("--only", default="", help=f"Some measurements, with commas: {NAMES}.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows there.")
@click.option("--keep", is_flag=True, help="Write the table to RESULTS.md.")
def main(short: bool, only: str, path: Path | None, keep: bool) -> None:
    """Hold the served batching policy against its bar; exit status 1 if it fails."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server goes with us
    begun = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory(prefix="served-") as folder:
        for row in measured(Path(folder), Plan(short=short), set(filter(None, only.split(",")))):
            rows.append(row)
            click.echo(line(row), err=True)
    about = f"`python -m benchmarks.served_batching`, {time.monotonic() - begun:.0f} s"
    text = f"{about}. {results.fingerprint('grpcio', 'numpy')}\n\n{table(rows)}"
    click.echo(text)
    if path:
        path.write_text(json.dumps([row.to_dict() for row in rows], indent=1))
    if keep and not short and not only:
        results.keep("Adaptive batching, served", text)
    sys.exit(not all([row.passed for row in rows]))


if __name__ == "__main__":
    main()
