"""The one place that reads clocks.

Everything that decides about time is handed a ``Clock`` and never reads one by itself, so that tests
run in virtual time. All internal instants are integer nanoseconds of ``CLOCK_MONOTONIC``, which every
process of one machine shares: stamps of a worker and of a service may be subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

Clock = Callable[[], int]

MILLISECOND = 1_000_000
SECOND = 1_000_000_000

LONGEST_NS: Final = 1 << 62
"""No wait is longer than this, 146 years: instants fit into 64 bits wherever they are written down."""

now_ns: Clock = time.monotonic_ns


def deadline_ns(unix_seconds: float) -> int:
    """Turn an absolute Unix time (what gRPC keeps) into a monotonic instant.

    Returns:
        Nanoseconds on the monotonic clock: in the past if the instant has passed, at most LONGEST_NS
        ahead, and never 0.
    """
    return max(1, time.monotonic_ns() + min(int((unix_seconds - time.time()) * SECOND), LONGEST_NS))


def unix_ms(instant_ns: int) -> int:
    """Turn a monotonic instant into milliseconds of Unix time, for people and records."""
    return int(time.time() * 1000) - (time.monotonic_ns() - instant_ns) // MILLISECOND
