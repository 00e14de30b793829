"""What ``runtime convert`` says: steps on stderr as they go, then the table, the best, and the reasons."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from frameworks.convert.best import SOURCE
from frameworks.convert.formats import RuntimeProvider, Status, Variant
from frameworks.convert.plainform import to_plain
from runtime.cli.common import table

if TYPE_CHECKING:
    from frameworks.convert.best import Candidate, Choice
    from frameworks.convert.orders import Event
    from frameworks.convert.records import Conversion, Execution, Outcome, Performance, Report
    from runtime.convert.results import Stored

_CLEAR: Final = "\r\x1b[2K"
_VERBS: Final = {"source": "answers of", "verify": "verify", "profile": "measure"}
_RUNTIMES: Final = {RuntimeProvider.TRT: "TensorRT"}
_NONE: Final = "-"
_SHORT: Final = 120
"""Characters of a message on a line of progress."""


class Steps:
    """Tells each step: on a terminal a line when it begins and is written over, elsewhere one at its end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_live = self._stream.isatty()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        verb = _VERBS.get(event.stage, "")
        name = f"{verb} {event.subject}" if verb else event.subject
        if event.status is None:
            if self._is_live:
                self._write(f"{_CLEAR}[{event.done + 1}/{event.total}] {name} …")
            return
        count = f"[{event.done}/{event.total}]"
        is_told = event.message and event.status is not Status.OK
        told = f": {short(event.message)}" if is_told else ""
        clear = _CLEAR if self._is_live else ""
        self._write(f"{clear}{count} {name} … {event.status.value}{told} {event.seconds:.1f} s\n")

    def note(self, text: str) -> None:
        """Say something that stays."""
        self._write(f"{_CLEAR if self._is_live else ''}{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def text(report: Report, targets: Collection[Variant], choice: Choice, stored: Sequence[Stored]) -> str:
    """Return the result for people."""
    sizes = sorted({one.batch_size for one in _measured(report, targets)})
    header = ["Variant", "Status", "Runtime", "Max abs", "Max rel", "Batch-invariant"]
    header += [f"ms b={size}" for size in sizes]
    if sizes:
        header.append("Speed-up " + "/".join(f"b={size}" for size in sizes))
    rows = [[*row, tag] for row, tag in _rows(report, targets, choice, sizes, stored)]
    shown = table([*header, "Stored as"], rows)
    lines = [*best_lines(choice), *reasons(report, targets, stored)]
    return "\n".join([shown, *([""] if lines else []), *lines])


def best_lines(choice: Choice) -> Iterator[str]:
    """Say what is best, in a line for each answer."""
    bound = choice.latency_ms
    if bound is not None and choice.nearest is not None:
        yield (
            f"best: nothing keeps its p99 within {bound:g} ms; nearest is {_point(choice.nearest)}: "
            f"p99 {_ms(choice.nearest.performance.p99_ms)}"
        )
    if bound is None and choice.fastest is not None:
        median = _ms(choice.fastest.performance.median_ms)
        yield f"best latency: {_point(choice.fastest)}: {median}{_than(choice.fastest, choice)}"
    if choice.throughput is not None:
        figures = choice.throughput.performance
        rate = _number(figures.rows_per_second, 4)
        kept = "" if bound is None else f", p99 {_ms(figures.p99_ms)} within {bound:g} ms"
        yield (
            f"best throughput: {_point(choice.throughput)}: {rate} rows/s{kept}"
            f"{_than(choice.throughput, choice)}"
        )


def reasons(report: Report, targets: Collection[Variant], stored: Sequence[Stored]) -> Iterator[str]:
    """Say why something did not go well: a line for each cause, with all that it befell."""
    befallen: dict[tuple[str, str], list[str]] = {}

    def note(outcome: Outcome, name: str) -> None:
        if outcome.status in (Status.FAIL, Status.SKIPPED):
            said = outcome.message or outcome.reason
            word = "failed" if outcome.status is Status.FAIL else "skipped"
            befallen.setdefault((word, said), []).append(name)

    note(report.source.outcome, SOURCE)
    note(report.source.performance_outcome, f"measuring {SOURCE}")
    for conversion in _chosen(report, targets):
        note(conversion.outcome, str(conversion.variant))
        lacking = [name for name in report.signatures if name not in conversion.methods]
        if lacking and conversion.outcome.status is Status.OK:
            said = f"no method {', '.join(lacking)}, which has no form there"
            befallen.setdefault(("partial", said), []).append(str(conversion.variant))
        for execution in conversion.executions.values():
            where = f"{conversion.variant} on {runtime_name(execution.provider)}"
            note(execution.outcome, where)
            note(execution.performance_outcome, f"measuring {where}")
    for (word, said), names in befallen.items():
        yield f"{word}: {', '.join(names)}: {said}"
    if any(not one.stable for one in _measured(report, targets)):
        yield "~ the windows of this measurement did not agree; --window-ms makes them longer"
    for one in stored:
        if one.message:
            yield f"{one.fate.value}: {one.tag}: {one.message}"


def document(report: Report, choice: Choice, stored: Sequence[Stored], **more: Any) -> dict[str, Any]:
    """Return everything as JSON can hold it."""
    speed = {
        f"{variant} on {provider.value}": {str(size): ratio for size, ratio in ratios.items()}
        for (variant, provider), ratios in choice.speed_ups.items()
    }
    best = {
        "latency_ms": choice.latency_ms,
        "fastest": _candidate(choice.fastest),
        "throughput": _candidate(choice.throughput),
        "nearest": _candidate(choice.nearest),
    }
    return {
        **more,
        "best": best,
        "speed_ups": speed,
        "stored": [
            {"variant": str(one.variant), "tag": one.tag, "status": one.fate.value, "message": one.message}
            for one in stored
        ],
        "report": to_plain(report),
    }


def runtime_name(provider: RuntimeProvider) -> str:
    """Return a runtime's short name, such as ``CPU`` or ``PyTorch``."""
    return _RUNTIMES.get(provider, provider.value.removesuffix("ExecutionProvider"))


def short(message: str) -> str:
    """Return the beginning of a message; the whole of it stands in the table's notes."""
    line = message.strip().partition("\n")[0]
    return line if len(line) <= _SHORT else f"{line[:_SHORT]}…"


def status_word(conversion: Conversion, execution: Execution | None) -> str:
    """Return how a variant does on a runtime, in a word or two."""
    if conversion.outcome.status is not Status.OK:
        return "failed" if conversion.outcome.status is Status.FAIL else "skipped"
    if execution is None:
        return "not verified"
    if execution.outcome.status is Status.FAIL:
        return "wrong" if execution.outcome.reason == "differs" else "failed"
    if execution.outcome.status is Status.OK or execution.verified:
        return "ok"
    return "not verified"


def _rows(
    report: Report,
    targets: Collection[Variant],
    choice: Choice,
    sizes: Sequence[int],
    stored: Sequence[Stored],
) -> Iterator[tuple[list[str], str]]:
    source = report.source
    times = _times(source.performance, sizes)
    blank = [_NONE] * 3
    speed = ["1"] if sizes and source.performance else [_NONE] * bool(sizes)
    yield [SOURCE, source.outcome.status.value, runtime_name(source.provider), *blank, *times, *speed], _NONE
    tags = {one.variant: f"{one.tag} ({one.fate.value})" for one in stored}
    for conversion in _chosen(report, targets):
        tag = tags.get(conversion.variant, _NONE)
        for execution in conversion.executions.values() or (None,):
            row = [str(conversion.variant), status_word(conversion, execution)]
            if execution is None:
                row += [_NONE] * (4 + len(sizes) + bool(sizes))
            else:
                ratios = choice.speed_ups.get((conversion.variant, execution.provider), {})
                row += [runtime_name(execution.provider), *_differences(execution)]
                row += _times(execution.performance, sizes)
                row += [_ratios(ratios, sizes)] * bool(sizes)
            yield row, tag


def _differences(execution: Execution) -> list[str]:
    outputs, invariance = execution.outputs.values(), execution.invariance.values()
    largest = [
        _number(max(values)) if values else _NONE
        for values in ([one.max_abs for one in outputs], [one.max_rel for one in outputs])
    ]
    invariant = "yes" if all(one.invariant for one in invariance) else "no"
    return [*largest, invariant if invariance else _NONE]


def _times(performance: Sequence[Performance], sizes: Sequence[int]) -> list[str]:
    """Return a cell for each batch size; ``~`` marks windows that did not agree."""
    known = {one.batch_size: f"{_number(one.median_ms, 3)}{'' if one.stable else '~'}" for one in performance}
    return [known.get(size, _NONE) for size in sizes]


def _ratios(ratios: Mapping[int, float], sizes: Sequence[int]) -> str:
    return "/".join(_ratio(ratios[size]) if size in ratios else _NONE for size in sizes) if ratios else _NONE


def _measured(report: Report, targets: Collection[Variant]) -> Iterator[Performance]:
    yield from report.source.performance
    for conversion in _chosen(report, targets):
        for execution in conversion.executions.values():
            yield from execution.performance


def _chosen(report: Report, targets: Collection[Variant]) -> list[Conversion]:
    return [one for variant, one in report.conversions.items() if variant in targets]


def _point(candidate: Candidate) -> str:
    rows = candidate.performance.batch_size
    where = f"{candidate.name} on {runtime_name(candidate.provider)}"
    return f"{where} with {rows} row{'s' if rows > 1 else ''} a call"


def _than(candidate: Candidate, choice: Choice) -> str:
    doubt = "" if candidate.performance.stable else " (not stable: measure longer)"
    if candidate.variant is None:
        return doubt
    ratios = choice.speed_ups.get((candidate.variant, candidate.provider), {})
    ratio = ratios.get(candidate.performance.batch_size)
    return doubt if ratio is None else f", {_ratio(ratio)} times as fast as the source{doubt}"


def _candidate(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    figures = to_plain(candidate.performance)
    return {"variant": candidate.name, "provider": candidate.provider.value, "performance": figures}


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _ms(value: float) -> str:
    return f"{_number(value, 3)} ms"


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) and abs(value) < 10**digits else f"{value:.0f}"
