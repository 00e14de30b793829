"""How fast one variant of a model is by itself: no server, one caller, executions back to back.

Called by its name, ``runtime.convert.performance:measure``, in the process that has the variant loaded.
Windows are measured until the last three agree, by the profiler's own rule, so that a figure says whether it
can be believed. Garbage is collected between windows, never within one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from frameworks.arrays import Arrays
from frameworks.calling import Opened
from frameworks.convert.records import Performance
from frameworks.errors import FrameworkError
from frameworks.row_errors import complete
from runtime.clock import MILLISECOND, Clock, now_ns
from runtime.profiling.records import Outcome, Window
from runtime.profiling.stability import DEFAULT_COUNT, MeasurementMode, StabilityRule, State, judge
from store.plain import Plain

BATCH_SIZES: Final = "batch_sizes"
RULE: Final = (
    "measurement_mode",
    "measurement_interval",
    "measurement_request_count",
    "stability_percentage",
    "max_trials",
)
"""Names of the other settings: those of ``StabilityRule``."""

WARM_UP_RUNS: Final = 3
"""Executions before the first window, at least: just-in-time compilers act on the second or the third."""

WARM_UP_SHARE: Final = 0.2
"""Of a window's time, to warm up for: caches and clock rates settle."""


class InvalidSettings(FrameworkError):
    """The settings describe no measurement (FAILED_PRECONDITION)."""

    reason = "invalid_settings"


class MeasureFailed(FrameworkError):
    """The model could not execute what was to be measured (FAILED_PRECONDITION)."""

    reason = "measure_failed"


def measure(
    method: Opened,
    batch: Callable[[int], Arrays],
    settings: Mapping[str, Plain],
    *,
    clock: Clock = now_ns,
) -> list[Performance]:
    """Measure a method at each batch size.

    Args:
        method: of the loaded variant; the arrays of a batch are given to it again and again.
        batch: makes the inputs of so many rows.
        settings: ``batch_sizes`` (default 1) and the fields of ``StabilityRule``, as plain values.
        clock: the time.

    Returns:
        One record for each batch size, ascending. Its figures are those of the windows that agreed, or of the
        last ones where none did; then it is not stable.

    Raises:
        InvalidSettings: a setting is unknown or out of range.
        MeasureFailed: an execution raised, or failed a row; the batch size is named.
    """
    sizes, rule = read_settings(settings)
    return [_performance(size, _settled(method, batch, size, rule, clock)) for size in sizes]


def read_settings(settings: Mapping[str, Plain]) -> tuple[list[int], StabilityRule]:
    """Return the batch sizes, ascending, and the rule.

    Raises:
        InvalidSettings: a setting is unknown or out of range.
    """
    unknown = [name for name in settings if name not in (BATCH_SIZES, *RULE)]
    if unknown:
        known = ", ".join((BATCH_SIZES, *RULE))
        raise InvalidSettings(f"there is no setting {unknown[0]!r}; there are {known}", field=unknown[0])
    given: dict[str, Any] = {name: settings[name] for name in RULE if settings.get(name) is not None}
    sizes: Any = settings.get(BATCH_SIZES) or [1]
    if not isinstance(sizes, list | tuple) or not all(type(size) is int and size > 0 for size in sizes):
        raise InvalidSettings(
            f"{BATCH_SIZES} must be a list of whole numbers from 1 up, not {sizes!r}", field=BATCH_SIZES
        )
    if "measurement_mode" in given:
        given["measurement_mode"] = _mode(given["measurement_mode"])
    try:
        return sorted(set(sizes)), StabilityRule(**given)
    except (TypeError, ValueError) as error:
        raise InvalidSettings(f"the measurement cannot be made: {error}", field="settings") from error


def _mode(value: object) -> MeasurementMode:
    try:
        return MeasurementMode(str(getattr(value, "value", value)).lower())
    except ValueError:
        known = ", ".join(mode.value for mode in MeasurementMode)
        raise InvalidSettings(
            f"measurement_mode must be one of {known}, not {value!r}", field="measurement_mode"
        ) from None


def _settled(
    method: Opened, batch: Callable[[int], Arrays], rows: int, rule: StabilityRule, clock: Clock
) -> tuple[Sequence[Window], bool]:
    """Return the windows that agree, and whether they do."""
    windows: list[Window] = []
    try:
        inputs = batch(rows)
        _warm_up(method, inputs, rule, clock)
        while True:
            with _no_collection():
                windows.append(_window(method, inputs, rule, clock))
            verdict = judge(windows, rule)
            if verdict.state is not State.MORE:
                return windows[verdict.first :], verdict.state is State.STABLE
    except Exception as error:
        raise MeasureFailed(f"it cannot execute {rows} rows: {error!r}", field=BATCH_SIZES) from error


def _warm_up(method: Opened, inputs: Arrays, rule: StabilityRule, clock: Clock) -> None:
    """Execute until what happens only at first has happened; every row must be answered."""
    end = clock() + int(rule.measurement_interval * MILLISECOND * WARM_UP_SHARE)
    done = 0
    while done < WARM_UP_RUNS or (clock() < end and rule.measurement_mode is MeasurementMode.TIME_WINDOWS):
        complete(method(inputs))
        done += 1


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _window(method: Opened, inputs: Arrays, rule: StabilityRule, clock: Clock) -> Window:
    """Execute back to back until the window is full; it has one execution at least."""
    is_timed = rule.measurement_mode is MeasurementMode.TIME_WINDOWS
    count = rule.measurement_request_count or DEFAULT_COUNT
    begin = now = clock()
    end = begin + round(rule.measurement_interval * MILLISECOND)
    window = Window(begin, begin)
    record, done = window.response.record, 0
    while (now < end) if is_timed else (done < count):
        method(inputs)
        before, now = now, clock()
        record(now - before)
        done += 1
    window.end_ns = now
    window.counts[Outcome.OK] = done
    return window


def _performance(rows: int, settled: tuple[Sequence[Window], bool]) -> Performance:
    windows, stable = settled
    merged = Window(windows[0].start_ns, windows[-1].end_ns)
    for window in windows:
        merged.merge(window)
    seconds = sum(window.seconds for window in windows)  # without the time between them
    times = merged.response
    return Performance(
        batch_size=rows,
        median_ms=times.percentile(50) / MILLISECOND,
        mean_ms=times.mean_ns / MILLISECOND,
        p90_ms=times.percentile(90) / MILLISECOND,
        p95_ms=times.percentile(95) / MILLISECOND,
        p99_ms=times.percentile(99) / MILLISECOND,
        rows_per_second=rows * merged.ok / seconds if seconds else 0.0,
        requests=merged.ok,
        stable=stable,
    )
