"""An event loop in virtual time: it never waits for a timer, it jumps to it.

Relies on how asyncio's selector loop waits, and so cannot drive what waits elsewhere.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

LONGEST_WAIT_S = 20.0


class _Jumping(selectors.DefaultSelector):
    """Looks for events without waiting; tells by how much time moves if there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.jump: Callable[[float], None] = lambda _: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.jump(timeout)
        elif not ready and timeout is None:
            ready = super().select(LONGEST_WAIT_S)  # only a file descriptor can wake the loop
            if not ready:
                raise RuntimeError("the loop waits for what never comes")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop whose clock stands still while it has something to do."""

    def __init__(self) -> None:
        selector = _Jumping()
        super().__init__(selector)
        self._virtual = 1000.0
        selector.jump = self._advance

    def time(self) -> float:
        return self._virtual

    def _advance(self, by: float) -> None:
        self._virtual += by


def run(main: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


async def until(condition: Callable[[], object], *, step_s: float = 0.01) -> None:
    """Let virtual time pass until a condition holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(step_s)
    raise AssertionError("it never happened")
