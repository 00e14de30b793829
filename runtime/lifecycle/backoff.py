"""When a process that ended is started again. Pure."""

from __future__ import annotations

from typing import Final

from runtime.clock import SECOND

FIRST_NS: Final = SECOND // 10
LONGEST_NS: Final = 10 * SECOND
STABLE_NS: Final = 30 * SECOND
"""A process that lived this long has earned an immediate restart again."""


class Backoff:
    """At once the first time, then after 0.1 s, 0.2 s, 0.4 s … 10 s, until a life was a long one.

    Attributes:
        failures: ends in a row that came before the process had lived for 30 s.
    """

    __slots__ = ("failures",)

    def __init__(self) -> None:
        self.failures = 0

    def next_delay_ns(self, lived_ns: int) -> int:
        """Take note that the process ended after ``lived_ns`` of service; how long to wait now."""
        if lived_ns >= STABLE_NS:
            self.failures = 0
        self.failures += 1
        if self.failures == 1:
            return 0
        return int(min(FIRST_NS << min(self.failures - 2, 16), LONGEST_NS))
