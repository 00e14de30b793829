"""The tables of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks import results
from benchmarks.peers.load import Figures, median, ratio
from benchmarks.peers.profiled import ARGUMENTS, Profile

READ: Final = (
    "Theirs ÷ ours, each pair measured in turn in one round, median of the rounds; requests in flight "
    "1 / 16 / 64 / 256. Requests/s below 1 and times above 1 mean that ours is the better one. "
    "A dash: calls failed, see below."
)


@dataclass(frozen=True, slots=True)
class Case:
    """One load on one model.

    Attributes:
        model: its name.
        in_flight: calls at any time.
        ours: one measurement a round.
        theirs: those of the same rounds; as many as ours.
        failure: why there are none.
        disturbed: measurements of both during which other processes used the machine too.
    """

    model: str
    in_flight: int
    ours: list[Figures] = field(default_factory=list)
    theirs: list[Figures] = field(default_factory=list)
    failure: str = ""
    disturbed: int = 0

    def ratio(self) -> Figures | None:
        """Theirs divided by ours, in the median; none if calls failed."""
        if self.failure or not self.theirs:
            return None
        return median([ratio(theirs, ours) for theirs, ours in zip(self.theirs, self.ours, strict=True)])


@dataclass(frozen=True, slots=True)
class Comparison:
    """One peer beside us.

    Attributes:
        title: of the peer.
        configuration: how it was set up.
        versions: of its packages.
        cases: what was measured; none when it could not run.
        idle: share of a core that it used while nobody called.
        ready_s: from its start until its answers were right.
        reason: why it could not run.
        profiles: what the profiler says of ours and of theirs; none if it cannot call the peer.
    """

    title: str
    configuration: str
    versions: str = ""
    cases: list[Case] = field(default_factory=list)
    idle: float = 0.0
    ready_s: float = 0.0
    reason: str = ""
    profiles: tuple[Profile, Profile] | None = None


def ratios(comparisons: Sequence[Comparison]) -> str:
    """One line for each peer and model."""
    rows = []
    for each in comparisons:
        for model in dict.fromkeys(case.model for case in each.cases):
            of_cases = [case.ratio() for case in each.cases if case.model == model]
            rows.append([each.title, model, *(
                " / ".join("-" if one is None else f"{getattr(one, name):.2f}" for one in of_cases)
                for name in ("rate", "p50", "p99", "cpu")
            )])  # fmt: skip
    return results.table(("server", "model", "requests/s", "p50", "p99", "CPU per request"), rows)


def figures(comparisons: Sequence[Comparison]) -> str:
    """One line for each measured case; ours in brackets."""
    rows = []
    for each in comparisons:
        for case in each.cases:
            start = [each.title, case.model, str(case.in_flight)]
            if case.ratio() is None:
                rows.append([*start, f"failed: {case.failure}", "", "", ""])
                continue
            theirs, ours = median(case.theirs), median(case.ours)
            rows.append([
                *start, f"{theirs.rate:,.0f} ({ours.rate:,.0f})", f"{theirs.p50:.2f} ({ours.p50:.2f})",
                f"{theirs.p99:.2f} ({ours.p99:.2f})", f"{theirs.cpu:,.0f} ({ours.cpu:,.0f})",
            ])  # fmt: skip
    header = ("server", "model", "in flight", "requests/s (ours)", "p50 ms (ours)", "p99 ms (ours)",
              "CPU µs/request (ours)")  # fmt: skip
    return results.table(header, rows)


def quiet(comparisons: Sequence[Comparison]) -> str:
    """Whether the machine was ours alone."""
    lines = [
        f"{each.title}: {case.model} at {case.in_flight} ({case.disturbed} of {len(case.ours + case.theirs)})"
        for each in comparisons for case in each.cases if case.disturbed
    ]  # fmt: skip
    if not lines:
        return "No measurement was disturbed by other processes."
    return f"Disturbed by other processes, also when repeated: {'; '.join(lines)}."


def profiles(comparisons: Sequence[Comparison]) -> str:
    """What one command of the profiler says of each server that it can call."""
    rows = []
    for each in comparisons:
        for title, one in zip(("runtime, beside it", each.title), each.profiles or (), strict=False):
            figures = [f"{one.answered:.1f} %", f"{one.p50:.2f}", f"{one.p99:.2f}", one.remark or "valid"]
            rows.append([title, *(figures if one.p50 else ["", "", "", one.remark])])
    return results.table(("server", "answered", "p50 ms", "p99 ms", ""), rows)


def servers(comparisons: Sequence[Comparison], ours: Comparison) -> str:
    """Versions, configurations, and who could not run."""
    rows = [[ours.title, ours.versions, ours.configuration, ""]]
    for each in comparisons:
        ran = f"ready in {each.ready_s:.0f} s, idle {each.idle:.1%} of a core"
        outcome = ran if each.cases else f"not run: {each.reason}"
        rows.append(
            [each.title, each.versions, each.configuration, outcome.replace("|", "/").replace("\n", " ")]
        )
    return results.table(("server", "versions", "configuration", ""), rows)


def text(comparisons: Sequence[Comparison], ours: Comparison) -> str:
    """The whole section."""
    parts = [READ, ratios(comparisons), quiet(comparisons), "Medians:", figures(comparisons)]
    if any(each.profiles for each in comparisons):
        command = " ".join(("runtime profile --url HOST:PORT", *ARGUMENTS))
        parts += [f"`{command}`, unchanged, response times from the intended send:", profiles(comparisons)]
    return "\n\n".join([*parts, servers(comparisons, ours)])
