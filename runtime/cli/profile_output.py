"""What ``runtime profile`` leaves behind: the table, the files, and the comparison of two results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from runtime.profiling.compare import Comparison, Report
    from runtime.profiling.intervals import Interval
    from runtime.profiling.store import Result

STDOUT: Final = "-"

BOUND_PERCENT: Final = 5.0
"""From where on a comparison without a bound of its own calls a change a regression."""


def check(options: Mapping[str, Any]) -> None:
    """Find out before measuring whether the files can be written.

    Raises:
        MissingFramework: the HTML report needs a library that is not installed.
        BadParameter: a folder is not there.
    """
    if options["html"]:
        from runtime.profiling import html

        html.require()
    for name in ("json", "csv", "html"):
        path = options[name]
        if path and str(path) != STDOUT and not Path(path).absolute().parent.is_dir():
            raise click.BadParameter(f"there is no folder {Path(path).parent}", param_hint=f"--{name}")


def emit(result: Result, notes: list[str], options: Mapping[str, Any]) -> None:
    """Write the files that were asked for, and the table unless JSON takes its place on stdout."""
    from runtime.profiling import html, report, store

    document = result.to_dict()
    text = json.dumps(document, indent=1, allow_nan=False)
    if options["json"] and str(options["json"]) != STDOUT:
        store.write(options["json"], text + "\n")
    if options["csv"]:
        store.write(options["csv"], report.to_csv(result.points))
    if options["html"]:
        store.write(options["html"], html.page(result.points, document))
    if str(options["json"]) == STDOUT:
        click.echo(text)
    else:
        click.echo(_text(result, notes))


def compare(first: Path, second: Path, fail_above: float | None, *, as_json: bool) -> int:
    """Print two results side by side.

    Returns:
        The exit code: 1 when there is a bound and a figure is worse by more than it, beyond doubt.

    Raises:
        InvalidInput: a file is no result, or they have no point in common.
    """
    from runtime.errors import InvalidInput
    from runtime.profiling import compare, environment, store

    a, b = store.read(first), store.read(second)
    try:
        report = compare.compare(a, b, bound_percent=fail_above or BOUND_PERCENT)
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    notes = [note for note in report.notes if note.startswith("only in ")]
    notes += [f"environment: {line}" for line in environment.differences(a["environment"], b["environment"])]
    failed = fail_above is not None and report.has_regressed
    if as_json:
        click.echo(json.dumps({**report.to_dict(), "notes": notes, "failed": failed}, indent=1))
    else:
        click.echo(compared(report, notes))
    return int(failed)


def compared(report: Report, notes: list[str]) -> str:
    """Return a comparison for people."""
    from runtime.profiling.report import grid

    header = ["point", "figure", "A", "B", "B/A", "interval of B/A", "verdict"]
    rows = [
        [
            one.point, one.metric, _figure(one.metric, one.a), _figure(one.metric, one.b),
            f"{one.ratio.value:.3f}" if one.ratio else "-", _ends(one), one.verdict.value,
        ]
        for one in report.comparisons
    ]  # fmt: skip
    return "\n".join([grid(header, rows), *notes])


def _text(result: Result, notes: list[str]) -> str:
    from runtime.profiling import report

    parts = [report.tables(result.points, result.verdicts)]
    if result.curve:
        rows = [[size, report.number(milliseconds)] for size, milliseconds in result.curve.items()]
        parts.append("Batching curve\n" + report.grid(["rows", "ms"], rows))
    if result.search:
        parts.append(_search(result.search))
    if result.facts:
        parts.append("Model\n" + "\n".join(f"{name}: {value}" for name, value in result.facts.items()))
    return "\n\n".join([*parts, *notes])


def _search(found: Mapping[str, Any]) -> str:
    goal = f"p{found['percentile']:g} within {found['limit_ms']:g} ms"
    rate = "no rate of the range keeps it" if found["rate"] is None else f"{found['rate']:g} requests/s"
    lines = [f"Highest rate with {goal}: {rate}", found["reason"]]
    lines += [
        f"at {one['factor']:g} of it ({one['rate']:g}/s) it {'keeps' if one['keeps'] else 'breaks'}"
        for one in found["confirmed"]
    ]
    return "\n".join(lines)


def _figure(metric: str, figure: Interval | None) -> str:
    """Return a figure in the unit that people expect: percentiles are in ns."""
    from runtime.profiling.report import number

    if figure is None:
        return "-"
    if metric.startswith("p") and metric[1:2].isdigit():
        return f"{number(figure.value / 1e6)} ms"
    return f"{figure.value:.2%}" if metric == "ok share" else f"{number(figure.value)}/s"


def _ends(one: Comparison) -> str:
    return f"{one.ratio.low:.3f}..{one.ratio.high:.3f}" if one.ratio else "-"
