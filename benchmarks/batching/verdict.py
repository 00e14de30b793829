"""One line of the bar: what was asked for, what was measured, and whether that will do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Verdict(NamedTuple):
    """One criterion.

    Attributes:
        point: number of it.
        what: was measured; of several cells, the worst.
        bar: that it has to keep to.
        measured: figure.
        passed: it does.
    """

    point: int
    what: str
    bar: str
    measured: str
    passed: bool


def at_most(point: int, what: str, measured: float, bar: float, unit: str = "") -> Verdict:
    """Less is better."""
    return Verdict(point, what, f"≤ {_text(bar, unit)}", _text(measured, unit), measured <= bar)


def at_least(point: int, what: str, measured: float, bar: float, unit: str = "") -> Verdict:
    """More is better."""
    return Verdict(point, what, f"≥ {_text(bar, unit)}", _text(measured, unit), measured >= bar)


def largest(what: str, cells: Iterable[tuple[float, str]]) -> tuple[str, float]:
    """Where less is better: the worst of several cells, with its name added to what they have in common."""
    value, name = max(cells)
    return f"{what}; worst: {name}", value


def smallest(what: str, cells: Iterable[tuple[float, str]]) -> tuple[str, float]:
    """Where more is better."""
    value, name = min(cells)
    return f"{what}; worst: {name}", value


def _text(value: float, unit: str) -> str:
    """A count, a share in per cent, something with a unit, or a ratio."""
    if isinstance(value, int):
        return f"{value} {unit}".strip()
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.2f} {unit}" if unit else f"{value:.3f}"
