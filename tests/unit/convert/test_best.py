from __future__ import annotations

import pytest

from frameworks.convert.best import SOURCE, Candidate, best, right
from frameworks.convert.formats import RuntimeProvider, Status, Variant
from frameworks.convert.records import Conversion, Execution, Outcome, Performance, Report
from frameworks.errors import FrameworkError

CPU, CUDA = RuntimeProvider.CPU, RuntimeProvider.CUDA
ONNX, TRACE = Variant.parse("onnx"), Variant.parse("torchscript-trace")

Points = dict[int, tuple[float, float]]
"""Batch size to median and 99th percentile, in ms."""


def performance(points: Points) -> list[Performance]:
    return [
        Performance(
            batch_size=rows, median_ms=median, mean_ms=median, p90_ms=p99, p95_ms=p99, p99_ms=p99,
            rows_per_second=rows / median * 1000, requests=100, stable=True,
        )
        for rows, (median, p99) in points.items()
    ]  # fmt: skip


def execution(
    points: Points, status: Status = Status.OK, provider: RuntimeProvider = CPU, *, verified: bool = False
) -> Execution:
    return Execution(
        provider=provider,
        outcome=Outcome(status=status),
        performance=performance(points),
        verified=verified,
    )


def report(source: Points, **variants: Execution | list[Execution]) -> Report:
    made = {}
    for name, given in variants.items():
        runs = given if isinstance(given, list) else [given]
        variant = Variant.parse(name)
        made[variant] = Conversion(
            variant=variant,
            outcome=Outcome(status=Status.OK),
            executions={one.provider: one for one in runs},
        )
    return Report(
        model_name="m", uuid="u", module="pytorch", signatures={},
        source=execution(source, provider=RuntimeProvider.PYT), conversions=made,
    )  # fmt: skip


def named(candidate: Candidate | None) -> tuple[str, int] | None:
    return None if candidate is None else (candidate.name, candidate.performance.batch_size)


def test_without_a_bound_the_least_latency_and_the_most_throughput_are_named() -> None:
    choice = best(
        report(
            {1: (2, 3), 8: (8, 9)},
            onnx=execution({1: (1, 1.5), 8: (7, 8)}),
            torchscript_trace=execution({1: (1.5, 2), 8: (4, 5)}),
        )
    )
    assert named(choice.fastest) == ("onnx", 1)
    assert named(choice.throughput) == ("torchscript-trace", 8)
    assert choice.nearest is None


def test_a_bound_is_one_of_the_99th_percentile_and_chooses_the_most_throughput_within() -> None:
    found = report({1: (2, 3), 8: (8, 9)}, onnx=execution({1: (1, 1.5), 8: (4, 30)}))
    choice = best(found, latency_ms=10)
    assert named(choice.throughput) == (SOURCE, 8)
    assert named(best(found, latency_ms=30).throughput) == ("onnx", 8)
    assert named(best(found, latency_ms=2).throughput) == ("onnx", 1)


def test_when_nothing_keeps_the_bound_the_nearest_is_named() -> None:
    choice = best(report({1: (2, 3)}, onnx=execution({1: (1, 1.5)})), latency_ms=1)
    assert choice.throughput is None
    assert named(choice.nearest) == ("onnx", 1)


def test_equal_figures_go_to_the_source_and_then_to_the_first_in_the_report() -> None:
    same: Points = {1: (1, 1)}
    choice = best(report(same, onnx=execution(same), torchscript_trace=execution(same)))
    assert named(choice.fastest) == named(choice.throughput) == (SOURCE, 1)
    choice = best(report({1: (2, 2)}, onnx=execution(same), torchscript_trace=execution(same)))
    assert named(choice.fastest) == ("onnx", 1)


def test_wrong_answers_are_never_chosen_however_fast() -> None:
    found = report({1: (2, 3)}, onnx=execution({1: (0.1, 0.1)}, Status.FAIL))
    assert named(best(found).fastest) == named(best(found, unverified=True).fastest) == (SOURCE, 1)


def test_answers_that_nobody_compared_are_chosen_only_where_that_is_allowed() -> None:
    found = report({1: (2, 3)}, onnx=execution({1: (1, 1)}, Status.NOOP))
    assert named(best(found).fastest) == (SOURCE, 1)
    assert named(best(found, unverified=True).fastest) == ("onnx", 1)


def test_what_somebody_has_verified_himself_counts_as_right() -> None:
    found = report({1: (2, 3)}, onnx=execution({1: (1, 1)}, Status.FAIL, verified=True))
    assert named(best(found).fastest) == ("onnx", 1)


def test_each_runtime_of_a_variant_stands_for_itself() -> None:
    runs = [execution({1: (3, 3)}), execution({1: (1, 1)}, provider=CUDA)]
    choice = best(report({1: (2, 2)}, onnx=runs))
    assert choice.fastest is not None
    assert choice.fastest.provider is CUDA
    assert choice.speed_ups == {
        (ONNX, CPU): {1: pytest.approx(2 / 3)},
        (ONNX, CUDA): {1: pytest.approx(2.0)},
    }


def test_a_conversion_that_failed_has_no_right_runtime() -> None:
    conversion = Conversion(
        variant=ONNX, outcome=Outcome(status=Status.FAIL), executions={CPU: execution({}, verified=True)}
    )
    assert right(conversion, unverified=True) == []


def test_speed_ups_compare_equal_batch_sizes_only() -> None:
    choice = best(report({1: (2, 3), 4: (6, 7)}, torchscript_trace=execution({1: (1, 1), 8: (4, 4)})))
    assert choice.speed_ups == {(TRACE, CPU): {1: pytest.approx(2.0)}}


def test_latencies_are_compared_at_the_smallest_batch_size_that_was_measured() -> None:
    choice = best(report({4: (5, 5), 8: (6, 6)}, onnx=execution({8: (1, 1)})))
    assert named(choice.fastest) == (SOURCE, 4)


def test_where_nothing_was_measured_nothing_is_chosen() -> None:
    choice = best(report({}, onnx=execution({})), latency_ms=5)
    assert (choice.fastest, choice.throughput, choice.nearest) == (None, None, None)
    assert choice.speed_ups == {(ONNX, CPU): {}}


@pytest.mark.parametrize("bound", [0, -1, float("nan")])
def test_a_bound_that_is_no_time_is_refused(bound: float) -> None:
    with pytest.raises(FrameworkError, match="latency_ms"):
        best(report({1: (1, 1)}), latency_ms=bound)
