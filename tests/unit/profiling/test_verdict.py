"""Each synthetic bottleneck gets its name."""

from __future__ import annotations

import pytest

from runtime.profiling.verdict import Evidence, judge

STAGES = {
    "queue": 1.0,
    "merge": 1.0,
    "compute": 1.0,
    "split": 1.0,
    "hop": 1.0,
    "transport": 1.0,
    "total": 5.0,
}


@pytest.mark.parametrize(
    ("known", "bottleneck"),
    [
        (Evidence(invalid=("slip",), busy=1.0), "generator"),
        (Evidence(busy=0.97, front_end_cpu=0.99), "worker"),
        (Evidence(worker_cpu=0.95), "worker"),
        (Evidence(worker_cpu=0.95, busy=0.3), "hop"),
        (Evidence(front_end_cpu=0.93, worker_cpu=0.5, busy=0.4), "front-end"),
        (Evidence(machine_cpu=0.99, front_end_cpu=0.5), "machine"),
        (Evidence(offered=100, answered=99, busy=0.2, mean_ms=STAGES), "none"),
        (Evidence(offered=100, answered=50, mean_ms={**STAGES, "queue": 9}), "worker"),
        (Evidence(mean_ms={**STAGES, "hop": 9}), "hop"),
        (Evidence(mean_ms={**STAGES, "transport": 9}), "front-end"),
        (Evidence(mean_ms={**STAGES, "compute": 9}), "worker"),
        (Evidence(), "unknown"),
    ],
)
def test_the_part_that_limits_is_named(known: Evidence, bottleneck: str) -> None:
    assert judge(known).bottleneck == bottleneck


def test_the_verdict_says_which_figure_it_rests_on() -> None:
    assert judge(Evidence(busy=0.97)).reason == "instances execute 97% of the time"
    assert (
        "queue is 64% of the mean request's 14.00 ms"
        in judge(Evidence(mean_ms={**STAGES, "queue": 9})).reason
    )
    assert judge(Evidence(invalid=("the generator slipped",))).to_dict() == {
        "bottleneck": "generator", "reason": "the generator slipped",
    }  # fmt: skip
