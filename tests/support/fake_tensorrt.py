"""A card and a TensorRT that need no hardware: memory of the host stands for the card's.

Copies outside of what was allocated fail, so that a wrong size or address shows. The engine computes
``y = 2 * x`` on 1 to 12 rows of three, and what else an ``EngineKind`` says.
"""

from __future__ import annotations

import ctypes
import enum
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from frameworks.gpu import Gpu

GPU = Gpu("NVIDIA Test 1", "8.9", "13.0", 0)

_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64, "BOOL": np.bool_}


class FakeCuda:
    """Stands for ``cuda.bindings.runtime``."""

    class cudaMemcpyKind(enum.IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.allocations = 0
        self.selected: list[int] = []
        self.fail_in = ""

    def cudaSetDevice(self, index: int) -> tuple[int, ...]:
        self.selected.append(index)
        return (self._code("cudaSetDevice"),)

    def cudaStreamCreate(self) -> tuple[int, Any]:
        return self._code("cudaStreamCreate"), 7

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        assert stream == 7
        return (self._code("cudaStreamSynchronize"),)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        self.allocations += 1
        buffer = ctypes.create_string_buffer(size)
        address = ctypes.addressof(buffer)
        self.memory[address] = buffer
        return self._code("cudaMalloc"), address

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int, int]:
        assert flags == 0
        return self.cudaMalloc(size)

    def cudaFree(self, address: int) -> tuple[int]:
        del self.memory[address]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        assert stream == 7
        for address in (target, source):
            assert size <= len(self.memory[address])
        ctypes.memmove(target, source, size)
        return (self._code("cudaMemcpyAsync"),)

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:
        return 0, b"made to fail"

    def _code(self, function: str) -> int:
        return 700 if function == self.fail_in else 0


@dataclass
class EngineKind:
    """How the fake engine behaves.

    Args:
        datatype: of x and y, as TensorRT names it.
        counts: it has the output ``found`` too: the indices of positive elements, as many as there are.
        tells_shape: it has the output ``shape`` too, which lies in the host's memory.
        refuses: text that is logged when a plan is loaded, which then fails.
        breaks: text that is logged when it is executed, which then fails.
    """

    datatype: str = "FLOAT"
    counts: bool = False
    tells_shape: bool = False
    refuses: str = ""
    breaks: str = ""


def fake_tensorrt(kind: EngineKind | None = None, name: str = "tensorrt", version: str = "10.13.2") -> Any:
    """Return a module with what running plans needs."""
    kind = kind or EngineKind()
    module: Any = ModuleType(name)
    module.__version__ = version
    module.loaded = []

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    class IOutputAllocator:
        pass

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            if kind.refuses:
                self._logger.log(ILogger.ERROR, kind.refuses)
                return None
            module.loaded.append(plan)
            return _Engine(kind, self._logger, ILogger.ERROR)

    module.ILogger, module.IOutputAllocator, module.Runtime = ILogger, IOutputAllocator, Runtime
    module.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    module.TensorLocation = SimpleNamespace(HOST="host", DEVICE="device")
    return module


class _Engine:
    def __init__(self, kind: EngineKind, logger: Any, error: int) -> None:
        self._logger, self._error = logger, error
        self.kind = kind
        self.names = ["x", "y", *(["found"] if kind.counts else []), *(["shape"] if kind.tells_shape else [])]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "x" else "out"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.kind.datatype if name in "xy" else "INT64")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {"x": (-1, 3), "y": (-1, 3), "found": (-1,), "shape": (2,)}[name]

    def get_tensor_location(self, name: str) -> str:
        return "host" if name == "shape" else "device"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("x", 0)
        return [(1, 3), (4, 3), (12, 3)]

    def create_execution_context(self) -> _Context:
        return _Context(self)

    def fail(self, text: str) -> bool:
        self._logger.log(self._error, text)
        return False


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._shape = (0, 0)

    def set_input_shape(self, name: str, shape: tuple[int, int]) -> bool:
        assert name == "x"
        if len(shape) != 2 or not 1 <= shape[0] <= 12 or shape[1] != 3:
            return self._engine.fail("the shape is outside of the profile")
        self._shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape if name in "xy" else self._engine.get_tensor_shape(name)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address != 0

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self._allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        kind = self._engine.kind
        if kind.breaks:
            return self._engine.fail(kind.breaks)
        dtype = np.dtype(_NUMPY[kind.datatype])
        x = _at(self._addresses["x"], self._shape, dtype)
        _at(self._addresses["y"], self._shape, dtype)[...] = x * 2
        if kind.tells_shape:
            _at(self._addresses["shape"], (2,), np.dtype(np.int64))[...] = self._shape
        return not kind.counts or self._count(np.flatnonzero(x > 0))

    def _count(self, found: Any) -> bool:
        allocator = self._allocators["found"]
        address = allocator.reallocate_output_async("found", 0, max(found.nbytes, 1), 256, 7)
        if not address:
            return self._engine.fail("no memory for found")
        _at(address, found.shape, found.dtype)[...] = found
        allocator.notify_shape("found", list(found.shape))
        return True


def _at(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
    size = int(np.prod(shape)) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)


def with_builder(module: Any, real: Any) -> Any:
    """Give a fake what building needs, of a library that builds without a card."""
    for name in (
        "Builder",
        "BuilderFlag",
        "ComputeCapability",
        "ILogger",
        "MemoryPoolType",
        "OnnxParser",
    ):
        setattr(module, name, getattr(real, name))
    return module
