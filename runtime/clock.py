"""The one place that reads clocks.

Everything that decides about time is handed a ``Clock`` and never reads one by itself, so that tests
run in virtual time. All internal instants are integer nanoseconds of ``CLOCK_MONOTONIC``, which every
process of one machine shares: stamps of a worker and of a service may be subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]

MILLISECOND = 1_000_000
SECOND = 1_000_000_000

now_ns: Clock = time.monotonic_ns


def deadline_ns(unix_seconds: float) -> int:
    """Turn an absolute Unix time (what gRPC keeps) into a monotonic instant.

    Returns:
        Nanoseconds on the monotonic clock; in the past if the instant has passed.
    """
    return time.monotonic_ns() + int((unix_seconds - time.time()) * SECOND)
