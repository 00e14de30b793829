"""The simulated policies, and the bar of the adaptive one in its short form."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice, pairwise

import pytest

from benchmarks.batching import arrivals, verdict
from benchmarks.batching.bar import POINTS
from benchmarks.batching.cases import PRODUCT, RULES, Case, Table, play
from benchmarks.batching.cost import Replay
from benchmarks.batching.models import MLP, RESNET50
from benchmarks.batching.references import Reference
from benchmarks.batching.setup import Setup
from benchmarks.batching.simulator import Broken, Simulation
from runtime.batching.policy import Decision
from runtime.batching.task import Task


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_the_adaptive_policy_holds_its_bar(point: int) -> None:
    verdicts = list(POINTS[point](Table(short=True), True))
    assert verdicts
    assert [v for v in verdicts if not v.passed] == []


@pytest.mark.parametrize("rule", RULES)
def test_a_case_comes_out_the_same_each_time(rule: str) -> None:
    case = Case(model=RESNET50, load=0.9, slo_ms=12, requests=500, runs=1)
    first, second = play(case, rule), play(case, rule)
    assert first.latencies == second.latencies
    assert first.in_time == second.in_time
    assert first.batches == second.batches


@pytest.mark.parametrize("rule", [PRODUCT, "none", "greedy", "bentoml", "fixed 1.5 ms"])
def test_every_request_is_answered_where_nothing_is_due(rule: str) -> None:
    figures = play(Case(model=MLP, load=0.1, requests=300, runs=1), rule)
    assert len(figures.latencies) == 300
    assert figures.rows == 300


def test_a_lone_client_gets_what_arithmetic_says() -> None:
    case = Case(model=RESNET50, clients=1, noisy=False, requests=200, runs=1)
    assert play(case, "greedy").mean == pytest.approx(3.15)
    assert play(case, "fixed 5 ms").mean == pytest.approx(8.15)


def test_many_clients_saturate_the_model() -> None:
    case = Case(model=RESNET50, clients=96, noisy=False, requests=4000, runs=1)
    assert play(case, "greedy").rate == pytest.approx(32 / 0.0078, rel=0.02)


def test_more_than_full_load_grows_late_without_drops() -> None:
    case = Case(model=RESNET50, load=1.5, slo_ms=30, requests=4000, runs=1)
    assert play(case, "greedy").in_time < 0.2
    assert play(case, "nexus").in_time > 0.6


@pytest.mark.parametrize("process", ["poisson", "on-off", "clumps"])
def test_arrivals_keep_to_their_mean_rate(process: str) -> None:
    case = Case(model=MLP, process=process, load=0.5, requests=100_000)
    at = [arrival.at_ns for arrival in case.arrivals(1)]
    assert at == sorted(at)
    assert len(at) / at[-1] == pytest.approx(0.5 * MLP.full_rate, rel=0.1)


def test_clumps_come_close_together() -> None:
    times = list(islice(arrivals.clumps(random.Random(1), 1e-9), 4000))
    near = sum(b - a <= arrivals.CLUMP_NS for a, b in pairwise(times))
    assert near / len(times) == pytest.approx(1 - 1 / arrivals.CLUMP, abs=0.03)


def test_a_policy_that_raises_is_not_measured_as_another() -> None:
    class Raising(Reference):
        def choose(self, line: Sequence[Task], at: int, now_ns: int) -> Decision:
            raise ZeroDivisionError

    simulation = Simulation(Setup(model=MLP), Raising(MLP))
    with pytest.raises(Broken):
        simulation.run([arrivals.Arrival(1)])


@pytest.mark.parametrize(
    "case",
    [
        Case(model=RESNET50, clients=8, requests=400),
        Case(model=RESNET50, load=0.6, instances=4, requests=400),
        Case(model=RESNET50, load=1.5, slo_ms=12, requests=400),
    ],
    ids=["clients", "instances", "deadlines"],
)
def test_a_replay_makes_the_same_decisions(case: Case) -> None:
    replay = Replay(case)
    batches = [(call.batch, call.instance) for call in replay.calls if call.stages is not None]
    sent = replay.play_again()
    assert sorted(batch for batch, _ in batches) == list(range(len(sent)))
    assert [sent[batch].rows for batch, _ in batches] == [
        call.stages.rows for call in replay.calls if call.stages is not None
    ]


def test_each_case_is_played_once() -> None:
    table = Table(short=True)
    case = Case(model=MLP, load=0.1, requests=200)
    assert table.play(case) is table.play(case)
    assert list(table.played) == [(case, PRODUCT)]


def test_a_verdict_says_what_was_asked_and_what_was_found() -> None:
    missed = verdict.at_most(3, "lateness", 0.25, 0.2, "%")
    assert missed == (3, "lateness", "≤ 20.0 %", "25.0 %", False)
    assert verdict.at_least(3, "rate", 1.5, 1.5).passed
