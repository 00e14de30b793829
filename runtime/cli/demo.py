"""``runtime demo``: train, save, serve, call and measure, offline and within a minute."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from runtime.cli.common import cleaning_up_on_terminate, echo_json

if TYPE_CHECKING:
    from runtime.cli.demo_load import Batches, Tally
    from runtime.cli.demo_model import Prepared
    from runtime.cli.demo_server import ServerProcess

CALLERS: Final = 64
ALONE_S: Final = 1.5
TOGETHER_S: Final = 4.0
WANTED_ACCURACY: Final = 0.95

_BAR: Final = 40


class Measured(NamedTuple):
    """One caller alone, then many at once, and the batches that were executed for the many."""

    alone: Tally
    together: Tally
    batches: Batches


@click.command()
@click.option("--keep", is_flag=True, help="Go on serving until ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="gRPC port.  [a free one]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def demo(keep: bool, port: int, as_json: bool) -> int:
    """Train a small classifier, save it, serve it, call it, show the figures. Needs no network.

    Fails when a call fails or the accuracy is not over 0.95.
    """
    with cleaning_up_on_terminate(), tempfile.TemporaryDirectory(prefix="runtime-demo-") as name:
        return _demo(Path(name), keep=keep, port=port, as_json=as_json)


def _demo(folder: Path, *, keep: bool, port: int, as_json: bool) -> int:
    from runtime.cli.demo_model import prepare
    from runtime.cli.demo_server import ServerProcess
    from store import ModelStore

    _say("training a random forest on real handwritten digits")
    store = ModelStore(folder / "models")
    prepared = prepare(store)
    _say(f"saved {prepared.model!r}, trained on {prepared.trained_on} images; starting the server")
    flags = ["--port", str(port), "--http-port", "0", "--drain-delay-ms", "0", "--grace-ms", "5000"]
    with ServerProcess(folder, store.root, flags) as server:
        measured = _measure(server, prepared)
        report = _report(prepared, measured)
        if as_json:
            echo_json(report)
        else:
            click.echo(_text(report))
        if keep:
            return _keep(server, prepared, folder)
        _say("stopping the server")
        stopped = server.stop()
    return verdict(measured, stopped)


def _measure(server: ServerProcess, prepared: Prepared) -> Measured:
    import asyncio

    from runtime.cli import demo_load as load
    from runtime.cli.demo_model import INPUT, NAME, SEED

    questions = load.Questions(
        model=NAME, input=INPUT, images=prepared.images, labels=prepared.labels, seed=SEED
    )
    _say(f"serving on {server.url}; one caller for {ALONE_S:g} s")
    alone = asyncio.run(load.ask(server.url, questions, callers=1, seconds=ALONE_S))
    before = load.read_batches(server.http)
    _say(f"{CALLERS} callers for {TOGETHER_S:g} s, 1 to {load.MAX_ROWS} rows a request")
    together = asyncio.run(load.ask(server.url, questions, callers=CALLERS, seconds=TOGETHER_S))
    return Measured(alone, together, load.read_batches(server.http).since(before))


def _report(prepared: Prepared, measured: Measured) -> dict[str, Any]:
    alone, together, batches = measured
    return {
        "model": str(prepared.model.tag),
        "accuracy": round(together.accuracy, 4),
        "images": len(prepared.labels),
        "callers": CALLERS,
        "requests": together.requests,
        "rows": together.rows,
        "failed": len(alone.failures) + len(together.failures),
        "requests_per_s": round(together.rate, 1),
        "requests_per_s_alone": round(alone.rate, 1),
        "response_time_ms": {name: round(value, 2) for name, value in together.percentiles_ms().items()},
        "batches": {
            "count": batches.total,
            "mean_rows": round(batches.mean_rows, 2),
            "by_rows": [
                {"at_most": bound, "count": count}
                for bound, count in zip(batches.bounds, batches.counts, strict=True)
            ],
        },
    }


def _text(report: dict[str, Any]) -> str:
    """Return the report for people."""
    gain = (
        report["requests_per_s"] / report["requests_per_s_alone"] if report["requests_per_s_alone"] else 0.0
    )
    times = "  ".join(f"{name} {value:.2f}" for name, value in report["response_time_ms"].items())
    batches = report["batches"]
    lines = [
        f"model          {report['model']}",
        f"accuracy       {report['accuracy']:.4f} over gRPC, on {report['images']} images it has not seen",
        f"requests       {report['requests']} ({report['rows']} rows), {report['failed']} failed",
        f"throughput     {report['requests_per_s']:.0f} requests/s from {report['callers']} callers, "
        f"{report['requests_per_s_alone']:.0f} from one: {gain:.1f} times",
        f"response time  {times} ms",
        f"batches        {batches['count']}, {batches['mean_rows']:.1f} rows each on average",
    ]
    return "\n".join([*lines, *bars(batches["by_rows"])])


def bars(by_rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line for each size of batch that occurred."""
    most = max((entry["count"] for entry in by_rows), default=0)
    low = 1
    for entry in by_rows:
        high = entry["at_most"]
        label = (
            f"over {low - 1}" if high == float("inf") else f"{low}" if high <= low else f"{low}-{high:.0f}"
        )
        if entry["count"]:
            bar = "#" * max(1, round(_BAR * entry["count"] / most))
            yield f"  {label:>9} rows  {entry['count']:>6}  {bar}"
        if high != float("inf"):
            low = int(high) + 1


def _keep(server: ServerProcess, prepared: Prepared, folder: Path) -> int:
    """Go on serving until somebody has enough; fails if the server ends by itself."""
    import numpy as np

    example = folder / "digits.npy"
    np.save(example, prepared.images[:3])
    click.echo(
        f"\nserving on {server.url}, metrics on http://{server.http}/metrics; ctrl-C ends it. Call it:\n\n"
        f"  runtime infer digits --input X=@{example} --url {server.url}\n\n"
        f"the digits on these images are {prepared.labels[:3].tolist()}"
    )
    try:
        return server.wait() or 1
    except KeyboardInterrupt:
        return server.stop()


def verdict(measured: Measured, stopped: int) -> int:
    """Say what went wrong, if something did, and return the exit code."""
    failures = [*measured.alone.failures, *measured.together.failures]
    accuracy = measured.together.accuracy
    if failures:
        _say(f"failed: {len(failures)} calls failed, the first with {failures[0]}")
    if accuracy <= WANTED_ACCURACY:
        _say(f"failed: the accuracy is {accuracy:.4f}, not over {WANTED_ACCURACY}")
    if stopped:
        _say(f"failed: the server ended with exit code {stopped}")
    return int(bool(failures) or accuracy <= WANTED_ACCURACY or stopped != 0)


def _say(text: str) -> None:
    click.echo(f"demo: {text}", err=True)
