"""Requests that killed two workers are not run a third time, however often they are repeated. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from runtime.batching.task import Task
from runtime.clock import SECOND

TERM_NS: Final = 600 * SECOND
"""How long a request stays in quarantine: longer than clients repeat one in vain."""
MAX_HELD: Final = 256
"""The oldest are let go beyond this."""
LOOK_BYTES: Final = 64


class Quarantine:
    """Remembers tasks by what they ask for: equal bytes to the same method are the same request.

    Complexity: nothing for a task while nobody is held; else a look at its size and first bytes, and
        one digest of its tensors if these are known.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, int] = OrderedDict()
        self._seen: set[tuple[int, bytes]] = set()

    def __bool__(self) -> bool:
        return bool(self._until)

    def __len__(self) -> int:
        return len(self._until)

    def add(self, task: Task, now_ns: int) -> None:
        """Hold a task from now on."""
        digest = _digest(task)
        self._until[digest] = now_ns + TERM_NS
        self._until.move_to_end(digest)
        self._seen.add(_look(task))
        while len(self._until) > MAX_HELD:
            self._until.popitem(last=False)

    def holds(self, task: Task, now_ns: int) -> bool:
        """Whether a task is held."""
        while self._until and next(iter(self._until.values())) <= now_ns:
            self._until.popitem(last=False)
        if not self._until:
            self._seen.clear()
        if _look(task) not in self._seen:
            return False
        return _digest(task) in self._until


def _look(task: Task) -> tuple[int, bytes]:
    """What tells most tasks apart without reading all of them."""
    return task.size_bytes, bytes(task.parts[0][:LOOK_BYTES]) if task.parts else b""


def _digest(task: Task) -> bytes:
    digest = hashlib.blake2b(task.key.head, digest_size=16)
    for part in task.parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
