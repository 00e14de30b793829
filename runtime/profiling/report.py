"""Results for people and for spreadsheets: aligned tables and CSV. Pure: records in, text out.

Percentiles come from merged histograms. Response times count from the intended send; the service time, from
the actual send, is shown beside the p99 so that a generator or a server that fell behind is visible.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.clock import MILLISECOND
from runtime.profiling.breakdown import STAGES
from runtime.profiling.intervals import percentile_interval
from runtime.profiling.records import PERCENTILES, Load, Outcome, Run

Interval = tuple[float, float]
"""Lower and upper end."""


def point_name(run: Run) -> str:
    """Return what was varied, in a few words: ``open 200/s poisson, rows=4``."""
    return ", ".join([load_name(run.load), *label_words(run.labels)])


def label_words(labels: Mapping[str, Any]) -> list[str]:
    """Return ``key=value`` for each label; those that are merely set, by their name."""
    return [key if value is True else f"{key}={value}" for key, value in labels.items()]


def load_name(load: Load) -> str:
    """Return a load in a few words."""
    if load.mode == "closed":
        return f"closed {load.concurrency}"
    if load.arrivals == "trace":
        return f"open trace of {len(load.trace)}"
    burst = f" of {load.burst}" if load.arrivals == "burst" else ""
    return f"open {load.rate:g}/s {load.arrivals}{burst}"


def tail_interval(run: Run, percent: float = 99.0) -> Interval | None:
    """Return the 95 % interval of a percentile of the response time, in ms; None without answers.

    The upper end is infinite when the run is too short to bound it.
    """
    found = percentile_interval([window.response for window in run.windows], percent)
    return None if found is None else (found.low / MILLISECOND, found.high / MILLISECOND)


def tables(runs: Sequence[Run], verdicts: Sequence[Mapping[str, str]] = ()) -> str:
    """Return the whole report.

    Args:
        runs: the operating points, in the order in which they are shown.
        verdicts: of each point, as ``Verdict.to_dict`` gives them; may be left out.
    """
    if not runs:
        return "nothing was measured"
    parts = [
        _section("Response time (from the intended send), ms", _latency(runs)),
        _section("Requests", _outcomes(runs)),
        _section("Server side: mean of a request, ms", _server(runs)),
        _section("Batches: rows x executions", _batches(runs)),
        _section("Bottleneck", _bottlenecks(runs, verdicts)),
        *_warnings(runs),
    ]
    return "\n\n".join(part for part in parts if part)


def to_csv(runs: Sequence[Run]) -> str:
    """Return one line per operating point; empty cells where nothing is known."""
    rows = [csv_row(run) for run in runs]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_row(run: Run) -> dict[str, Any]:
    """Return the figures of a point by column name; milliseconds and requests per second."""
    total, load, interval = run.total, run.load, tail_interval(run)
    row: dict[str, Any] = {
        "mode": load.mode,
        "concurrency": load.concurrency if load.mode == "closed" else "",
        "rate": load.rate if load.mode == "open" else "",
        "arrivals": load.arrivals if load.mode == "open" else "",
        **run.labels,
        **{name: _rounded(value) for name, value in run.summary().items()},
        "p99_low_ms": _rounded(interval[0]) if interval else "",
        "p99_high_ms": _rounded(interval[1]) if interval and math.isfinite(interval[1]) else "",
        "service_p50_ms": _rounded(total.service.percentile(50) / MILLISECOND),
        "service_p99_ms": _rounded(total.service.percentile(99) / MILLISECOND),
        "slip_p99_ms": _rounded(total.slip.percentile(99) / MILLISECOND),
        "generator_cpu_us": _rounded(total.cpu_ns / total.requests / 1000) if total.requests else "",
        "valid": not run.invalid,
        "invalid": "; ".join(run.invalid),
    }
    if run.server:
        row |= {f"server_{name}_ms": _rounded(value) for name, value in run.server["mean_ms"].items()}
        row |= {
            "server_executions": run.server["executions"],
            "mean_batch_rows": _rounded(run.server["mean_rows"]),
        }
    return row


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns two spaces apart, the first to the left and the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def number(value: float) -> str:
    """Return a figure with three or more significant digits: ``0.123``, ``12.3``, ``1235``."""
    size = abs(value)
    return f"{value:.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.{_digits(size)}f}"


def _digits(size: float) -> int:
    return 2 if size >= 1 or size == 0 else 3


def _section(title: str, body: str) -> str:
    return f"{title}\n{body}" if body else ""


def _latency(runs: Sequence[Run]) -> str:
    with_slo = any(run.late_slo_ms for run in runs)
    header = ["point", "offered/s", "achieved/s", *(["goodput/s"] if with_slo else [])]
    header += [f"p{percent:g}" for percent in PERCENTILES] + ["max", "p99 95 % interval", "service p99"]
    rows = []
    for run in runs:
        figures, interval = run.summary(), tail_interval(run)
        offered = number(figures["offered"]) if run.load.mode == "open" else "-"
        row = [_marked(run), offered, number(figures["achieved"])]
        row += [number(figures["goodput"])] if with_slo else []
        row += [number(figures[f"p{percent:g}_ms"]) for percent in PERCENTILES]
        row += [number(figures["max_ms"]), _shown(interval)]
        rows.append([*row, number(run.total.service.percentile(99) / MILLISECOND)])
    return grid(header, rows)


def _outcomes(runs: Sequence[Run]) -> str:
    with_slo = any(run.late_slo_ms for run in runs)
    header = ["point", *(outcome.name.lower() for outcome in Outcome), *(["late"] if with_slo else [])]
    rows = []
    for run in runs:
        total = run.total
        late = [str(total.late(run.late_slo_ms))] if with_slo else []
        rows.append([_marked(run), *map(str, total.counts), *late, number(run.summary()["rows_per_s"])])
    return grid([*header, "rows/s"], rows)


def _server(runs: Sequence[Run]) -> str:
    rows = [
        [_marked(run), *(number(run.server["mean_ms"].get(stage, 0.0)) for stage in STAGES),
         number(run.server["mean_ms"]["total"]), number(run.server["mean_rows"])]
        for run in runs if run.server
    ]  # fmt: skip
    return grid(["point", *STAGES, "server total", "rows/batch"], rows) if rows else ""


def _batches(runs: Sequence[Run]) -> str:
    lines = [
        f"{_marked(run)}: " + "  ".join(f"{rows}x{count}" for rows, count in run.server["batches"].items())
        for run in runs
        if run.server and run.server["batches"]
    ]
    return "\n".join(lines)


def _bottlenecks(runs: Sequence[Run], verdicts: Sequence[Mapping[str, str]]) -> str:
    return "\n".join(
        f"{_marked(run)}: {verdict['bottleneck']} ({verdict['reason']})"
        for run, verdict in zip(runs, verdicts, strict=False)
    )


def _warnings(runs: Sequence[Run]) -> list[str]:
    return [f"INVALID {point_name(run)}: {reason}" for run in runs for reason in run.invalid]


def _marked(run: Run) -> str:
    return f"{point_name(run)} INVALID" if run.invalid else point_name(run)


def _shown(interval: Interval | None) -> str:
    """Return both ends; an open one when the run was too short."""
    if interval is None:
        return "-"
    low, high = interval
    return f"{number(low)}..{number(high)}" if math.isfinite(high) else f"{number(low)}.."


def _rounded(value: float) -> float:
    return round(value, 4)
