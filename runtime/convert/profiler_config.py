"""How speed is measured after a conversion: the profiler's configuration, under Model Navigator's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from frameworks.errors import FrameworkError
from runtime.profiling.stability import MeasurementMode, StabilityRule
from store.plain import Plain

MEASURE: Final = "runtime.convert.performance:measure"
"""What measures, in the process that has a variant loaded."""


class InvalidProfilerConfig(FrameworkError):
    """A configuration describes no measurement (FAILED_PRECONDITION)."""

    reason = "invalid_profiler_config"


@dataclass(frozen=True, slots=True)
class ProfilerConfig:
    """What to measure, and when to believe it.

    Args:
        batch_sizes: rows of an execution, each from 1 up; None measures 1 and the dataloader's batch size.
        measurement_mode: what ends a window, its time or its number of executions; a name will do.
        measurement_interval: ms of a time window, above 0; default 5000. Shorter ones are noisier.
        measurement_request_count: executions in a count window; None is 50.
        stability_percentage: how much more the largest of three windows may be than the smallest, percent.
        max_trials: windows to measure at most, from 3 up.

    Raises:
        InvalidProfilerConfig: a field is out of range; it is named.
    """

    batch_sizes: Sequence[int] | None = None
    measurement_mode: MeasurementMode | str = MeasurementMode.TIME_WINDOWS
    measurement_interval: float | None = 5000
    measurement_request_count: int | None = None
    stability_percentage: float = 10.0
    max_trials: int = 10

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if sizes is not None and (
            isinstance(sizes, str) or not sizes or not all(type(size) is int and size > 0 for size in sizes)
        ):
            raise InvalidProfilerConfig(
                f"batch_sizes must be whole numbers from 1 up, not {sizes!r}", field="batch_sizes"
            )
        try:
            self._rule()
        except (TypeError, ValueError) as error:
            raise InvalidProfilerConfig(f"the profiler cannot be configured so: {error}") from None

    def for_dataloader(self, batch_size: int) -> ProfilerConfig:
        """Return the configuration with batch sizes: its own, else 1 and that of the dataloader."""
        return self if self.batch_sizes else replace(self, batch_sizes=tuple(sorted({1, batch_size})))

    def to_settings(self) -> dict[str, Plain]:
        """Return what ``MEASURE`` is told."""
        rule = self._rule()
        return {
            "batch_sizes": sorted(set(self.batch_sizes or (1,))),  # type: ignore[dict-item]
            "measurement_mode": rule.measurement_mode.value,
            "measurement_interval": float(rule.measurement_interval),
            "measurement_request_count": rule.measurement_request_count,
            "stability_percentage": float(rule.stability_percentage),
            "max_trials": rule.max_trials,
        }

    def _rule(self) -> StabilityRule:
        interval = self.measurement_interval
        return StabilityRule(
            measurement_mode=_mode(self.measurement_mode),
            measurement_interval=StabilityRule().measurement_interval if interval is None else interval,
            measurement_request_count=self.measurement_request_count,
            stability_percentage=self.stability_percentage,
            max_trials=self.max_trials,
        )


def _mode(value: object) -> MeasurementMode:
    if isinstance(value, MeasurementMode):
        return value
    try:
        return MeasurementMode(str(value).lower())
    except ValueError:
        known = ", ".join(mode.value for mode in MeasurementMode)
        raise ValueError(f"measurement_mode is one of {known}, not {value!r}") from None
