"""Real generator processes against a real server that does as it is told."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from runtime.errors import NotReady
from runtime.profiling import processes
from runtime.profiling.engine import run
from runtime.profiling.records import Load, Outcome, Run
from runtime.profiling.target import Target
from runtime.profiling.timeline import Progress
from tests.profiling.synthetic import Synthetic, deck

GENERATOR = b"runtime.profiling.generator"


def closed(**fields: object) -> Load:
    return Load(**{"mode": "closed", "concurrency": 4, "warm_up_s": 0.1, "duration_s": 0.5} | fields)


def opened(**fields: object) -> Load:
    given = {"mode": "open", "rate": 200.0, "arrivals": "constant", "warm_up_s": 0.1, "duration_s": 1.0}
    return Load(**given | fields)


def counts(made: Run) -> dict[Outcome, int]:
    return {outcome: made.total.counts[outcome] for outcome in Outcome}


def test_closed_loop_keeps_its_calls_in_flight(server: Synthetic) -> None:
    made = run(server.target, closed(concurrency=3), deck("delay 50"))
    assert 3 * 7 <= made.total.ok <= 3 * 10
    assert made.total.response.min_ns >= 50_000_000
    assert max(row[5] for row in made.timeline) == 3
    assert not len(made.total.slip)


def test_open_loop_offers_its_schedule_whatever_the_answers_do(server: Synthetic) -> None:
    made = run(server.target, opened(), deck("delay 300"))
    assert counts(made) == {o: 200 if o is Outcome.OK else 0 for o in Outcome}
    assert len(made.total.slip) == 200
    assert made.total.seconds == pytest.approx(1.0)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_one_schedule(server: Synthetic, processes: int) -> None:
    made = run(server.target, opened(arrivals="poisson", processes=processes, seed=5), deck("echo"))
    alone = run(server.target, opened(arrivals="poisson", seed=5), deck("echo"))
    assert [w.requests for w in made.windows] == [w.requests for w in alone.windows]


def test_outcomes_are_counted_apart(server: Synthetic) -> None:
    requests = deck("echo", "fail 13", "fail 8", "fail 14", "fail 4")
    made = run(server.target, opened(), requests)
    assert counts(made) == {
        Outcome.OK: 40, Outcome.FAILED: 40, Outcome.REJECTED: 80, Outcome.EXPIRED: 40, Outcome.DROPPED: 0,
    }  # fmt: skip
    assert len(made.total.response) == len(made.total.service) == 40
    assert len(made.total.slip) == 200


def test_rows_of_answered_requests_are_summed(server: Synthetic) -> None:
    made = run(server.target, opened(), deck("echo", "fail 13", rows=3))
    assert made.total.rows == 300


def test_deadline_ends_calls(server: Synthetic) -> None:
    made = run(server.target, opened(timeout_ms=100), deck("echo", "hold"))
    assert counts(made)[Outcome.EXPIRED] == 100
    assert counts(made)[Outcome.OK] == 100


def test_calls_beyond_the_bound_are_dropped(server: Synthetic) -> None:
    made = run(server.target, opened(max_in_flight=5, timeout_ms=3000), deck("hold"))
    assert counts(made)[Outcome.DROPPED] >= 195
    assert made.total.requests == 200


def test_calls_that_are_never_answered_count_as_expired(server: Synthetic) -> None:
    """An early stop shortens the patience; without one the same happens after ten seconds."""
    stop = threading.Event()
    in_flight: list[int] = []

    def look(progress: Progress) -> None:
        in_flight.append(progress.in_flight)
        if progress.elapsed_s > 0.5:
            stop.set()

    made = run(server.target, closed(duration_s=60, warm_up_s=0), deck("hold"), progress=look, stop=stop)
    assert max(in_flight) == 4
    assert counts(made)[Outcome.EXPIRED] == made.total.requests == 4


def test_stop_keeps_what_was_measured(server: Synthetic) -> None:
    stop = threading.Event()
    made = run(
        server.target,
        opened(duration_s=60),
        deck("echo"),
        progress=lambda p: stop.set() if p.elapsed_s > 0.6 else None,
        stop=stop,
    )
    assert made.total.ok == made.total.requests > 50
    assert made.total.seconds < 5
    assert made.total.offered == pytest.approx(200, rel=0.1)


def test_count_ends_the_run(server: Synthetic) -> None:
    for load in (
        closed(count=57),
        opened(count=57),
        closed(count=57, processes=2),
        opened(count=57, processes=2),
    ):
        assert run(server.target, load, deck("echo")).total.requests == 57


def test_trace_is_followed(server: Synthetic) -> None:
    trace = (0, 1_000_000, 200_000_000, 200_000_000, 450_000_000)
    made = run(server.target, opened(arrivals="trace", trace=trace, warm_up_s=0), deck("delay 5"))
    assert made.total.ok == 5
    assert [w.requests for w in made.windows[:5]] == [2, 0, 2, 0, 1]


def test_server_that_dies_is_seen_and_ends_nothing_else(server: Synthetic) -> None:
    killed = threading.Event()

    def kill(progress: Progress) -> None:
        if progress.elapsed_s > 0.5 and not killed.is_set():
            killed.set()
            server.signal(signal.SIGKILL)

    for load in (opened(duration_s=1.5), closed(duration_s=1.5)):
        killed.clear()
        with Synthetic() as other:
            server = other
            made = run(other.target, load, deck("echo"), progress=kill)
        assert counts(made)[Outcome.OK] > 0
        assert counts(made)[Outcome.REJECTED] > 0
        assert made.total.seconds == pytest.approx(1.5)
        if load.mode == "open":
            assert made.total.requests == 300
        else:
            assert counts(made)[Outcome.REJECTED] < 4 * 200  # those refused pause


def test_nobody_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CONNECT_S", 0.5)
    with pytest.raises(NotReady, match=r"127\.0\.0\.1:1: no answer"):
        run(Target(url="127.0.0.1:1"), closed(), deck("echo"))


def test_the_public_sender_counts_the_same(server: Synthetic) -> None:
    requests = deck("echo", "fail 13", "fail 8", "hold")
    made = run(server.target, opened(timeout_ms=200), requests, sender="public")
    assert [made.total.counts[outcome] for outcome in Outcome] == [50, 50, 50, 50, 0]


def test_no_process_is_left(server: Synthetic) -> None:
    run(server.target, closed(processes=2), deck("echo"))
    assert [process for process in Path("/proc").glob("[0-9]*") if is_our_generator(process)] == []


def is_our_generator(process: Path) -> bool:
    try:
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        return parent == os.getpid() and GENERATOR in (process / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return False


def test_timeline_has_every_answer(server: Synthetic) -> None:
    made = run(server.target, opened(warm_up_s=0), deck("delay 20", "fail 13"))
    assert sum(row[1] for row in made.timeline) == made.total.ok == 100
    assert sum(row[2] for row in made.timeline) == 100
    assert [row[0] for row in made.timeline] == list(range(0, 100 * len(made.timeline), 100))
