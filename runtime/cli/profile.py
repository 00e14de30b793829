"""``runtime profile``: apply a load, say what came of it and what was the limit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from runtime.cli.common import PATH, cleaning_up_on_terminate, open_store, store_option

if TYPE_CHECKING:
    from runtime.cli.profile_measure import Measured
    from runtime.profiling.store import Result

_EXISTING: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_POSITIVE: Final = click.FloatRange(min=0, min_open=True)
_NOT_NEGATIVE: Final = click.FloatRange(min=0)
_COUNT: Final = click.IntRange(min=1)
_Command = TypeVar("_Command", bound=Callable[..., Any])

_TARGET_OPTIONS: Final = (
    click.option("--url", metavar="HOST:PORT", help="A running server.  [start one for MODEL]"),
    click.option("-m", "--model", "names", metavar="NAME[:VERSION][=WEIGHT]", multiple=True,
                 help="Model on the server; several are mixed by weight."),
    click.option("--method", help="Method of the model.  [its default]"),
    click.option("--http", metavar="HOST:PORT", help="HTTP port of a server of ours here: to watch its CPU."),
    click.option("--tls", is_flag=True, help="Use TLS."),
    click.option("--tls-ca", type=_EXISTING, metavar="FILE", help="Trust these authorities, PEM."),
    click.option("--tls-cert", type=_EXISTING, metavar="FILE", help="Show this certificate, PEM."),
    click.option("--tls-key", type=_EXISTING, metavar="FILE", help="Its private key, PEM."),
    click.option("--header", metavar="KEY=VALUE", multiple=True, help="Metadata of every call."),
)  # fmt: skip

_LOAD_OPTIONS: Final = (
    click.option("-c", "--concurrency", metavar="SWEEP", help="Closed loop: calls in flight.  [1,4,16,64]"),
    click.option("-r", "--rate", metavar="SWEEP", help="Open loop: requests per second."),
    click.option("--arrivals", type=click.Choice(["constant", "poisson", "burst"]),
                 help="Open loop: when requests are due.  [poisson]"),
    click.option("--burst", type=_COUNT, help="Requests of a burst."),
    click.option("--trace", type=_EXISTING, metavar="FILE", help="Open loop: one time in seconds a line."),
    click.option("--replay", type=_EXISTING, metavar="FILE", help="Open loop: recorded requests and times."),
    click.option("--rows", metavar="SWEEP|MIX", default="1", show_default=True,
                 help="Rows of a request; 1:0.8,4:0.2 mixes by weight."),
    click.option("--data", metavar="random|zeros|sample|FILE",
                 help="Values: made up, the model's sample, .npz or .json.  [sample if known, else random]"),
    click.option("--shape", metavar="NAME=N,N", multiple=True, help="Extents of an input of open shape."),
    click.option("--duration", type=_POSITIVE, default=10.0, show_default=True, help="Seconds that count."),
    click.option("--count", type=click.IntRange(min=0), default=0, help="End after so many requests."),
    click.option("--warm-up", type=_NOT_NEGATIVE, default=1.0, show_default=True, help="Seconds before."),
    click.option("--timeout-ms", type=_NOT_NEGATIVE, default=0.0, help="Deadline of each call.  [none]"),
    click.option("--max-in-flight", type=_COUNT, default=10_000, show_default=True,
                 help="Open loop: bound of one process; requests beyond are dropped."),
    click.option("--processes", type=_COUNT, default=1, show_default=True, help="Generator processes."),
    click.option("--seed", type=int, default=1, show_default=True, help="Of values and arrivals."),
)  # fmt: skip

_GOAL_OPTIONS: Final = (
    click.option("--slo-ms", type=_POSITIVE, help="Response time that answers should keep: counts goodput."),
    click.option("--percentile", type=click.FloatRange(0, 100, min_open=True, max_open=True), default=99.0,
                 show_default=True, help="Of the response time, for the limit."),
    click.option("--search", is_flag=True,
                 help="Find the highest rate that keeps the limit; --rate LOW:HIGH bounds it."),
    click.option("--resolution", type=click.FloatRange(0.002, 0.5), default=0.02, show_default=True,
                 help="Relative width at which the search ends."),
    click.option("--stability", type=_POSITIVE, metavar="PERCENT",
                 help="Measure windows until the last three agree so closely."),
    click.option("--window-ms", type=_POSITIVE, default=5000.0, show_default=True,
                 help="Length of such a window."),
    click.option("--window-requests", type=click.IntRange(min=0), default=0, help="Or its requests."),
    click.option("--max-trials", type=_COUNT, default=10, show_default=True, help="Most windows."),
)  # fmt: skip

_OWN_OPTIONS: Final = (
    click.option("--instances", metavar="SWEEP", help="Without --url: loaded copies of the model."),
    click.option("--max-batch-size", metavar="SWEEP", help="Without --url: most rows executed together."),
    click.option("--services", type=_COUNT, help="Without --url: front-end processes."),
    click.option("--curve/--no-curve", default=True, show_default=True,
                 help="Without --url: measure the batching curve too."),
    click.option("--save/--no-save", default=True, show_default=True,
                 help="Without --url: keep the result with the model."),
    store_option,
)  # fmt: skip

_OUTPUT_OPTIONS: Final = (
    click.option("--json", type=PATH, metavar="FILE|-", help="Write the whole result; - for stdout."),
    click.option("--csv", type=PATH, metavar="FILE", help="Write one line a point."),
    click.option("--html", type=PATH, metavar="FILE", help="Write a report with plots."),
    click.option("--compare", type=_EXISTING, nargs=2, metavar="A.json B.json",
                 help="Compare two results; no load."),
    click.option("--fail-above", type=_POSITIVE, metavar="PERCENT",
                 help="With --compare: exit with 1 when B is worse by more, beyond doubt."),
)  # fmt: skip


def _with(*groups: tuple[Callable[[Any], Any], ...]) -> Callable[[_Command], _Command]:
    """Add groups of options; help shows them in this order."""

    def decorate(command: _Command) -> _Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


@click.command()
@click.argument("model", required=False)
@_with(_TARGET_OPTIONS, _LOAD_OPTIONS, _GOAL_OPTIONS, _OWN_OPTIONS, _OUTPUT_OPTIONS)
def profile(model: str | None, **options: Any) -> int:
    """Measure a model: how fast, how late, and what is the limit.

    MODEL is a saved model, for which a server is started, or with --url a model on any server of the Open
    Inference Protocol. A SWEEP is a list and ranges: 1,2,4 or 100:1000:100 or 1:64:x2.

    Response times count from the instant at which a request was due, so that a stall of the server is seen.
    A run in which the load generator was the limit is marked INVALID.
    """
    from runtime.cli import profile_output

    if options["compare"]:
        first, second = options["compare"]
        as_json = str(options["json"]) == profile_output.STDOUT
        return profile_output.compare(first, second, options["fail_above"], as_json=as_json)
    names = (*((model,) if model else ()), *options["names"])
    if not names and not options["replay"]:
        raise click.UsageError("name a MODEL, or two results with --compare")
    if options["fail_above"]:
        raise click.UsageError("--fail-above needs --compare")
    profile_output.check(options)
    result, notes = _remote(names, options) if options["url"] else _own(names, options)
    profile_output.emit(result, notes, options)
    return 0 if all(run.total.ok for run in result.points) else 1


def _remote(names: tuple[str, ...], options: Mapping[str, Any]) -> tuple[Result, list[str]]:
    """Measure on the server of ``--url``."""
    from runtime.cli import profile_own, profile_plan
    from runtime.cli.profile_live import Live
    from runtime.cli.profile_measure import Bench, instances
    from runtime.cli.profile_search import search
    from runtime.profiling.usage import Processes

    profile_own.require_model(options)
    target = profile_plan.target(options)
    defaults = {"store": str(open_store(options["store"]).root)}
    models = profile_plan.models(options, names, defaults)
    plan = profile_plan.plan(options, models)
    processes = Processes.of(options["http"]) if options["http"] else Processes()
    live = Live(len(plan.loads) * len(plan.rows))
    result = _result(", ".join(names) or str(options["replay"]))
    labels = frozenset(model.model for model in models)
    with Bench(target, live, labels, processes, instances(target, models)) as bench:
        if options["search"]:
            measured = search(bench, plan, options, {})
        else:
            measured = bench.points(plan, {})
    return _filled(result, measured), [*measured.notes, *_warnings(result)]


def _own(names: tuple[str, ...], options: Mapping[str, Any]) -> tuple[Result, list[str]]:
    """Start servers for a saved model, measure on them, and keep the result."""
    from runtime.cli import profile_own, profile_plan
    from runtime.cli.profile_live import Live
    from runtime.profiling.model import facts
    from store.profiles import ProfileStore

    if len(names) != 1:
        raise click.UsageError("without --url there is exactly one MODEL")
    store = open_store(options["store"])
    model = store.get(names[0])
    models = profile_plan.models(options, (str(model.tag),), profile_own.defaults(model, store))
    plan = profile_plan.plan(options, models)
    result = _result(str(model.tag))
    static = facts(model, store)
    with cleaning_up_on_terminate():
        measured, curve, running = profile_own.measure(model, store, plan, options, Live())
    _filled(result, measured)
    result.curve, result.facts = curve, static | running
    if options["save"]:
        path = ProfileStore.beside(store.root).save(model.tag, result.to_dict())
        measured.notes.append(f"kept as {path}")
    return result, [*measured.notes, *_warnings(result)]


def _result(model: str) -> Result:
    from runtime.profiling import environment
    from runtime.profiling.store import Result

    return Result(command=["runtime", *sys.argv[1:]], environment=environment.fingerprint(), model=model)


def _filled(result: Result, measured: Measured) -> Result:
    result.points, result.verdicts, result.usage = measured.runs, measured.verdicts, measured.usage
    result.search = measured.search
    return result


def _warnings(result: Result) -> list[str]:
    from runtime.profiling import environment

    return [f"note: {line}" for line in environment.warnings(result.environment)]
