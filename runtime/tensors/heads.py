"""What was made of a head once and is looked up ever after: plans, batch keys, layouts."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

HEADS_KEPT: Final = 4096
HEAD_BYTES_KEPT: Final = 16 << 10

T = TypeVar("T")


class HeadTable(dict[bytes, T], Generic[T]):
    """A dict by head that is bounded in number and in bytes, at 64 MiB of heads.

    Heads without end make it start over rather than grow, and one that is very long is not kept at all.
    Safe to share between threads: at worst the same thing is made twice.
    """

    def keep(self, head: bytes, value: T) -> T:
        """Remember a value, unless its head is too long; returns it."""
        if len(head) <= HEAD_BYTES_KEPT:
            if len(self) >= HEADS_KEPT:
                self.clear()
            self[head] = value
        return value
