"""Memory of a card, and the page-locked memory through which arrays travel to it and back.

Every call goes through ``cuda.bindings.runtime``, whose functions return the error code first. The card is a
property of the thread: ``Cuda.select`` stands at the begin of whatever may run in a new one.
"""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np

from frameworks import base
from frameworks.arrays import Array

_GRANULE: Final = 256
"""Bytes; buffers are never empty, since TensorRT refuses null addresses."""


def runtime() -> ModuleType:
    """Import CUDA's runtime interface.

    Raises:
        MissingFramework: it is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise base.missing("cuda-python", "tensorrt") from error


class Cuda:
    """One card and one stream on it.

    Args:
        api: what ``runtime`` returns.
        index: of the card among the visible ones.

    Raises:
        RuntimeError: CUDA refuses; also from every method.

    Concurrency: one call at a time, from any thread.
    """

    def __init__(self, api: Any, index: int) -> None:
        self._api = api
        self._index = index
        self.select()
        self._stream = self._checked(api.cudaStreamCreate())
        self.stream: int = int(self._stream)

    def select(self) -> None:
        """Make the card the calling thread's."""
        self._checked(self._api.cudaSetDevice(self._index))

    def device_memory(self) -> Memory:
        """Return growing memory on the card."""
        return Memory(lambda size: self._checked(self._api.cudaMalloc(size)), self._api.cudaFree)

    def pinned_memory(self) -> Memory:
        """Return growing memory of the host that the card reads and writes directly."""
        return Memory(lambda size: self._checked(self._api.cudaHostAlloc(size, 0)), self._api.cudaFreeHost)

    def to_device(self, target: int, source: int, size: int) -> None:
        """Start to copy bytes from the host."""
        self._copy(target, source, size, self._api.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def to_host(self, target: int, source: int, size: int) -> None:
        """Start to copy bytes from the card."""
        self._copy(target, source, size, self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def wait(self) -> None:
        """Wait for everything that was started."""
        self._checked(self._api.cudaStreamSynchronize(self._stream))

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        if size:
            self._checked(self._api.cudaMemcpyAsync(target, source, size, kind, self._stream))

    def _checked(self, result: tuple[Any, ...]) -> Any:
        code = result[0]
        if int(code):
            _, text = self._api.cudaGetErrorString(code)
            said = text.decode() if isinstance(text, bytes) else text
            raise RuntimeError(f"CUDA error {int(code)} on card {self._index}: {said}")
        return result[1] if len(result) > 1 else None


class Memory:
    """A buffer that is kept and only grows; its content does not survive growth.

    Args:
        allocate: size in bytes to an address.
        free: gives an address back; what it returns is not looked at.
    """

    def __init__(self, allocate: Callable[[int], Any], free: Callable[[int], object]) -> None:
        self._allocate = allocate
        self._free = free
        self._size = 0
        self._release: weakref.finalize[..., Memory] | None = None
        self.address = 0

    def reserve(self, size: int) -> int:
        """Make room for so many bytes and return the address."""
        if size > self._size or not self.address:
            if self._release is not None:
                self._release()
            self.address = self._size = 0
            wanted = -(-max(size, 1) // _GRANULE) * _GRANULE
            self.address = int(self._allocate(wanted))
            self._size = wanted
            self._release = weakref.finalize(self, self._free, self.address)
            self._release.atexit = False  # the driver frees everything then
        return self.address

    def view(self, size: int) -> Array:
        """Return the first bytes of memory that the host can read; valid until the next growth."""
        if not size:
            return np.empty(0, dtype=np.uint8)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))
