"""How far the figures of a run can be trusted: confidence intervals over its windows.

Pure and deterministic: no resampling, no random numbers. Called by the reports, the search and the
comparison.

Requests that share a queue share its stalls: their latencies are not independent, and the textbook interval
of a quantile, which takes them to be, is far too narrow. Windows of a second or more hardly know of each
other. So the spread *between* windows says how many independent requests the run is worth, never more than
it has, and the exact interval is computed for that many. (A bootstrap over windows was the alternative:
with the 5 to 20 windows of a run it covers too seldom, since it has no answer to how uncertain the spread
itself is.)

An interval is honest about its end: where a run is too short to bound a figure, ``high`` is infinite
(``low`` 0). Windows are taken to be exchangeable: a run whose latency drifts from start to end has no
interval worth the name, and :mod:`runtime.profiling.stability` is what finds that out.

Source: Korn and Graubard, "Confidence intervals for proportions with small expected number of positive
counts estimated from survey data", Survey Methodology 24 (1998): effective sample size with correction for
the degrees of freedom; Woodruff, "Confidence intervals for medians and other position measures", JASA 47
(1952): from there to quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Final

from runtime.profiling.histogram import Histogram
from runtime.profiling.records import Window

CONFIDENCE: Final = 0.95

_NORMAL_FROM_DF: Final = 100
"""Degrees of freedom from which Student's t is computed from the normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the range that holds the true figure with the given confidence.

    Attributes:
        value: the estimate.
        low: lower end, 0 if the run does not bound it.
        high: upper end, infinite if the run does not bound it.
        confidence: share of runs whose interval holds the truth.
    """

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def to_dict(self) -> dict[str, float | None]:
        """What JSON can hold; an infinite end is None."""
        return {name: end if math.isfinite(end) else None for name, end in asdict(self).items()}


def percentile_interval(
    histograms: Sequence[Histogram], percentile: float, confidence: float = CONFIDENCE
) -> Interval | None:
    """Interval of a percentile of all windows together, in nanoseconds.

    Args:
        histograms: one for each window, all of the same thing.
        percentile: above 0, below 100.
        confidence: of the interval.

    Returns:
        The interval, its ends widened to the edges of their buckets; None if nothing was recorded.
    """
    merged = Histogram()
    for histogram in histograms:
        merged.merge(histogram)
    if not len(merged):
        return None
    q = percentile / 100
    parts = [h for h in histograms if len(h)]
    counts = [len(h) for h in parts]
    worth = _effective(merged.below(q * len(merged), parts), counts, q, confidence)
    low_rank, high_rank = _ranks(max(1, int(worth)), q, 1 - confidence)
    scale = len(merged) / max(1, int(worth))
    return Interval(
        value=merged.quantile(q),
        low=merged.bounds(max(1, math.floor(low_rank * scale)))[0] if low_rank else 0.0,
        high=merged.bounds(min(len(merged), math.ceil(high_rank * scale)))[1] if high_rank else math.inf,
        confidence=confidence,
    )


def share_interval(good: Sequence[int], of: Sequence[int], confidence: float = CONFIDENCE) -> Interval | None:
    """Interval of a share of requests, such as those answered in time.

    Args:
        good: for each window, how many are.
        of: for each window, out of how many.
        confidence: of the interval.

    Returns:
        The interval, within 0..1; None if there was no request.

    Source:
        Wilson's score interval (JASA 22, 1927), which holds for shares near 1 too.
    """
    total = sum(of)
    if not total:
        return None
    share = sum(good) / total
    worth = _effective(good, of, share, confidence)
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    centre = (share + z2 / (2 * worth)) / (1 + z2 / worth)
    half = math.sqrt(z2 * (share * (1 - share) / worth + z2 / (4 * worth**2))) / (1 + z2 / worth)
    return Interval(
        share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), confidence
    )


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Interval of the mean of figures that cannot be negative, one for each window (Student's t).

    Returns:
        The interval; None without a value. One value alone bounds nothing.
    """
    if not values:
        return None
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, 0.0, math.inf, confidence)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = student_t(n - 1, (1 + confidence) / 2) * spread
    return Interval(mean, max(0.0, mean - half), mean + half, confidence)


def achieved_interval(windows: Sequence[Window], confidence: float = CONFIDENCE) -> Interval | None:
    """Interval of the rate of OK answers, per second; windows should be of about the same length."""
    return mean_interval([window.achieved for window in windows], confidence)


def goodput_interval(
    windows: Sequence[Window], slo_ms: float, confidence: float = CONFIDENCE
) -> Interval | None:
    """Interval of the rate of OK answers within the SLO, per second."""
    return mean_interval([window.goodput(slo_ms) for window in windows], confidence)


def student_t(df: int, q: float) -> float:
    """Quantile q (0.5 to 1) of Student's t with df degrees of freedom, good to about five digits.

    Source:
        Abramowitz and Stegun, 26.7.3 and 26.7.4 (exact, for whole df), inverted by bisection; 26.7.5 for
        large df.
    """
    if df > _NORMAL_FROM_DF:
        z = NormalDist().inv_cdf(q)
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _within(df, middle) < 2 * q - 1:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(df)


def _within(df: int, angle: float) -> float:
    """Probability that ``|T| <= tan(angle) * sqrt(df)``."""
    cosine2 = math.cos(angle) ** 2
    odd = df % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(df // 2):
        total += term
        term *= cosine2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def _effective(good: Sequence[float], of: Sequence[int], share: float, confidence: float) -> float:
    """How many independent requests the windows are worth: at most as many as there are, at least 1.

    The design effect is the variance of the share as the windows show it, divided by what independent
    requests would have. It is never taken below 1, and it is itself uncertain if there are few windows: the
    correction widens the interval as Student's t would. Fewer than two windows show nothing: requests count
    as independent.
    """
    windows, total = len(of), sum(of)
    if windows < 2 or not 0 < share < 1:
        return float(total)
    between = math.fsum((g - share * n) ** 2 for g, n in zip(good, of, strict=True)) * windows / (windows - 1)
    effect = max(1.0, between / (total * share * (1 - share)))
    upper = (1 + confidence) / 2
    correction = (NormalDist().inv_cdf(upper) / student_t(windows - 1, upper)) ** 2
    return max(1.0, total / effect * correction)


def _ranks(n: int, q: float, alpha: float) -> tuple[int, int]:
    """Ranks of the order statistics that enclose quantile q of n independent values; 0 where none does.

    The value of rank r exceeds the quantile if fewer than r of n lie below it: a binomial probability.
    """
    spread = math.sqrt(n * q * (1 - q))
    first = max(0, math.floor(n * q - 12 * spread - 12))
    last = min(n, math.ceil(n * q + 12 * spread + 12))
    log_first = math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
    chance = math.exp(log_first + first * math.log(q) + (n - first) * math.log1p(-q))
    below, low, high = 0.0, 0, 0
    for k in range(first, last + 1):
        below += chance
        if below <= alpha / 2:
            low = k + 1
        if not high and below >= 1 - alpha / 2:
            high = k + 1
            break
        chance *= (n - k) / (k + 1) * q / (1 - q)
    return low, high if high <= n else 0
