"""The parts of generator and engine that need no process: books, ticks, plans, merging, judgement."""

from __future__ import annotations

import itertools
from array import array

import pytest

from runtime.clock import MILLISECOND, SECOND
from runtime.errors import ConfigError
from runtime.profiling import engine, watch
from runtime.profiling.drive import NEVER, Plan
from runtime.profiling.ledger import Ledger, outcome_of
from runtime.profiling.link import Tick
from runtime.profiling.records import Load, Outcome, Window
from runtime.profiling.target import Target
from runtime.profiling.timeline import Timeline

START, LENGTH = 1000 * SECOND, SECOND
OPEN = Load(mode="open", rate=100)
CLOSED = Load(mode="closed")


def ledger(*, has_slip: bool = True) -> Ledger:
    return Ledger(START, LENGTH, [1, 4], has_slip=has_slip)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, Outcome.OK),
        (1, Outcome.FAILED),
        (4, Outcome.EXPIRED),
        (8, Outcome.REJECTED),
        (13, Outcome.FAILED),
        (14, Outcome.REJECTED),
        (16, Outcome.FAILED),
    ],
)
def test_each_status_has_one_outcome(code: int, outcome: Outcome) -> None:
    assert outcome_of(code) is outcome


def test_answer_counts_in_the_window_of_its_intended_send() -> None:
    books = ledger()
    due = START + LENGTH - 1
    books.book((due, due + 5, 1), 0, due + 3 * LENGTH)
    window = books.windows[0]
    assert window.counts == [1, 0, 0, 0, 0]
    assert (window.response.max_ns, window.service.max_ns, window.slip.max_ns) == (
        3 * LENGTH,
        3 * LENGTH - 5,
        5,
    )
    assert window.rows == 4


def test_warm_up_is_not_booked() -> None:
    books = ledger()
    books.book((START - 1, START - 1, 0), 0, START + 1)
    books.drop(START - 1)
    assert all(window.requests == 0 for window in books.windows)


def test_windows_grow_on_demand() -> None:
    books = ledger()
    books.book((START + 10 * LENGTH, START + 10 * LENGTH, 0), 13, START + 11 * LENGTH)
    books.drop(START + 20 * LENGTH)
    assert books.windows[10].counts[Outcome.FAILED] == 1
    assert books.windows[20].counts[Outcome.DROPPED] == 1
    assert [w.start_ns for w in books.windows] == [START + n * LENGTH for n in range(len(books.windows))]


def test_calls_given_up_count_as_expired() -> None:
    books = ledger()
    books.book((START, START, 0), 1, START + 1)
    books.given_up = True
    books.book((START, START, 0), 1, START + 1)
    assert books.windows[0].counts == [0, 1, 0, 1, 0]


def test_closed_loop_has_no_slip() -> None:
    books = ledger(has_slip=False)
    books.book((START, START, 0), 0, START + 1)
    assert not len(books.windows[0].slip)


def test_recent_answers_are_told_once() -> None:
    books = ledger()
    told: list[int] = []
    for number in range(6):
        books.book((START, START, 0), 0, START + number)
        told.extend(books.recent())
    told.extend(books.recent())
    assert told == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [0, 1, 3, 1 << 16, (1 << 16) + 1, 200_000])
def test_tick_survives_the_way(size: int) -> None:
    tick = Tick(5, 2, 7, array("q", range(size)))
    messages = list(tick.encode())
    parts = [Tick.decode(message) for message in messages]
    assert max(map(len, messages)) < 1 << 20
    assert [value for part in parts for value in part.responses] == list(range(size))
    assert sum(part.not_ok for part in parts) == 2
    assert {(part.at_ns, part.in_flight) for part in parts} == {(5, 7)}


def test_plan_shares_a_load() -> None:
    load = Load(mode="closed", concurrency=5, count=7, processes=2, warm_up_s=0.5, timeout_ms=20)
    plans = [Plan(load=load, share=share, start_ns=START, window_ns=1) for share in (0, 1)]
    assert [plan.concurrency for plan in plans] == [3, 2]
    assert [plan.count for plan in plans] == [4, 3]
    assert {plan.measured_ns for plan in plans} == {START + SECOND // 2}
    assert plans[0].end_ns == NEVER
    assert plans[0].timeout_s == 0.02
    timed = Plan(load=Load(mode="closed"), share=0, start_ns=START, window_ns=1)
    assert (timed.end_ns, timed.count, timed.timeout_s) == (START + 11 * SECOND, NEVER, None)


def windows(*counts: int) -> list[Window]:
    made = [Window(START + n * LENGTH, START + (n + 1) * LENGTH) for n in range(len(counts))]
    for window, count in zip(made, counts, strict=True):
        window.counts[Outcome.OK] = count
    return made


def test_windows_of_processes_are_merged_and_cut() -> None:
    made = engine.merged([windows(1, 2, 3), windows(10, 20)], START + 5 * LENGTH // 2)
    assert [window.ok for window in made] == [11, 22, 3]
    assert [window.seconds for window in made] == [1, 1, 0.5]
    made = engine.merged([windows(1, 2, 3)], START + 2 * LENGTH)
    assert [window.ok for window in made] == [1, 5]
    assert made[-1].end_ns == START + 2 * LENGTH


def test_there_are_never_too_many_windows() -> None:
    made = engine.merged([windows(*[1] * 601)], START + 601 * LENGTH)
    assert len(made) <= engine.MOST_WINDOWS
    assert sum(window.ok for window in made) == 601
    assert all(one.end_ns == two.start_ns for one, two in itertools.pairwise(made))


@pytest.mark.parametrize(("seconds", "length_s"), [(1, 0.1), (10, 1), (30, 1), (600, 10)])
def test_window_length_suits_the_duration(seconds: float, length_s: float) -> None:
    assert engine.window_length_ns(Load(mode="closed", duration_s=seconds)) == length_s * SECOND


def total(slip_ms: float, response_ms: float) -> Window:
    window = Window(START, START + LENGTH)
    window.slip.record(round(slip_ms * MILLISECOND))
    window.response.record(round(response_ms * MILLISECOND))
    return window


@pytest.mark.parametrize(
    ("load", "slip_ms", "response_ms", "cpu", "found"),
    [
        (OPEN, 0.9, 1, 0.5, ""),
        (OPEN, 1.1, 1, 0.5, "sent 1.1 ms late"),
        (OPEN, 4, 100, 0.5, ""),
        (OPEN, 6, 100, 0.5, "late"),
        (CLOSED, 6, 100, 0.5, ""),
        (CLOSED, 0, 1, 0.95, "used 95% of a core: use more processes"),
    ],
)
def test_run_is_invalid_when_the_generator_was_the_limit(
    load: Load, slip_ms: float, response_ms: float, cpu: float, found: str
) -> None:
    reasons = watch.reasons(load, total(slip_ms, response_ms), [0.1, cpu])
    assert len(reasons) == bool(found)
    assert all(found in reason for reason in reasons)


def test_timeline_has_no_gap() -> None:
    timeline = Timeline(START, OPEN)
    for share in (0, 1):
        timeline.add(share, Tick(START + 100 * MILLISECOND, 1, 3, array("q", [2000, 4000])))
    timeline.add(0, Tick(START + 400 * MILLISECOND, 0, 5, array("q", [6000])))
    assert timeline.rows() == [
        (0, 4, 2, 4, 4, 6), (100, 0, 0, 0, 0, 6), (200, 0, 0, 0, 0, 6), (300, 1, 0, 6, 6, 8),
    ]  # fmt: skip
    now = timeline.progress(START + SECOND // 2)
    assert (now.ok, now.not_ok, now.is_warm_up, now.elapsed_s) == (5, 2, True, 0.5)
    assert now.rate == pytest.approx(12.5)
    assert now.fraction == pytest.approx(0.5 / 11)


def test_target_is_checked_and_travels() -> None:
    target = Target(url="h:1", metadata=(("a", "b"),), ca_file="ca.pem", authority="x")
    assert Target.from_dict(target.to_dict()) == target
    assert target.is_secure
    assert not Target(url="h:1").is_secure
    for wrong in ({"url": ""}, {"url": "h:1", "key_file": "k"}, {"url": "h:1", "metadata": (("A", "b"),)}):
        with pytest.raises(ConfigError):
            Target(**wrong)
    with pytest.raises(ConfigError, match=r"ca_file ca\.pem: No such file"):
        target.credentials()


def test_cpu_share_counts_what_lies_within_the_run() -> None:
    part = windows(0, 0, 0)
    for window in part:
        window.cpu_ns = LENGTH // 2
    assert engine.cpu_shares([part, []], START, START + 2 * LENGTH) == [0.5, 0]
    assert engine.cpu_shares([part], START, START + LENGTH // 2) == []
