from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from frameworks.arrays import Arrays
from frameworks.convert.records import Performance
from frameworks.row_errors import Answer, RowErrors
from runtime.clock import MILLISECOND
from runtime.convert.performance import WARM_UP_RUNS, InvalidSettings, MeasureFailed, measure, read_settings
from runtime.profiling.stability import MeasurementMode
from store.plain import Plain


class Model:
    """A method whose executions take a planned time on a clock of its own.

    Args:
        cost_ms: from the number of the execution and its rows to its time.
    """

    def __init__(self, cost_ms: Callable[[int, int], float]) -> None:
        self.now_ns = 0
        self.rows: list[int] = []
        self._cost_ms = cost_ms

    def __call__(self, inputs: Arrays, /) -> Answer:
        rows = len(inputs["x"])
        self.now_ns += round(self._cost_ms(len(self.rows), rows) * MILLISECOND)
        self.rows.append(rows)
        return {"y": inputs["x"]}

    def input_names(self, count: int) -> tuple[str, ...]:
        return ("x",)[:count]

    def clock(self) -> int:
        return self.now_ns


def batch(rows: int) -> Arrays:
    return {"x": np.zeros((rows, 2), np.float32)}


def measured(model: Model, **settings: Plain) -> list[Performance]:
    return measure(model, batch, {"measurement_interval": 100, **settings}, clock=model.clock)


def test_each_batch_size_is_measured_once_in_ascending_order() -> None:
    model = Model(lambda _, rows: 1.0 if rows == 1 else 2.0)
    found = measured(model, batch_sizes=[8, 1, 8])
    assert [one.batch_size for one in found] == [1, 8]
    alone, together = found
    assert alone.median_ms == alone.mean_ms == alone.p99_ms == pytest.approx(1.0)
    assert together.median_ms == pytest.approx(2.0)
    assert (alone.rows_per_second, together.rows_per_second) == (pytest.approx(1000), pytest.approx(4000))
    assert alone.stable
    assert together.stable


def test_one_row_is_measured_when_nothing_else_is_asked_for() -> None:
    assert [one.batch_size for one in measured(Model(lambda *_: 1.0))] == [1]


def test_the_first_executions_do_not_count() -> None:
    (found,) = measured(Model(lambda number, _: 500.0 if number < WARM_UP_RUNS else 1.0))
    assert found.p99_ms == found.median_ms == pytest.approx(1.0)
    assert found.stable


def test_windows_are_measured_until_three_agree_and_only_they_count() -> None:
    model = Model(lambda *_: 4.0 if model.now_ns < 300 * MILLISECOND else 1.0)
    (found,) = measured(model)
    assert found.stable
    assert found.p99_ms == pytest.approx(1.0)
    assert found.requests == 300


def test_what_never_agrees_is_reported_as_not_stable() -> None:
    model = Model(lambda *_: 1.0 if model.now_ns // (100 * MILLISECOND) % 2 else 4.0)
    (found,) = measured(model, max_trials=4)
    assert not found.stable
    assert found.requests > 0
    assert found.mean_ms > 1.0


def test_a_count_window_has_so_many_executions() -> None:
    (found,) = measured(Model(lambda *_: 1.0), measurement_mode="count_windows", measurement_request_count=20)
    assert (found.requests, found.stable) == (60, True)


def test_an_execution_longer_than_a_window_is_measured_nevertheless() -> None:
    (found,) = measured(Model(lambda *_: 250.0))
    assert (found.requests, found.stable) == (3, True)
    assert found.median_ms == pytest.approx(250, rel=0.01)
    assert found.rows_per_second == pytest.approx(4)


def test_percentiles_are_those_of_all_counted_executions() -> None:
    (found,) = measured(Model(lambda number, _: 10.0 if number % 20 == 0 else 1.0), measurement_interval=1000)
    assert found.median_ms == found.p90_ms == pytest.approx(1.0, rel=0.01)
    assert found.p99_ms == pytest.approx(10.0, rel=0.01)
    assert found.mean_ms == pytest.approx(1.45, rel=0.02)


def test_garbage_is_not_collected_within_a_window_and_is_again_afterwards() -> None:
    seen = []
    model = Model(lambda *_: 1.0)

    def watched(inputs: Arrays, /) -> Answer:
        seen.append(gc.isenabled())
        return model(inputs)

    watched.input_names = model.input_names  # type: ignore[attr-defined]
    (found,) = measure(watched, batch, {"measurement_interval": 100}, clock=model.clock)  # type: ignore[arg-type]
    assert seen.count(False) == found.requests
    assert gc.isenabled()


def test_what_cannot_be_executed_fails_with_its_batch_size() -> None:
    def cost(_: int, rows: int) -> float:
        if rows > 4:
            raise ValueError("too many")
        return 1.0

    with pytest.raises(MeasureFailed, match=r"8 rows.*too many"):
        measured(Model(cost), batch_sizes=[4, 8])
    assert gc.isenabled()


def test_a_row_that_fails_makes_no_figure() -> None:
    class Failing(Model):
        def __call__(self, inputs: Arrays, /) -> Answer:
            super().__call__(inputs)
            return RowErrors(None, {0: "not a sentence"})

    with pytest.raises(MeasureFailed, match="not a sentence"):
        measured(Failing(lambda *_: 1.0))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"interval": 5}, "interval"),
        ({"batch_sizes": [0]}, "batch_sizes"),
        ({"batch_sizes": 8}, "batch_sizes"),
        ({"batch_sizes": [True]}, "batch_sizes"),
        ({"measurement_mode": "hours"}, "measurement_mode"),
        ({"max_trials": 2}, "settings"),
        ({"measurement_interval": 0}, "settings"),
        ({"measurement_interval": "long"}, "settings"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Plain], field: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        read_settings(settings)
    assert caught.value.field == field


@pytest.mark.parametrize("mode", ["COUNT_WINDOWS", "count_windows"])
def test_settings_are_read_as_a_configuration_writes_them(mode: str) -> None:
    sizes, rule = read_settings(
        {
            "batch_sizes": [4, 1],
            "measurement_mode": mode,
            "measurement_request_count": None,
            "stability_percentage": 5,
        }
    )
    assert sizes == [1, 4]
    assert (rule.measurement_mode, rule.stability_percentage) == (MeasurementMode.COUNT_WINDOWS, 5)
    assert rule.measurement_request_count is None
