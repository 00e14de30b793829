"""Virtual time."""

from __future__ import annotations


class FakeClock:
    """A :data:`runtime.clock.Clock` that stands still until it is told to move."""

    def __init__(self, now_ns: int = 1_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, by_ns: int) -> int:
        self.now_ns += by_ns
        return self.now_ns
