"""Reported percentiles against what the schedule and the server's law say they must be."""

from __future__ import annotations

import math
import random
import signal
import statistics
import threading
import time

import pytest

from runtime.profiling.engine import run
from runtime.profiling.intervals import percentile_interval
from runtime.profiling.records import Load
from tests.profiling.synthetic import Synthetic, deck

GOLDEN = (math.sqrt(5) - 1) / 2
TOLERANCE = 0.02
MS = 1e6


def rank(values: list[float], percent: float) -> float:
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["open", "closed"])
def test_known_law_is_found_again(server: Synthetic, mode: str) -> None:
    """Delays of 240 ms up to 1.04 s; the order is evenly spread, so that any stretch of it shows the law."""
    delays = [240 + 800 * (index * GOLDEN % 1) ** 4 for index in range(1, 2001)]
    load = Load(mode=mode, rate=150, concurrency=60, arrivals="poisson", warm_up_s=0.5, duration_s=6)
    total = run(server.target, load, deck(*(f"delay {delay:.4f}" for delay in delays))).total
    for percent in (50, 90, 99):
        assert total.service.percentile(percent) / MS == pytest.approx(rank(delays, percent), rel=TOLERANCE)
        assert total.response.percentile(percent) / MS == pytest.approx(rank(delays, percent), rel=TOLERANCE)


@pytest.mark.slow
def test_freeze_of_the_server_shows_in_full(server: Synthetic) -> None:
    """500 requests a second for 20 s; stopped for 6 s, and whoever was due then has waited for its end."""
    base_ms, rate, seconds, frozen_s = 200, 500, 20, 6
    load = Load(mode="open", rate=rate, arrivals="constant", warm_up_s=0, duration_s=seconds)
    instants: list[int] = []
    pause = threading.Event()  # never set

    def freeze() -> None:
        pause.wait(7)
        server.signal(signal.SIGSTOP)
        instants.append(time.monotonic_ns())
        pause.wait(frozen_s)
        instants.append(time.monotonic_ns())
        server.signal(signal.SIGCONT)

    freezing = threading.Thread(target=freeze)
    freezing.start()
    made = run(server.target, load, deck(f"delay {base_ms}"))
    freezing.join()
    total, (stopped, resumed) = made.total, instants
    start = made.windows[0].start_ns
    expected = []
    for index in range(rate * seconds):
        due = start + index * 1_000_000_000 // rate
        if due + base_ms * MS < stopped or due >= resumed:
            expected.append(base_ms)
        elif due < stopped:  # had arrived: answered when the server goes on
            expected.append((resumed - due) / MS)
        else:  # arrives when the server goes on
            expected.append((resumed - due) / MS + base_ms)
    assert total.ok == total.requests == rate * seconds
    for percent in (50, 90, 99, 100):
        assert total.response.percentile(percent) / MS == pytest.approx(
            rank(expected, percent), rel=TOLERANCE
        )
    assert total.slip.percentile(99) < 100 * MS  # the schedule went on all the while


@pytest.mark.slow
def test_intervals_of_equal_runs_cover_their_grand_median(server: Synthetic) -> None:
    intervals = []
    for repeat in range(20):
        source = random.Random(repeat)
        delays = (source.lognormvariate(math.log(30), 0.5) for _ in range(1000))
        load = Load(mode="open", rate=300, warm_up_s=0.1, duration_s=1.5, seed=repeat)
        made = run(server.target, load, deck(*(f"delay {delay:.3f}" for delay in delays)))
        found = percentile_interval([window.response for window in made.windows], 50)
        assert found is not None
        intervals.append(found)
    grand = statistics.median(found.value for found in intervals)
    assert sum(found.low <= grand <= found.high for found in intervals) >= 18
