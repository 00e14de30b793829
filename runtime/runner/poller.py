"""Waits on many sockets: epoll with as little Python around it as will do, for it runs once a batch.

The standard library's selectors do the same with a record for each event, at several times the cost.
"""

from __future__ import annotations

import select
from typing import Final, Generic, TypeVar

from runtime.runner.link import Link

READABLE: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
WRITABLE: Final = select.EPOLLOUT

T = TypeVar("T")


class Poller(Generic[T]):
    """Which of the registered descriptors are ready. One thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._owners: dict[int, T] = {}

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._owners

    def owners(self) -> list[T]:
        """Whoever is registered."""
        return list(self._owners.values())

    def add(self, descriptor: int, owner: T) -> None:
        """Wait for a descriptor to become readable, on behalf of its owner."""
        self._owners[descriptor] = owner
        self._epoll.register(descriptor, select.EPOLLIN)

    def watch(self, link: Link) -> None:
        """Wait for a link to become writable too, for as long as it has something unsent."""
        self._epoll.modify(link.fileno(), select.EPOLLIN | (WRITABLE if link.wants_write else 0))

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor; before it is closed."""
        del self._owners[descriptor]
        self._epoll.unregister(descriptor)

    def wait(self, *, block: bool = True) -> list[tuple[T, int]]:
        """The owners of what is ready, each with its events."""
        owners = self._owners
        return [(owners[descriptor], events) for descriptor, events in self._epoll.poll(None if block else 0)]

    def close(self) -> None:
        """Let go of everything."""
        self._owners.clear()
        self._epoll.close()
