"""The result as one HTML file with plots, which opens anywhere: no server, no network, nothing to install.

The plotting library is an extra (``profile``), imported only here. Its script is written into the file, and
the file's own policy forbids the browser to load anything from elsewhere.
"""

from __future__ import annotations

import html
import importlib.util
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from frameworks.base import missing
from runtime.profiling import report
from runtime.profiling.breakdown import STAGES
from runtime.profiling.histogram import Histogram
from runtime.profiling.records import PERCENTILES, Run

LIBRARY: Final = "plotly"
EXTRA: Final = "profile"

MAX_STEPS: Final = 2000
"""Points of one distribution's curve; more cannot be told apart on a screen."""

_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
_STYLE: Final = """\
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.1em; margin-top: 2em; }
pre { overflow-x: auto; background: #f6f6f6; padding: 1em; font-size: 12.5px; }
table { border-collapse: collapse; font-size: 13px; } td, th { text-align: left; padding: 2px 1em 2px 0; }
.invalid { background: #fdecea; border-left: 4px solid #b3261e; padding: .6em 1em; }
.plot { height: 460px; }"""
_CONFIG: Final = {"displaylogo": False, "responsive": True}
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind people too. Source: Okabe and Ito, 2008."""

_DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash")

_QUANTILE_TICKS: Final = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)

Plot = tuple[str, str, Any]
"""Id, title and figure."""


def require() -> None:
    """Check that reports can be made here, before anything is measured for one.

    Raises:
        MissingFramework: the plotting library is not installed; the extra to install is named.
    """
    if importlib.util.find_spec(LIBRARY) is None:
        raise missing(LIBRARY, EXTRA)


def page(runs: Sequence[Run], document: Mapping[str, Any]) -> str:
    """Return the whole file.

    Args:
        runs: the operating points.
        document: the result file; its environment, command, model and verdicts are shown.

    Raises:
        MissingFramework: the plotting library is not installed.
    """
    require()
    from plotly.offline import get_plotlyjs

    title = html.escape(f"Profile of {document.get('model') or 'a server'}")
    warnings = "".join(
        f'<p class="invalid">INVALID {html.escape(report.point_name(run))}: {html.escape(reason)}</p>\n'
        for run in runs
        for reason in run.invalid
    )
    verdicts = (document.get("verdict") or {}).get("points", [])
    sections = "".join(_section(plot) for plot in _plots(runs))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{_STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>{title}</h1>
{warnings}<pre>{html.escape(report.tables(runs, verdicts))}</pre>
{sections}<h2>Environment</h2>
{_facts(document)}
</body>
</html>
"""


def _section(plot: Plot) -> str:
    name, title, figure = plot
    body = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=_CONFIG)
    return f'<h2>{html.escape(title)}</h2>\n<div class="plot">{body}</div>\n'


def _plots(runs: Sequence[Run]) -> Iterator[Plot]:
    if not runs:
        return
    yield "throughput", "Response time against throughput", _throughput(runs)
    yield "distribution", "Distribution of the response time", _distribution(runs)
    told = [run for run in runs if run.server]
    if told:
        yield "stages", "Where the time of the mean request goes", _stages(told)
        yield "batches", "Executed batches by rows", _batches(told)
    if any(run.timeline for run in runs):
        yield "timeline", "Over time: choose a point in the legend", _timeline(runs)


def _throughput(runs: Sequence[Run]) -> Any:
    """One line per percentile and setting; points of one setting differ in their load alone."""
    figure = _figure("answered OK per second", "response time, ms", log_y=True)
    settings: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        name = (run.load.mode, *(f"{key}={value}" for key, value in run.labels.items()))
        settings.setdefault(name, []).append(run)
    for dash, (name, members) in zip(itertools.cycle(_DASHES), settings.items(), strict=False):
        ordered = sorted(
            members, key=lambda run: run.load.concurrency if run.load.mode == "closed" else run.load.rate
        )
        summaries = [run.summary() for run in ordered]
        for colour, percent in zip(_COLOURS, PERCENTILES, strict=False):
            figure.add_scatter(
                x=[figures["achieved"] for figures in summaries],
                y=[figures[f"p{percent:g}_ms"] or None for figures in summaries],
                text=[report.point_name(run) for run in ordered],
                name=f"p{percent:g}",
                legendgroup=" ".join(name),
                legendgrouptitle_text=" ".join(name),
                mode="lines+markers",
                line={"dash": dash},
                marker={"color": colour, "symbol": ["x" if run.invalid else "circle" for run in ordered]},
                visible=True if percent in {50, 99} else "legendonly",
                hovertemplate="%{text}<br>%{x:.0f}/s, %{y:.3f} ms",
            )
    for limit in {run.late_slo_ms for run in runs if run.late_slo_ms}:
        figure.add_hline(y=limit, line_dash="dot")
        # On a logarithmic axis an annotation's place is the logarithm.
        figure.add_annotation(
            xref="paper", x=0, y=math.log10(limit), yshift=9, showarrow=False, text=f"SLO {limit:g} ms"
        )
    return figure


def _distribution(runs: Sequence[Run]) -> Any:
    """Each decade of the horizontal axis is one more nine, so that the tail takes half of the picture."""
    figure = _figure("share of requests answered within", "response time, ms", log_y=True)
    figure.update_xaxes(
        type="log",
        tickvals=[1 / (1 - share) for share in _QUANTILE_TICKS],
        ticktext=[f"{share * 100:g} %" for share in _QUANTILE_TICKS],
    )
    for index, run in enumerate(runs):
        total = run.total
        for histogram, dash, suffix in ((total.response, "solid", ""), (total.service, "dot", " (service)")):
            shares, values = tail(histogram)
            figure.add_scatter(
                x=shares,
                y=values,
                name=report.point_name(run) + suffix,
                mode="lines",
                line={"dash": dash, "shape": "hv", "color": _COLOURS[index % len(_COLOURS)]},
                visible=True if not suffix or len(runs) == 1 else "legendonly",
                hovertemplate="%{y:.3f} ms",
            )
    return figure


def tail(histogram: Histogram) -> tuple[list[float], list[float]]:
    """Return a distribution's curve: 1 / (1 - share) and milliseconds, the last at one request of all.

    The share of a step is that of the values below it, which is where a step begins.
    """
    steps = histogram.cdf()
    every = max(1, len(steps) // MAX_STEPS)
    shares, values, below = [], [], 0.0
    for index, (value, share) in enumerate(steps):
        if index % every == 0 or index == len(steps) - 1:
            shares.append(1 / max(1 - below, 1 / len(histogram)))
            values.append(max(value, 1) / 1e6)
        below = share
    return shares, values


def _stages(runs: Sequence[Run]) -> Any:
    figure = _figure("mean ms of a request", "")
    figure.update_layout(barmode="stack")
    names = [report.point_name(run) for run in runs]
    for colour, stage in zip(_COLOURS, STAGES, strict=False):
        figure.add_bar(
            x=[run.server["mean_ms"].get(stage, 0.0) for run in runs if run.server],
            y=names,
            name=stage,
            orientation="h",
            marker_color=colour,
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def _batches(runs: Sequence[Run]) -> Any:
    figure = _figure("rows of a batch", "executions")
    figure.update_xaxes(type="category", categoryorder="array")
    sizes = sorted({int(rows) for run in runs if run.server for rows in run.server["batches"]})
    for run in runs:
        counts = run.server["batches"] if run.server else {}
        figure.add_bar(
            x=[str(size) for size in sizes],
            y=[counts.get(str(size), 0) for size in sizes],
            name=report.point_name(run),
        )
    figure.update_xaxes(categoryarray=[str(size) for size in sizes])
    return figure


def _timeline(runs: Sequence[Run]) -> Any:
    """Rates to the left, times to the right; each point of the report is one group of the legend."""
    figure = _figure("s since the start", "per 100 ms, or in flight")
    figure.update_layout(
        yaxis2={"title": "ms", "overlaying": "y", "side": "right", "rangemode": "tozero"}, legend_x=1.1
    )
    lines = (("answered", 1, 1, "y"), ("not answered", 2, 1, "y"), ("in flight", 5, 1, "y"),
             ("p50, ms", 3, 1000, "y2"), ("p99, ms", 4, 1000, "y2"))  # fmt: skip
    for index, run in enumerate(runs):
        name = report.point_name(run)
        for colour, (what, column, divisor, axis) in zip(_COLOURS, lines, strict=False):
            figure.add_scatter(
                x=[row[0] / 1000 for row in run.timeline],
                y=[row[column] / divisor for row in run.timeline],
                name=what,
                legendgroup=name,
                legendgrouptitle_text=name,
                mode="lines",
                line={"color": colour, "width": 1.5},
                yaxis=axis,
                visible=True if not index else "legendonly",
            )
    return figure


def _figure(x: str, y: str, *, log_y: bool = False) -> Any:
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.update_layout(
        template="plotly_white",
        colorway=list(_COLOURS),
        height=440,
        margin={"l": 60, "r": 60, "t": 20, "b": 50},
        legend={"font": {"size": 11}},
        xaxis_title=x,
        yaxis_title=y,
    )
    if log_y:
        figure.update_yaxes(type="log")
    return figure


def _facts(document: Mapping[str, Any]) -> str:
    rows = {"command": " ".join(document.get("command") or []), **(document.get("environment") or {})}
    rows |= {f"model: {key}": value for key, value in (document.get("facts") or {}).items()}
    cells = "".join(
        f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(_plain(value))}</td></tr>\n"
        for key, value in rows.items()
    )
    return f"<table>\n{cells}</table>"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
