"""Play the bar: ``python -m benchmarks.batching [--short] [--only N] [--json FILE] [--keep]``.

Exits with 1 if the policy misses a point. Virtual time: the figures are the same on every machine, except
what a decision costs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks import results
from benchmarks.batching import cost, tables
from benchmarks.batching.bar import POINTS
from benchmarks.batching.cases import Table
from benchmarks.batching.verdict import Verdict

SECTION = "Adaptive batching, simulated"


def play(
    points: list[int], table: Table, costs: list[tuple[str, float]], *, short: bool
) -> Iterator[Verdict]:
    """All verdicts on some points; fills the table and the costs."""
    for point in points:
        if point == 8:
            costs += cost.measure(short=short)
            yield from cost.verdicts(costs)
        yield from POINTS[point](table, short)


def report(verdicts: list[Verdict], table: Table, costs: list[tuple[str, float]]) -> str:
    """The section of RESULTS.md."""
    rows = [[str(v.point), v.what, v.bar, v.measured, "pass" if v.passed else "**FAIL**"] for v in verdicts]
    parts = [
        f"`python -m benchmarks.batching`. {results.fingerprint('numpy')}",
        results.table(("point", "what", "bar", "measured", ""), rows),
        "CPU µs of the decisions about a request: "
        + "; ".join([f"{name} {value:.1f}" for name, value in costs])
        + ".",
        "Closed loop, answers per second (p50 in ms):",
        tables.closed_loop(table.played),
        "With deadlines, per cent of all requests answered in time:",
        tables.deadlines(table.played),
    ]
    return "\n\n".join(parts)


@click.command()
@click.option("--short", is_flag=True, help="A few cells and requests: seconds, to see that it works.")
@click.option("--only", multiple=True, type=click.IntRange(1, 9), help="A point; may be repeated.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the verdicts to a file.")
@click.option("--keep", is_flag=True, help="Write the tables to RESULTS.md; only of everything, not --short.")
def main(short: bool, only: tuple[int, ...], file: Path | None, keep: bool) -> None:
    """Simulate the adaptive batching policy beside others, and hold it to its bar."""
    if keep and (short or only):
        raise click.UsageError("--keep is for the whole bar")
    table = Table(short=short)
    costs: list[tuple[str, float]] = []
    verdicts: list[Verdict] = []
    for verdict in play(sorted(only) or [*POINTS], table, costs, short=short):
        verdicts.append(verdict)
        word = "pass" if verdict.passed else "FAIL"
        click.echo(f"{word}  {verdict.point}  {verdict.what}: {verdict.measured} ({verdict.bar})")
    for name, value in costs:
        click.echo(f"      8  {name}: {value:.1f} µs")
    if file:
        file.write_text(json.dumps([verdict._asdict() for verdict in verdicts], indent=1) + "\n")
    if keep:
        results.keep(SECTION, report(verdicts, table, costs))
    missed = sum(not verdict.passed for verdict in verdicts)
    click.echo(f"{len(verdicts) - missed} of {len(verdicts)} criteria hold")
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
