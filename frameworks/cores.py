"""How many cores this process may use: what threads are shared out of, in servers and in conversions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
"""File with the quota and the period of the control group."""


def usable_cores() -> int:
    """Return the cores of the affinity, or fewer where the control group has a quota of time."""
    cores = len(os.sched_getaffinity(0))
    try:
        share, period = QUOTA.read_text(encoding="ascii").split()
        return cores if share == "max" else max(1, min(cores, round(int(share) / int(period))))
    except (OSError, ValueError):
        return cores
