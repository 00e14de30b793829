"""Send times: each kind has its law, and processes together send what one would."""

from __future__ import annotations

import heapq
import statistics
from itertools import islice, pairwise
from typing import Any

import pytest

from runtime.clock import MILLISECOND, SECOND
from runtime.profiling.arrivals import offsets, parse_trace, shares
from runtime.profiling.records import Load

KINDS: list[dict[str, Any]] = [
    {"arrivals": "constant"},
    {"arrivals": "poisson"},
    {"arrivals": "burst", "burst": 7},
]


def load(**fields: Any) -> Load:
    return Load(mode="open", **{"rate": 500.0, **fields})


def test_constant_arrivals_never_drift() -> None:
    times = list(islice(offsets(load(arrivals="constant", rate=3.0)), 300_001))
    assert times[:3] == [0, 333_333_333, 666_666_667]
    assert times[-1] == 100_000 * SECOND


def test_bursts_keep_the_rate() -> None:
    times = list(islice(offsets(load(arrivals="burst", burst=5)), 15))
    assert times == [0] * 5 + [10 * MILLISECOND] * 5 + [20 * MILLISECOND] * 5


def test_poisson_gaps_have_the_mean_and_the_spread_of_the_law() -> None:
    times = list(islice(offsets(load()), 40_001))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert statistics.fmean(gaps) == pytest.approx(2 * MILLISECOND, rel=0.02)
    assert statistics.stdev(gaps) == pytest.approx(2 * MILLISECOND, rel=0.02)
    assert times == sorted(times)


def test_the_seed_decides_the_instants() -> None:
    first, again, other = (list(islice(offsets(load(seed=seed)), 100)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_seed_means_the_same_on_every_machine() -> None:
    assert list(islice(offsets(load(rate=1000.0, seed=7)), 3)) == [391_315, 554_833, 1_607_329]


def test_a_trace_is_followed_to_its_end() -> None:
    assert list(offsets(load(arrivals="trace", trace=(0, 5, 5, 9)))) == [0, 5, 5, 9]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind["arrivals"]))
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_processes_together_send_the_very_sequence_of_one(kind: dict[str, Any], processes: int) -> None:
    alone = list(islice(offsets(load(**kind)), 1000))
    dealt = [offsets(load(**kind, processes=processes), share) for share in range(processes)]
    assert list(islice(heapq.merge(*dealt), 1000)) == alone


def test_a_closed_loop_has_no_send_times() -> None:
    with pytest.raises(ValueError, match="closed"):
        offsets(Load(mode="closed"))


@pytest.mark.parametrize("share", [-1, 2])
def test_a_share_that_nobody_has_is_refused(share: int) -> None:
    with pytest.raises(ValueError, match="share"):
        offsets(load(processes=2), share)


@pytest.mark.parametrize(("total", "processes"), [(0, 3), (7, 3), (9, 3), (2, 5)])
def test_shares_add_up_and_differ_by_at_most_one(total: int, processes: int) -> None:
    dealt = shares(total, processes)
    assert (len(dealt), sum(dealt)) == (processes, total)
    assert max(dealt) - min(dealt) <= 1


def test_a_trace_file_is_read_sorted_and_from_zero() -> None:
    lines = ["# seconds\n", "1700000000.5\n", "\n", "1700000000.25  # the first\n"]
    assert parse_trace(lines) == (0, 250_000_000)


@pytest.mark.parametrize("lines", [[], ["# nothing"], ["1.0", "soon"], ["nan"], ["inf"]])
def test_a_trace_file_without_times_is_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"no request|not a time"):
        parse_trace(lines)
