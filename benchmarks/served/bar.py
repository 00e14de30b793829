"""What is demanded, what was measured, and the verdict. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks import results

SLACK: Final = 0.05
"""What a served model is granted beyond a simulated one: processes, the interpreter and timers take time."""
STRANGERS: Final = 0.25
"""Cores that others used above which a measurement says little."""


@dataclass(frozen=True, slots=True)
class Row:
    """One demand.

    Attributes:
        point: of the list of demands it belongs to.
        what: is measured.
        measured: the figure.
        least, most: bounds of it, slack included; both infinite where a figure is only told.
        unit: written behind the figures.
        note: what else there is to say.
        strangers: cores that others used meanwhile.
    """

    point: str
    what: str
    measured: float
    least: float = -math.inf
    most: float = math.inf
    unit: str = ""
    note: str = ""
    strangers: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the demand is met; a figure that is only told always does."""
        return self.least <= self.measured <= self.most

    @property
    def verdict(self) -> str:
        """In a word."""
        if math.isinf(self.least) and math.isinf(self.most):
            return ""
        if self.passed:
            return "pass"
        return "FAIL (disturbed)" if self.strangers > STRANGERS else "FAIL"

    @property
    def bar(self) -> str:
        """The bounds in words."""
        bounds = [("≥", self.least), ("≤", self.most)]
        return " ".join(
            [f"{sign} {_number(bound)}{self.unit}" for sign, bound in bounds if math.isfinite(bound)]
        )

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        bounds = {"least": self.least, "most": self.most}
        plain = {name: bound if math.isfinite(bound) else None for name, bound in bounds.items()}
        return {**asdict(self), **plain, "passed": self.passed}


def ratio_row(
    point: str, what: str, pairs: Sequence[tuple[float, float]], *, least: float = -math.inf,
    most: float = math.inf, unit: str, strangers: float = 0.0,
) -> Row:  # fmt: skip
    """A row that compares: the median of the ratios of several rounds.

    Args:
        point: of the list.
        what: is compared.
        pairs: ours and the reference's, one of each round.
        least: bound of the ratio, without slack.
        most: likewise.
        unit: of the figures, for the note.
        strangers: cores that others used.
    """
    ratio = statistics.median([ours / theirs for ours, theirs in pairs])
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    note = f"{_number(ours)} against {_number(theirs)} {unit}"
    return Row(point, what, ratio, least - SLACK, most + SLACK, "x", note, strangers)


def line(row: Row) -> str:
    """A row for who watches."""
    measured = f"{_number(row.measured)}{row.unit}"
    return f"{row.verdict or '-':16} {row.point:4} {row.what:54} {row.bar:>12} {measured:>10}  {row.note}"


def table(rows: Sequence[Row]) -> str:
    """All rows as a Markdown table."""
    header = ("", "what", "bar", "measured", "", "", "others used")
    return results.table(
        header,
        [
            (row.point, row.what, row.bar, f"{_number(row.measured)}{row.unit}", row.verdict, row.note,
             f"{row.strangers:.2f}")
            for row in rows
        ],
    )  # fmt: skip


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.1f}"
