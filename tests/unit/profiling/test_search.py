"""The search against servers whose capacity is known; sweeps; the knee."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable

import pytest

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.intervals import Interval, share_interval
from runtime.profiling.records import Load, Outcome, Run, Window
from runtime.profiling.search import SearchResult, SloSearch, Trial, knee, parse_sweep

CAPACITY = 1000.0
LIMIT_MS = 50.0
TRUTH = CAPACITY - math.log(100) / (LIMIT_MS / 1000)
"""Where p99 of the response time of a queue with exponential service is the limit: 907.9 requests/s."""


def queue_share(rate: float) -> float:
    """Share of the requests that such a queue answers within the limit."""
    return 1 - math.exp(-max(0.0, CAPACITY - rate) * LIMIT_MS / 1000)


def measured(rate: float, share: float, rng: random.Random) -> Trial:
    """What ten windows of a second would show of this share."""
    per_window = max(1, round(rate))
    noise = math.sqrt(share * (1 - share) * per_window)
    good = [min(per_window, max(0, round(rng.gauss(share * per_window, noise)))) for _ in range(10)]
    return Trial(rate, share_interval(good, [per_window] * 10))


def drive(search: SloSearch, answer: Callable[[float], Trial]) -> SearchResult:
    for _ in range(200):
        rate = search.next_rate
        if rate is None:
            return search.result()
        search.tell(answer(rate))
    raise AssertionError("the search does not end")


def certain(rate: float, share: float) -> Trial:
    return Trial(rate, Interval(share, share, share))


@pytest.mark.parametrize("seed", range(10))
def test_the_answer_keeps_at_95_and_breaks_at_105_percent(seed: int) -> None:
    rng = random.Random(seed)
    search = SloSearch(99, LIMIT_MS, low=10, high=10_000)
    found = drive(search, lambda rate: measured(rate, queue_share(rate), rng))
    assert found.rate is not None
    assert queue_share(0.95 * found.rate) >= 0.99 > queue_share(1.05 * found.rate)
    assert found.rate == pytest.approx(TRUTH, rel=0.05)
    assert len(found.trials) <= 30


def test_the_gap_is_within_the_resolution_and_both_ends_were_tried_twice() -> None:
    search = SloSearch(99, LIMIT_MS, low=10, high=10_000, resolution=0.01)
    found = drive(search, lambda rate: certain(rate, queue_share(rate)))
    assert found.rate is not None
    assert found.broken is not None
    assert found.rate < TRUTH < found.broken <= found.rate * 1.01
    for end in (found.rate, found.broken):
        assert sum(trial.rate == end for trial in found.trials) == 2
    assert found.reason == f"{found.rate:g}/s keeps the SLO; at {found.broken:g}/s the SLO breaks"


def test_one_stall_on_the_way_up_does_not_decide() -> None:
    stalled = 40.0

    def answer(rate: float) -> Trial:
        nonlocal stalled
        if rate == stalled:
            stalled = -1.0
            return certain(rate, 0.5)
        return certain(rate, queue_share(rate))

    found = drive(SloSearch(99, LIMIT_MS, low=10, high=10_000), answer)
    assert found.rate == pytest.approx(TRUTH, rel=0.02)


def test_a_lucky_trial_is_overturned() -> None:
    lucky = True

    def answer(rate: float) -> Trial:
        nonlocal lucky
        if 900 < rate < 2000 and lucky:
            lucky = False
            return certain(rate, 1.0)
        return certain(rate, queue_share(rate))

    found = drive(SloSearch(99, LIMIT_MS, low=10, high=10_000), answer)
    assert found.rate == pytest.approx(TRUTH, rel=0.02)


def test_a_close_rate_is_decided_by_the_majority_of_three() -> None:
    shares = iter([0.995, 0.985, 0.992])
    search = SloSearch(99, LIMIT_MS, low=100, high=100)
    found = drive(search, lambda rate: Trial(rate, Interval(next(shares), 0.98, 0.999)))
    assert (found.rate, len(found.trials)) == (100.0, 3)


def test_a_range_that_breaks_at_once_has_no_answer_after_two_trials() -> None:
    found = drive(SloSearch(99, LIMIT_MS, low=10, high=100), lambda rate: certain(rate, 0.2))
    assert (found.rate, found.broken, len(found.trials)) == (None, 10.0, 2)
    assert found.reason == "at the lowest rate, 10/s, the SLO breaks"


def test_a_range_that_never_breaks_ends_at_its_top() -> None:
    found = drive(SloSearch(99, LIMIT_MS, low=10, high=100), lambda rate: certain(rate, 1.0))
    assert (found.rate, found.broken) == (100.0, None)
    assert [trial.rate for trial in found.trials] == [10, 20, 40, 80, 100, 100]
    assert found.reason == "the highest rate, 100/s, keeps the SLO"


def test_a_generator_at_its_limit_ends_the_search_there_and_is_named() -> None:
    def answer(rate: float) -> Trial:
        return Trial(rate, Interval(1.0, 1.0, 1.0), ("its processor was busy",) if rate > 300 else ())

    found = drive(SloSearch(99, LIMIT_MS, low=10, high=10_000), answer)
    assert found.rate == pytest.approx(300, rel=0.02)
    assert "the generator was the limit (its processor was busy)" in found.reason


def test_few_requests_without_a_miss_do_not_cost_repeats() -> None:
    found = drive(
        SloSearch(99, LIMIT_MS, low=1, high=8), lambda rate: Trial(rate, share_interval([10, 10], [10, 10]))
    )
    assert [trial.rate for trial in found.trials] == [1, 2, 4, 8, 8]


def test_a_trial_without_a_request_breaks() -> None:
    found = drive(SloSearch(99, LIMIT_MS, low=1, high=8), lambda rate: Trial(rate, None))
    assert found.rate is None


@pytest.mark.parametrize("seed", range(20))
def test_a_server_that_answers_at_random_cannot_keep_the_search_going(seed: int) -> None:
    rng = random.Random(seed)
    found = drive(
        SloSearch(99, LIMIT_MS, low=1, high=1e6, resolution=0.002),
        lambda rate: certain(rate, rng.choice([0.5, 1.0])),
    )
    assert len(found.trials) <= 100
    assert found.reason


def test_no_search_makes_more_than_a_hundred_trials() -> None:
    search = SloSearch(99, LIMIT_MS, low=10, high=100, repeats=201)
    found = drive(search, lambda rate: Trial(rate, Interval(0.99, 0.98, 0.995)))
    assert (len(found.trials), found.reason) == (100, "no answer within 100 trials")


def test_without_repeats_each_rate_is_tried_once() -> None:
    search = SloSearch(99, LIMIT_MS, low=10, high=10_000, repeats=1)
    rates = [trial.rate for trial in drive(search, lambda rate: certain(rate, queue_share(rate))).trials]
    assert len(rates) == len(set(rates))


def test_a_trial_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not asked for"):
        SloSearch(99, LIMIT_MS, low=10, high=100).tell(certain(11.0, 1.0))


def test_a_search_under_way_says_so() -> None:
    search = SloSearch(99, LIMIT_MS, low=10, high=100)
    search.tell(certain(10.0, 1.0))
    found = search.result()
    assert (found.rate, found.reason, search.trials) == (10.0, "the search has not ended", found.trials)


@pytest.mark.parametrize(
    ("percentile", "limit_ms", "low", "high", "resolution", "repeats"),
    [
        (0, 1, 1, 2, 0.02, 3),
        (100, 1, 1, 2, 0.02, 3),
        (99, 0, 1, 2, 0.02, 3),
        (99, 1, 0, 2, 0.02, 3),
        (99, 1, 3, 2, 0.02, 3),
        (99, 1, 1, math.inf, 0.02, 3),
        (99, 1, 1, 2, 0.0, 3),
        (99, 1, 1, 2, 0.02, 2),
    ],
)
def test_a_search_that_cannot_work_is_refused(
    percentile: float, limit_ms: float, low: float, high: float, resolution: float, repeats: int
) -> None:
    with pytest.raises(ValueError, match=r"percentile|limit|range|resolution|repeats"):
        SloSearch(percentile, limit_ms, low, high, resolution, repeats)


def test_every_request_due_counts_in_a_trial() -> None:
    window = Window(0, SECOND)
    window.counts = [0] * len(Outcome)
    window.counts[Outcome.OK] = 6
    window.counts[Outcome.REJECTED] = 3
    window.counts[Outcome.DROPPED] = 1
    window.response.record(MILLISECOND, 5)
    window.response.record(SECOND)
    trial = Trial.of(Run(Load(mode="open", rate=10), [window], invalid=["slipped"]), 10.0, LIMIT_MS)
    assert trial.share is not None
    assert (trial.share.value, trial.invalid) == (0.5, ("slipped",))


def test_a_result_can_be_written_as_json() -> None:
    found = drive(SloSearch(99, LIMIT_MS, low=10, high=100), lambda rate: Trial(rate, None))
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["trials"] == [{"rate": 10.0, "share": None, "invalid": []}] * 2


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", [4]),
        ("1,2, 8", [1, 2, 8]),
        ("1:4", [1, 2, 3, 4]),
        ("100:350:100", [100, 200, 300]),
        ("1:64:x2", [1, 2, 4, 8, 16, 32, 64]),
        ("1:65:x2", [1, 2, 4, 8, 16, 32, 64]),
        ("0.1:0.5:0.1", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("1:1:x2", [1]),
        ("2,1:3", [2, 1, 3]),
    ],
)
def test_a_sweep_names_its_values(text: str, values: list[float]) -> None:
    assert parse_sweep(text) == pytest.approx(values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "many",
        "1,,2",
        "0",
        "-1",
        "1:2:3:4",
        "4:1",
        "1:4:x1",
        "1:4:0",
        "1:4:x",
        "inf",
        "nan",
        "1:inf",
        "1:1e9",
    ],
)
def test_a_sweep_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has a message of its own
        parse_sweep(text)


def saturating(concurrency: int) -> tuple[float, float]:
    """A server of 1000/s that needs 8 ms for one: (throughput, latency in ms)."""
    throughput = min(concurrency / 0.008, 1000.0)
    return throughput, 1000 * concurrency / throughput


def test_the_knee_is_where_the_server_saturates() -> None:
    sweep = [1, 2, 4, 8, 16, 32, 64]
    assert sweep[knee([saturating(n) for n in sweep])] == 8


@pytest.mark.parametrize("first", [1, 4, 8])
@pytest.mark.parametrize("last", [16, 64, 1024])
def test_the_ends_of_the_sweep_do_not_move_the_knee(first: int, last: int) -> None:
    sweep = list(range(first, last + 1))
    assert sweep[knee([saturating(n) for n in sweep])] == 8


@pytest.mark.parametrize("points", [[], [(10.0, 0.0)]])
def test_points_without_a_latency_have_no_knee(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="no point"):
        knee(points)
