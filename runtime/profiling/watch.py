"""Was the generator itself the limit? Then a run says nothing of the server, and says so.

Pure: judges figures that the generators took of themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.clock import MILLISECOND
from runtime.profiling.records import Load, Window

SLIP_FLOOR_NS: Final = MILLISECOND
SLIP_SHARE: Final = 0.05
"""The 99th percentile of slip may be this share of the median response time, or the floor if that is more."""

CPU_LIMIT: Final = 0.9
"""Share of one core above which a generator cannot keep up: Python runs on one core at a time."""


def reasons(load: Load, total: Window, cpu_shares: Sequence[float]) -> list[str]:
    """Why a run is invalid, and what to do; empty if it is valid.

    Args:
        load: what was asked for.
        total: all windows of all generator processes.
        cpu_shares: of one core, by generator process.
    """
    found = []
    more = f"use more processes (now {load.processes}) or free a core for them"
    slip = total.slip.percentile(99)
    if load.mode == "open" and slip > max(SLIP_FLOOR_NS, SLIP_SHARE * total.response.percentile(50)):
        found.append(f"requests were sent {slip / MILLISECOND:.3g} ms late (p99 of slip): {more}")
    busiest = max(cpu_shares, default=0.0)
    if busiest > CPU_LIMIT:
        found.append(f"a generator used {busiest:.0%} of a core: {more}")
    return found
