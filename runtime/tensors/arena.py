"""Shared memory for payloads that are too large for the socket.

An arena is one sealed ``memfd`` that two processes map. One side owns it: it allocates, writes and
frees; the other only reads (or, for a worker, works in place on) what it was pointed at. Nothing is
left behind when either dies: the kernel frees the memory with its last mapping.

The file is sparse: memory is spent only on pages that were touched, and first fit from the lowest
address keeps using the same, already faulted pages.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Final

ALIGNMENT: Final = 64
DEFAULT_BYTES: Final = 1 << 30
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create(size: int) -> int:
    """Make an arena of ``size`` bytes and return its file descriptor.

    The size is sealed: no holder of the descriptor can shrink it under another's feet.
    """
    descriptor = os.memfd_create("runtime-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


class Arena:
    """One side's mapping of an arena. Takes the descriptor over and closes it."""

    def __init__(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        self._memory = mmap.mmap(descriptor, size)
        os.close(descriptor)
        self.view = memoryview(self._memory)
        self.size = size

    def close(self) -> None:
        """Unmap, unless somebody still holds a view: then the memory goes with the last of them."""
        try:
            self.view.release()
            self._memory.close()
        except BufferError:
            return


class Allocator:
    """First fit over ``[0, size)``; pure bookkeeping for the arena's owner, not thread-safe.

    Invariant: ``_used`` is sorted and its extents do not overlap.

    Complexity: linear in the number of live allocations, which is at most a few per instance.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used: list[tuple[int, int]] = []

    @property
    def used_bytes(self) -> int:
        """Bytes handed out, rounding to the alignment included."""
        return sum(end - start for start, end in self._used)

    def allocate(self, size: int) -> int | None:
        """The offset of ``size`` free bytes, aligned to 64, or None if there is no such gap."""
        size = -(-size // ALIGNMENT) * ALIGNMENT or ALIGNMENT
        start = 0
        for index, (begin, end) in enumerate(self._used):
            if begin - start >= size:
                self._used.insert(index, (start, start + size))
                return start
            start = end
        if self._size - start < size:
            return None
        self._used.append((start, start + size))
        return start

    def free(self, offset: int) -> None:
        """Give back what :meth:`allocate` returned.

        Raises:
            KeyError: nothing is allocated at this offset.
        """
        for index, (begin, _) in enumerate(self._used):
            if begin == offset:
                del self._used[index]
                return
        raise KeyError(offset)
