"""How long a batch will take: learned within what noise permits, and silent while nothing is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from statistics import median

import pytest

from runtime.batching.latency import TRAINED, UNSEEN, LatencyCurve
from runtime.clock import MILLISECOND

ROWS = 32


def linear(rows: float, alpha: float = 3.0, beta: float = 0.15) -> float:
    """Nanoseconds of a model that gains from batching."""
    return (alpha + beta * rows) * MILLISECOND


def executions(
    count: int, *, noise: float = 0.05, outliers: float = 0.0, factor: float = 1.0, seed: int = 1
) -> Iterator[tuple[int, float, bool]]:
    """Batches of random size: rows, the factor that chance put on the time, whether it is an outlier."""
    chance = random.Random(seed)
    for _ in range(count):
        rows = chance.randint(1, ROWS)
        is_outlier = chance.random() < outliers
        yield rows, chance.lognormvariate(0, noise) * (factor if is_outlier else 1.0), is_outlier


def errors(
    curve: LatencyCurve, runs: Iterator[tuple[int, float, bool]], cost: Callable[[float], float] = linear
) -> list[float]:
    """Relative errors of the predictions, ascending; each is made before its batch was seen."""
    found = []
    for rows, by_chance, is_outlier in runs:
        if not is_outlier:
            found.append(abs(curve.mean(rows) / cost(rows) - 1.0))
        curve.observe(rows, cost(rows) * by_chance)
    return sorted(found)


def p95(values: Sequence[float]) -> float:
    return values[int(0.95 * len(values))]


def trained(cost: Callable[[float], float] = linear, *, seed: int = 2) -> LatencyCurve:
    curve = LatencyCurve(ROWS)
    errors(curve, executions(400, seed=seed), cost)
    return curve


def exact(cost: Callable[[float], float], sizes: Sequence[int], *, times: int = 10) -> LatencyCurve:
    """A curve that has seen each of the sizes so often, without noise."""
    curve = LatencyCurve(ROWS)
    for _ in range(times):
        for rows in sizes:
            curve.observe(rows, cost(rows))
    return curve


# -- nothing known yet ------------------------------------------------------------------------------


def test_a_curve_that_knows_nothing_says_nothing() -> None:
    curve = LatencyCurve(ROWS)
    assert not curve.known
    assert (curve.mean(1), curve.mean(ROWS), curve.high(1), curve.alpha, curve.knots()) == (0, 0, 0, 0, [])
    assert curve.efficient(20) == 20


def test_nothing_is_promised_before_enough_real_batches() -> None:
    curve = LatencyCurve(ROWS, profile={1: linear(1), ROWS: linear(ROWS)})
    for _ in range(TRAINED - 1):
        curve.observe(4, linear(4))
    assert (curve.high(1), curve.high(4)) == (0.0, 0.0)
    curve.observe(4, linear(4))
    assert curve.high(4) > curve.mean(4)


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 32])
def test_one_size_alone_makes_the_others_as_cheap_as_they_may_be(rows: int) -> None:
    curve = LatencyCurve(ROWS)
    for _ in range(20):
        curve.observe(rows, 8e6)
    assert curve.mean(rows) == pytest.approx(8e6, rel=0.01)
    assert curve.mean(ROWS) <= 8e6 * 1.5
    assert curve.mean(1) <= 8e6
    assert curve.efficient(ROWS) == ROWS


def test_the_gain_of_one_batch_less_is_no_guess_from_a_few_batches_of_one_size() -> None:
    curve = LatencyCurve(ROWS)
    for _ in range(TRAINED - 1):
        curve.observe(1, 3e6)
        assert curve.alpha == 0.0
    curve.observe(1, 3e6)
    assert curve.alpha == pytest.approx(3e6)  # worth a try: the batch that it leads to will tell
    curve.observe(2, 6e6)
    assert curve.alpha == pytest.approx(0.0, abs=1e3)


def test_a_model_of_one_row_gains_nothing_from_batching() -> None:
    curve = LatencyCurve(1)
    for _ in range(20):
        curve.observe(1, 5e6)
    assert (curve.mean(1), curve.alpha) == (pytest.approx(5e6), 0.0)


# -- what it learns ---------------------------------------------------------------------------------


def test_little_noise_leaves_little_error() -> None:
    curve = trained()
    found = errors(curve, executions(2000))
    assert median(found) < 0.015
    assert p95(found) < 0.04
    assert curve.alpha == pytest.approx(3e6, rel=0.1)


def test_much_noise_and_outliers_leave_less_error_than_they_bring() -> None:
    found = errors(trained(), executions(2000, noise=0.2, outliers=0.02, factor=5.0))
    assert median(found) < 0.055
    assert p95(found) < 0.16


def test_three_outliers_in_succession_hardly_move_it() -> None:
    curve = trained()
    before = curve.mean(9)
    for _ in range(3):
        curve.observe(9, before * 5.0)
    assert curve.mean(9) == pytest.approx(before, rel=0.16)
    assert curve.mean(30) == pytest.approx(linear(30), rel=0.05)


@pytest.mark.parametrize("step", [1.6, 1 / 1.6, 5.0])
def test_a_step_in_speed_is_followed_within_a_few_batches_for_all_sizes(step: float) -> None:
    curve = trained()
    found = errors(curve, executions(30), lambda rows: linear(rows) * step)
    assert median(found) < 0.08
    for rows in (1, 2, 8, 15, ROWS):
        assert curve.mean(rows) == pytest.approx(linear(rows) * step, rel=0.1)


def test_one_batch_in_twenty_takes_longer_than_promised() -> None:
    for noise in (0.05, 0.2):
        curve = trained()
        late = 0
        for rows, by_chance, _ in executions(4000, noise=noise, seed=5):
            ns = linear(rows) * by_chance
            late += ns > curve.high(rows)
            curve.observe(rows, ns)
        assert 0.03 < late / 4000 < 0.07


def test_sizes_that_were_never_executed_lie_on_the_line_through_their_neighbours() -> None:
    curve = exact(linear, [4, 8])
    for rows in (1, 2, 6, 16, ROWS, 40):
        assert curve.mean(rows) == pytest.approx(linear(rows), rel=0.01)
    assert [rows for rows, _, _ in curve.knots()] == [4, 8]


def test_a_fraction_of_a_row_costs_what_lies_between() -> None:
    curve = exact(linear, [1, 2, 4])
    assert curve.mean(2.5) == pytest.approx(linear(2.5), rel=0.001)


def test_a_slow_first_execution_is_forgotten_when_the_next_is_not_slow() -> None:
    curve = LatencyCurve(ROWS)
    curve.observe(1, 100 * linear(1))
    curve.observe(1, linear(1))
    assert curve.mean(1) == pytest.approx(linear(1))


def test_a_slow_first_execution_of_a_large_batch_makes_others_no_dearer_than_single_rows() -> None:
    curve = LatencyCurve(ROWS)
    curve.observe(ROWS, 100 * linear(ROWS))
    for _ in range(TRAINED):
        curve.observe(1, linear(1))
    for rows in (2, 8, ROWS):
        assert curve.high(rows) < 1.2 * rows * linear(1)
    for _ in range(2):
        curve.observe(ROWS, linear(ROWS))
    assert curve.mean(ROWS) == pytest.approx(linear(ROWS), rel=0.05)


def test_batches_larger_than_the_limit_and_times_of_zero_do_no_harm() -> None:
    curve = trained()
    before = curve.mean(ROWS)
    curve.observe(ROWS + 1, 1e12)
    assert (curve.mean(ROWS), curve.batches) == (before, 400)
    curve.observe(ROWS, 0.0)
    assert curve.mean(ROWS) > 0.0


# -- profiles and other keys' curves ----------------------------------------------------------------


def test_a_profile_is_believed_at_once() -> None:
    curve = LatencyCurve(ROWS, profile={1: linear(1), 4: linear(4), ROWS: linear(ROWS)})
    assert (curve.known, curve.batches) == (True, 0)
    for rows in (1, 2, 8, ROWS):
        assert curve.mean(rows) == pytest.approx(linear(rows))
    assert curve.alpha == pytest.approx(3e6)


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_a_profile_that_is_wrong_by_ten_is_outgrown(factor: float) -> None:
    sizes = (1, 2, 4, 8, 16, 32)
    curve = LatencyCurve(ROWS, profile={rows: factor * linear(rows) for rows in sizes})
    errors(curve, executions(20))
    for rows in sizes:
        assert curve.mean(rows) == pytest.approx(linear(rows), rel=0.25)
    errors(curve, executions(300, seed=2))
    for rows in sizes:
        assert curve.mean(rows) == pytest.approx(linear(rows), rel=0.1)


def test_a_profile_of_far_too_large_batches_says_nothing() -> None:
    assert not LatencyCurve(8, profile={100: 1e6}).known


def test_another_key_s_curve_is_a_hint_that_a_few_batches_outweigh() -> None:
    parent = trained()
    curve = parent.copy()
    assert (curve.known, curve.batches, curve.high(1)) == (True, 0, 0.0)
    assert [curve.mean(rows) for rows in (1, 7, ROWS)] == [parent.mean(rows) for rows in (1, 7, ROWS)]
    errors(curve, executions(60), lambda rows: 3.0 * linear(rows))
    for rows in (1, 8, ROWS):
        assert curve.mean(rows) == pytest.approx(3.0 * linear(rows), rel=0.15)
    assert parent.mean(8) == pytest.approx(linear(8), rel=0.05)


# -- padding and cliffs -----------------------------------------------------------------------------


def test_allowed_sizes_make_steps() -> None:
    sizes = (4, 8, 32)
    curve = LatencyCurve(ROWS, sizes)
    for _ in range(10):
        for rows in (1, 4, 5, 8, 9, 32):
            curve.observe(rows, linear(min(size for size in sizes if size >= rows)))
    for rows, size in ((1, 4), (4, 4), (5, 8), (8, 8), (9, 32), (32, 32)):
        assert curve.mean(rows) == pytest.approx(linear(size), rel=0.01)
    assert curve.alpha == pytest.approx(linear(4), rel=0.01)  # two rows cost as much as one
    assert [rows for rows, _, _ in curve.knots()] == list(sizes)
    assert curve.copy().mean(9) == curve.mean(9)


def test_a_profile_fits_allowed_sizes() -> None:
    curve = LatencyCurve(ROWS, (4, 32), {3: 4e6, 32: 9e6})
    assert [curve.mean(rows) for rows in (1, 4, 5, 32)] == [4e6, 4e6, 9e6, 9e6]


def test_rows_that_would_be_padded_far_wait_for_the_next_batch() -> None:
    curve = LatencyCurve(ROWS, (16, 32))
    for _ in range(10):
        curve.observe(16, 8e6)
        curve.observe(32, 14e6)
    assert [curve.efficient(rows) for rows in (1, 16, 17, 30, 32)] == [1, 16, 16, 30, 32]


def test_a_memory_cliff_is_not_stepped_over() -> None:
    curve = exact(lambda rows: linear(rows) + (12e6 if rows > 16 else 0.0), [1, 4, 16, 32])
    assert curve.efficient(32) == 16
    assert curve.efficient(16) == 16


def test_rows_that_gain_from_batching_are_never_cut() -> None:
    curve = trained()
    assert [curve.efficient(rows) for rows in range(1, ROWS + 1)] == list(range(1, ROWS + 1))


def test_only_what_was_executed_is_reason_to_cut() -> None:
    profiled = LatencyCurve(ROWS, profile={1: 1e6, 16: 2e6, 32: 20e6})
    assert profiled.efficient(32) == 32


def test_a_size_that_is_avoided_is_tried_again_after_a_while() -> None:
    curve = exact(lambda rows: linear(rows) + (12e6 if rows > 16 else 0.0), [1, 4, 16, 32])
    for _ in range(UNSEEN):
        assert curve.efficient(32) == 16
        curve.observe(16, linear(16))
    for _ in range(UNSEEN):
        curve.observe(16, linear(16))
    assert curve.efficient(32) == 32


def test_what_was_learned_in_a_stall_does_not_keep_large_batches_away_for_ever() -> None:
    curve = trained()
    for rows in (1, 4, 16, 32) * 8:
        curve.observe(rows, 10 * linear(rows))
    for _ in range(2 * UNSEEN):  # all that is still tried
        curve.observe(1, linear(1))
    assert curve.mean(32) < 32 * 1.1 * linear(1)
