"""From the flags of ``runtime profile`` to what is measured: loads, requests and settings of the server."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from runtime.profiling.inputs import ModelRequests, RequestSource, RowMix
    from runtime.profiling.records import Load
    from runtime.profiling.stability import StabilityRule
    from runtime.profiling.target import Target

DEFAULT_CONCURRENCY: Final = "1,4,16,64"

_MIX: Final = re.compile(r"\d+:[\d.]+(,\d+:[\d.]+)*")
_Value = TypeVar("_Value")


class Point(NamedTuple):
    """One operating point: a load, the rows of its requests, and what names it beside the load."""

    load: Load
    rows: RowMix
    labels: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The service level objective: a percentile of the response time, and what it must not exceed."""

    percentile: float
    slo_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured on one server.

    Attributes:
        loads: to apply one after the other.
        rows: rows per request, each with its label.
        models: what the requests are for; their rows are set point by point.
        replay: a recording to send instead; empty for none.
        limit: None without one.
        rule: when to believe a point; None to take it as it comes.
        seed: of values and order.
    """

    loads: tuple[Load, ...]
    rows: tuple[tuple[str, RowMix], ...]
    models: tuple[ModelRequests, ...]
    replay: str
    limit: Limit | None
    rule: StabilityRule | None
    seed: int

    def points(self) -> Iterator[Point]:
        """Yield the points in the order in which they are measured."""
        for (label, mix), load in itertools.product(self.rows, self.loads):
            yield Point(load, mix, {} if self.replay else {"rows": label})

    def requests(self, rows: RowMix) -> RequestSource:
        """Return the requests of a point."""
        from runtime.profiling.inputs import RequestSource

        models = tuple(replace(model, rows=rows) for model in self.models)
        return RequestSource(models=models, replay=self.replay, seed=self.seed)


def target(options: Mapping[str, Any]) -> Target:
    """Return the server that ``--url`` names."""
    from runtime.profiling.target import Target

    return Target(
        url=options["url"],
        tls=options["tls"],
        ca_file=str(options["tls_ca"] or ""),
        certificate_file=str(options["tls_cert"] or ""),
        key_file=str(options["tls_key"] or ""),
        metadata=tuple(_pair(text, "--header") for text in options["header"]),
    )


def plan(options: Mapping[str, Any], models: tuple[ModelRequests, ...]) -> Plan:
    """Read the flags.

    Raises:
        BadParameter: a value cannot be read, or flags contradict each other.
    """
    limit = None
    if options["slo_ms"]:
        limit = Limit(percentile=options["percentile"], slo_ms=options["slo_ms"])
    if options["search"] and limit is None:
        raise click.UsageError("--search needs --slo-ms")
    if options["search"] and (options["concurrency"] or options["trace"] or options["replay"]):
        raise click.UsageError("--search looks for a rate: it excludes --concurrency, --trace and --replay")
    return Plan(
        loads=() if options["search"] else tuple(_loads(options)),
        rows=tuple(_rows(options["rows"])),
        models=models,
        replay=str(options["replay"] or ""),
        limit=limit,
        rule=_rule(options),
        seed=options["seed"],
    )


def models(options: Mapping[str, Any], names: tuple[str, ...], defaults: Mapping[str, Any]) -> Any:
    """Return the requests' description of each model ``NAME[:VERSION][=WEIGHT]``.

    Args:
        options: the flags.
        names: as they were given.
        defaults: fields of the description that the flags leave open.
    """
    from runtime.profiling.inputs import ModelRequests

    shapes = dict(_shape(text) for text in options["shape"])
    found = []
    for text in names:
        tag, _, weight = text.partition("=")
        name, _, version = tag.partition(":")
        found.append(
            ModelRequests(
                model=name,
                version="" if version == "latest" else version,
                method=options["method"] or "",
                weight=_read(float, weight, "--model") if weight else 1.0,
                data=options["data"] or defaults.get("data", "random"),
                store=defaults.get("store", ""),
                shapes=shapes,
            )
        )
    return tuple(found)


def sweep(text: str | None, option: str) -> tuple[int, ...]:
    """Read a list or range of whole numbers; empty without one."""
    from runtime.profiling.search import parse_sweep

    values = _read(parse_sweep, text, option) if text else ()
    if any(value != int(value) for value in values):
        raise click.BadParameter(f"{text!r} has values that are not whole", param_hint=option)
    return tuple(int(value) for value in values)


def open_load(options: Mapping[str, Any], rate: float) -> Load:
    """Return the open load of a rate."""
    kind = options["arrivals"] or ("burst" if options["burst"] else "poisson")
    return _load(options, mode="open", rate=rate, arrivals=kind, burst=options["burst"] or 1)


def closed_load(options: Mapping[str, Any], concurrency: int) -> Load:
    """Return the closed load of some calls in flight; no more generator processes than calls."""
    return _load(
        options,
        mode="closed",
        concurrency=concurrency,
        processes=min(options["processes"], concurrency),
    )


def _loads(options: Mapping[str, Any]) -> Iterator[Load]:
    from runtime.profiling.search import parse_sweep

    given = [name for name in ("concurrency", "rate", "trace", "replay") if options[name]]
    if len(given) > 1:
        raise click.UsageError(f"choose one of --{' and --'.join(given)}")
    if options["rate"]:
        for rate in _read(parse_sweep, options["rate"], "--rate"):
            yield open_load(options, rate)
    elif options["trace"]:
        yield _load(options, mode="open", arrivals="trace", trace=_trace(options["trace"]))
    elif options["replay"]:
        yield _load(options, mode="open", arrivals="trace", trace=_replayed(options["replay"]))
    else:
        for concurrency in sweep(options["concurrency"] or DEFAULT_CONCURRENCY, "--concurrency"):
            yield closed_load(options, concurrency)


def _load(options: Mapping[str, Any], **fields: Any) -> Load:
    from runtime.profiling.records import Load

    common = {
        "seed": options["seed"],
        "timeout_ms": options["timeout_ms"],
        "max_in_flight": options["max_in_flight"],
        "warm_up_s": options["warm_up"],
        "duration_s": options["duration"],
        "count": options["count"],
        "processes": options["processes"],
    }
    try:
        return Load(**{**common, **fields})
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _rows(text: str) -> Iterator[tuple[str, RowMix]]:
    """Yield a mix ``1:0.8,4:0.2`` as one setting, a list or range as one setting each."""
    from runtime.profiling.inputs import parse_mix

    if _MIX.fullmatch(text) and "." in text:
        yield text, parse_mix(text)
        return
    for rows in sweep(text, "--rows"):
        yield str(rows), ((rows, 1.0),)


def _rule(options: Mapping[str, Any]) -> StabilityRule | None:
    from runtime.profiling.stability import MeasurementMode, StabilityRule

    if not options["stability"]:
        return None
    count = options["window_requests"]
    mode = MeasurementMode.COUNT_WINDOWS if count else MeasurementMode.TIME_WINDOWS
    try:
        return StabilityRule(
            measurement_mode=mode,
            measurement_interval=options["window_ms"],
            measurement_request_count=count or None,
            stability_percentage=options["stability"],
            max_trials=options["max_trials"],
            percentile=options["percentile"] if options["slo_ms"] else None,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _trace(path: Path) -> tuple[int, ...]:
    from runtime.profiling.arrivals import parse_trace

    with path.open(encoding="utf-8") as file:
        return _read(parse_trace, file, "--trace")


def _replayed(path: Path) -> tuple[int, ...]:
    from runtime.profiling import recording

    with path.open("rb") as file:
        return tuple(payload.at_ns for payload in recording.read(file, str(path)))


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, extents = _pair(text, "--shape")
    return name, tuple(_read(int, extent, "--shape") for extent in extents.split(",") if extent)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, assigned, value = text.partition("=")
    if not name or not assigned:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value


def _read(parse: Callable[[Any], _Value], value: Any, option: str) -> _Value:
    """Parse a value; a wrong one is the user's mistake."""
    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error
