"""Which loads to try: sweeps, the search for the highest rate that keeps an SLO, and the knee of a sweep.

Pure: the search asks for a rate and is told what came of it; whoever drives it runs the load.

A rate keeps the SLO "p99 within 50 ms" if at least 99 % of *all* requests due are answered OK within 50 ms.
One that was dropped, refused or failed is as bad as a late one: a server cannot keep an SLO by answering
only a few.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.profiling.intervals import Interval, share_interval
from runtime.profiling.records import Run

_MOST_TRIALS: Final = 100
_MOST_VALUES: Final = 10_000
_DIGITS: Final = 4
"""Significant digits of the rates that are asked for."""


class Answer(enum.Enum):
    """What one or more trials say about a rate."""

    KEEPS = "keeps"
    BREAKS = "breaks"
    CLOSE = "close"  # the interval holds the bound: another trial may decide


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a load at one rate.

    Attributes:
        rate: offered requests per second.
        share: of the requests due, how many were answered OK within the limit; None if none was due.
        invalid: why the generator was the limit, empty if it was not.
    """

    rate: float
    share: Interval | None
    invalid: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run, rate: float, limit_ms: float) -> Trial:
        """Sum up a run."""
        good = [window.ok - window.late(limit_ms) for window in run.windows]
        share = share_interval(good, [window.requests for window in run.windows])
        return cls(rate, share, tuple(run.invalid))

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        share = self.share and self.share.to_dict()
        return {"rate": self.rate, "share": share, "invalid": list(self.invalid)}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """How a search ended.

    Attributes:
        rate: the highest rate that keeps the SLO; None if even the lowest breaks it.
        broken: the lowest rate that breaks it; None if none of the range does.
        reason: what ended the search, for people.
        trials: all that was tried, in order.
    """

    rate: float | None
    broken: float | None
    reason: str
    trials: tuple[Trial, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        trials = [trial.to_dict() for trial in self.trials]
        return {"rate": self.rate, "broken": self.broken, "reason": self.reason, "trials": trials}


@dataclass(slots=True)
class SloSearch:
    """Finds the highest rate that keeps a percentile of the response time within a limit.

    Ask :attr:`next_rate`, run that load, :meth:`tell`; until ``next_rate`` is None. Then :meth:`result`.

    The steps, each computed anew from all trials so far:
        1. ``low`` is tried; if it breaks, there is no answer.
        2. The rate is doubled until it breaks, or ``high`` keeps.
        3. The gap between keeping and breaking is halved (in ratio) until it is within ``resolution``.
        4. Both ends of the gap are tried a second time, so that neither luck nor one stall decides.

    A trial whose interval holds the bound is repeated, and so is a rate whose trials disagree: then the
    majority of ``repeats`` trials decides, by their estimates. If a rate is overturned, the search goes on
    from where that leads. A trial in which the generator was the limit counts as breaking: nothing above
    can be measured. One in which no request missed keeps, however few they were; the second trial guards
    against luck.

    It ends by itself: a rate has at most ``repeats`` trials, a new rate lies within an ever smaller gap,
    and at most 100 trials are made in all.

    Attributes:
        percentile: of the response time, above 0, below 100.
        limit_ms: what it must not exceed.
        low: lowest rate of interest, requests per second.
        high: highest rate of interest.
        resolution: relative width of the gap at which the search stops.
        repeats: most trials of one rate, odd.

    Raises:
        ValueError: a field is out of range.
    """

    percentile: float
    limit_ms: float
    low: float
    high: float
    resolution: float = 0.02
    repeats: int = 3
    _trials: list[Trial] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        for problem, reason in (
            (not 0 < self.percentile < 100, f"a percentile lies between 0 and 100, not at {self.percentile}"),
            (not self.limit_ms > 0, f"the limit is above 0 ms, not {self.limit_ms}"),
            (not 0 < self.low <= self.high < math.inf, f"{self.low}..{self.high} is no range of rates"),
            (not 0.002 <= self.resolution < 1, "the resolution lies in 0.002..1"),
            (self.repeats < 1 or self.repeats % 2 == 0, "repeats are an odd number"),
        ):
            if problem:
                raise ValueError(reason)

    @property
    def next_rate(self) -> float | None:
        """The rate to try now; None when the search has ended."""
        return self._plan()[0]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All that was told, in order."""
        return tuple(self._trials)

    def tell(self, trial: Trial) -> None:
        """Take in what came of the rate that was asked for.

        Raises:
            ValueError: it is of another rate.
        """
        if trial.rate != self.next_rate:
            raise ValueError(f"a trial of {trial.rate}/s was not asked for")
        self._trials.append(trial)

    def result(self) -> SearchResult:
        """How the search ended, or stands."""
        asked, reason = self._plan()
        keeping, breaking = self._gap()
        if asked is not None:
            reason = "the search has not ended"
        return SearchResult(keeping, breaking, reason, self.trials)

    def _plan(self) -> tuple[float | None, str]:
        """The next rate, or None and why there is none."""
        if len(self._trials) >= _MOST_TRIALS:
            return None, f"no answer within {_MOST_TRIALS} trials"
        for rate in {trial.rate: None for trial in self._trials}:
            if self._answer(rate) is Answer.CLOSE:
                return rate, ""
        keeping, breaking = self._gap()
        if keeping is None:
            return self._ends(breaking) if breaking is not None else (_round(self.low), "")
        if breaking is None:
            above = min(_round(2 * keeping), _round(self.high))
            return (above, "") if keeping < above else self._ends(keeping)
        between = _round(math.sqrt(keeping * breaking))
        if breaking > keeping * (1 + self.resolution) and keeping < between < breaking:
            return between, ""
        return self._ends(keeping, breaking)

    def _ends(self, *rates: float) -> tuple[float | None, str]:
        """Try those that have had one trial again; if none is left, say what has been found."""
        for rate in rates:
            trials = self._of(rate)
            if len(trials) < min(2, self.repeats):
                return rate, ""
        return None, self._reason()

    def _reason(self) -> str:
        keeping, breaking = self._gap()
        if breaking is None:
            return f"the highest rate, {keeping:g}/s, keeps the SLO"
        limit = [reason for trial in self._of(breaking) for reason in trial.invalid]
        why = f"the generator was the limit ({limit[0]})" if limit else "the SLO breaks"
        if keeping is None:
            return f"at the lowest rate, {breaking:g}/s, {why}"
        return f"{keeping:g}/s keeps the SLO; at {breaking:g}/s {why}"

    def _gap(self) -> tuple[float | None, float | None]:
        """The highest rate below which nothing breaks, and the lowest that breaks."""
        answers = {trial.rate: self._answer(trial.rate) for trial in self._trials}
        breaking = min((rate for rate, answer in answers.items() if answer is Answer.BREAKS), default=None)
        keeping = [
            rate
            for rate, answer in answers.items()
            if answer is Answer.KEEPS and (breaking is None or rate < breaking)
        ]
        return max(keeping, default=None), breaking

    def _of(self, rate: float) -> list[Trial]:
        return [trial for trial in self._trials if trial.rate == rate]

    def _answer(self, rate: float) -> Answer:
        """What the trials of a rate say together; CLOSE asks for another one."""
        trials = self._of(rate)
        answers = {self._one(trial) for trial in trials}
        if len(answers) == 1 and Answer.CLOSE not in answers:
            return answers.pop()
        if len(trials) < self.repeats:
            return Answer.CLOSE
        keeping = sum(self._one(trial, by_estimate=True) is Answer.KEEPS for trial in trials)
        return Answer.KEEPS if 2 * keeping > len(trials) else Answer.BREAKS

    def _one(self, trial: Trial, *, by_estimate: bool = False) -> Answer:
        """What one trial says: by its interval, or by its estimate, which is never CLOSE."""
        share, bound = trial.share, self.percentile / 100
        if trial.invalid or share is None or share.high < bound or (by_estimate and share.value < bound):
            return Answer.BREAKS
        if by_estimate or share.low >= bound or share.value >= 1:
            return Answer.KEEPS
        return Answer.CLOSE


def parse_sweep(text: str) -> tuple[float, ...]:
    """Values of a sweep, in the order given: ``1,2,4``, ``100:1000:100``, ``1:64:x2``, ``8:12``, or a mix.

    The end of a range belongs to it if a step meets it; the step is 1 unless given.

    Raises:
        ValueError: a part is no number and no range, is not above 0, or names more than 10000 values.
    """
    values = [value for part in text.split(",") for value in _part(part.strip())]
    if len(values) > _MOST_VALUES:
        raise ValueError(f"{text!r} names {len(values)} values")
    return tuple(dict.fromkeys(values))


def knee(points: Sequence[tuple[float, float]]) -> int:
    """Index of the point beyond which latency grows faster than throughput: the one of the highest power.

    Power is throughput / latency. Adding points below or above the knee does not move it, as it does with
    methods that scale the curve to its ends.

    Args:
        points: (throughput, latency), latencies above 0, in any unit.

    Raises:
        ValueError: there is no point with a latency.

    Source:
        Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer
        communications" (ICC 1979). A server that does C per second and needs T for one has it at C * T
        calls in flight.
    """
    powers = [throughput / latency if latency > 0 else -1.0 for throughput, latency in points]
    if not powers or max(powers) < 0:
        raise ValueError("no point has a latency")
    return powers.index(max(powers))


def _part(text: str) -> list[float]:
    """Values of one number or one range; indexes are multiplied, so that rounding never adds up."""
    numbers = text.split(":")
    if len(numbers) == 1:
        return [_positive(text, text)]
    if len(numbers) > 3:
        raise ValueError(f"{text!r} is no range START:END or START:END:STEP")
    start, end = _positive(numbers[0], text), _positive(numbers[1], text)
    by = numbers[2].strip() if len(numbers) == 3 else "1"
    step = _positive(by.removeprefix("x"), text)
    if end < start:
        raise ValueError(f"{text!r} ends before it starts")
    if not by.startswith("x"):
        steps = math.floor((end - start) / step + 1e-9)
        return [start + step * k for k in range(min(steps, _MOST_VALUES) + 1)]
    if not step > 1:
        raise ValueError(f"{text!r} does not grow")
    steps = math.floor(math.log(end / start) / math.log(step) + 1e-9)
    return [start * step**k for k in range(min(steps, _MOST_VALUES) + 1)]


def _positive(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{whole!r} is no number and no range") from None
    if not 0 < value < math.inf:
        raise ValueError(f"{whole!r}: a value of a sweep is above 0")
    return value


def _round(rate: float) -> float:
    """The rate with as many digits as mean something."""
    return float(f"{rate:.{_DIGITS}g}")
