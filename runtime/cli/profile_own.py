"""``runtime profile MODEL`` without a server: one is started for each setting."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.cli import profile_plan
from runtime.cli.demo_server import ServerProcess
from runtime.cli.profile_measure import Bench, Measured
from runtime.cli.profile_search import search
from runtime.profiling.model import curve, row_counts
from runtime.profiling.target import Target
from runtime.profiling.usage import WORKER, Processes

if TYPE_CHECKING:
    from runtime.cli.profile_live import Live
    from runtime.cli.profile_plan import Plan, Point
    from store import Model, ModelStore

CURVE_S: Final = 2.0
"""Most time of one point of the batching curve."""

_FLAGS: Final = (
    "--port", "0", "--http-port", "0", "--drain-delay-ms", "0", "--grace-ms", "5000",
    "--log-level", "WARNING",
)  # fmt: skip


def settings(options: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return the server's settings to measure with: each pair of instances and max_batch_size."""
    sweeps = {
        name: profile_plan.sweep(options[name], f"--{name.replace('_', '-')}")
        for name in ("instances", "max_batch_size")
    }
    named = [[(name, value) for value in values] for name, values in sweeps.items() if values]
    return [dict(pairs) for pairs in itertools.product(*named)]


def defaults(model: Model, store: ModelStore) -> dict[str, Any]:
    """Return what requests to a saved model are made of by default: its sample if it has one."""
    from frameworks import sample

    data = "sample" if sample.FILE_NAME in model.info.digests else "random"
    return {"data": data, "store": str(store.root)}


def measure(
    model: Model, store: ModelStore, plan: Plan, options: Mapping[str, Any], live: Live
) -> tuple[Measured, dict[str, float], dict[str, Any]]:
    """Measure a saved model under each setting.

    Returns:
        What was measured, the batching curve of the first setting, and facts of the running model.
    """
    found, batching, facts = Measured(), dict[str, float](), dict[str, Any]()
    for setting in settings(options) or [{}]:
        live.note(f"starting a server for {model.tag}{_shown(setting)}")
        with _server(model, store, setting, options) as server:
            processes = Processes.of(server.http)
            with _bench(Target(url=server.url), model, processes, live) as bench:
                measured = _measure(bench, model, plan, options, setting)
            facts = facts or {
                f"{role}_resident_bytes": size for role, size in processes.resident_bytes().items()
            }
        batching = batching or curve(run for run in measured.runs if "curve" in run.labels)
        found.add(measured)
    return found, batching, facts


@contextmanager
def _server(
    model: Model, store: ModelStore, setting: Mapping[str, int], options: Mapping[str, Any]
) -> Iterator[ServerProcess]:
    """Yield a server of the model; it is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="runtime-profile-") as folder:
        flags = [*_FLAGS, str(model.tag), *_flags(setting, options)]
        with ServerProcess(Path(folder), store.root, flags) as server:
            yield server


def _bench(target: Target, model: Model, processes: Processes, live: Live) -> Bench:
    names = frozenset({model.info.name})
    return Bench(target, live, names, processes, processes.counts.get(WORKER, 0))


def _measure(
    bench: Bench, model: Model, plan: Plan, options: Mapping[str, Any], setting: dict[str, int]
) -> Measured:
    found = Measured()
    if options["curve"]:
        for point in _curve(model, options, setting):
            found.add(bench.point(replace(plan, rule=None), point, {**setting, "curve": True}))
    if options["search"]:
        found.add(search(bench, plan, options, setting))
    else:
        found.add(bench.points(plan, setting))
    return found


def _curve(model: Model, options: Mapping[str, Any], setting: dict[str, int]) -> Iterator[Point]:
    """Yield one call in flight at each batch size; a method whose rows may not be merged has one row."""
    signature = next(iter(model.info.signatures.values()), None)
    if options["method"]:
        signature = model.info.signatures.get(options["method"])
    limit = setting.get("max_batch_size") or model.info.options.get("max_batch_size") or _default_batch_size()
    batchable = signature is not None and signature.batchable
    for rows in row_counts(int(str(limit)) if batchable else 1):
        load = profile_plan.closed_load(options, 1)
        short = replace(load, duration_s=min(load.duration_s, CURVE_S), warm_up_s=min(load.warm_up_s, 0.5))
        yield profile_plan.Point(short, ((rows, 1.0),), {"rows": str(rows)})


def _default_batch_size() -> int:
    from runtime.config import ModelConfig

    return ModelConfig().max_batch_size


def _flags(setting: Mapping[str, int], options: Mapping[str, Any]) -> list[str]:
    flags = [word for name, value in setting.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return [*flags, "--services", str(options["services"])] if options["services"] else flags


def _shown(setting: Mapping[str, int]) -> str:
    return "".join(f", {name} {value}" for name, value in setting.items())


def require_model(options: Mapping[str, Any]) -> None:
    """Refuse flags that need a server of our own when there is another one."""
    for name in ("instances", "max_batch_size", "services"):
        if options[name]:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for a server of one's own: leave out --url"
            )
