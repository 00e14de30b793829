"""Running a plan on a card.

Only opened after a card was found: without a driver some versions crash the process on deserialisation.
TensorRT reports failures by None and False; they are raised here with what it said to its logger.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from frameworks.arrays import Array, Arrays
from frameworks.errors import InvalidModel, UnsupportedInput
from frameworks.trt import module as tensorrt_module
from frameworks.trt.build import DATATYPES
from frameworks.trt.cuda import Cuda, Memory
from store import TensorSpec, datatypes
from store.signature import DYNAMIC


class Engine:
    """A loaded plan with its buffers, which are kept from call to call and grow where they must.

    Args:
        module: the library.
        cuda: the card.
        plan: made by the same version of the library for such a card.

    Raises:
        InvalidModel: TensorRT refuses the plan.
        RuntimeError: CUDA does.

    Concurrency: one call at a time, from any thread.
    """

    def __init__(self, module: ModuleType, cuda: Cuda, plan: bytes) -> None:
        logger, self._messages = tensorrt_module.logger(module)
        self._cuda = cuda
        self._messages.forget()
        cuda.select()
        # All three are kept: the context uses the engine, and the engine the runtime.
        self._runtime = module.Runtime(logger)
        self.native = self._runtime.deserialize_cuda_engine(plan)
        if self.native is None:
            raise InvalidModel(f"TensorRT refuses the plan: {self._messages.text()}", field="model")
        self._context = self.native.create_execution_context()
        if self._context is None:
            raise InvalidModel(f"TensorRT cannot execute the plan: {self._messages.text()}", field="model")
        names = [self.native.get_tensor_name(index) for index in range(self.native.num_io_tensors)]
        is_input = {name: self.native.get_tensor_mode(name) == module.TensorIOMode.INPUT for name in names}
        self.inputs = tuple(self._spec(name) for name in names if is_input[name])
        self.outputs = tuple(self._spec(name) for name in names if not is_input[name])
        host = module.TensorLocation.HOST
        self._into = [_Tensor(spec, cuda, self._is_at(spec.name, host)) for spec in self.inputs]
        self._out = [_Tensor(spec, cuda, self._is_at(spec.name, host)) for spec in self.outputs]
        self._allocator = _allocator_class(module)

    def execute(self, inputs: Arrays) -> Arrays:
        """Run the plan and return all of its outputs as fresh arrays.

        Raises:
            UnsupportedInput: a datatype or shape lies outside of what the plan was built for.
            RuntimeError: TensorRT or CUDA fails.
        """
        self._messages.forget()
        self._cuda.select()
        for tensor in self._into:
            self._give(tensor, inputs[tensor.spec.name])
        for tensor in self._out:
            self._prepare(tensor)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise RuntimeError(f"TensorRT failed: {self._messages.text()}")
        late = [tensor for tensor in self._out if tensor.allocator is not None]
        if late:  # their shapes are known only when the work is done
            self._cuda.wait()
            for tensor in late:
                tensor.shape = self._told_shape(tensor)
        for tensor in self._out:
            tensor.fetch(self._cuda)
        self._cuda.wait()
        return {tensor.spec.name: tensor.array() for tensor in self._out}

    def _give(self, tensor: _Tensor, array: Array) -> None:
        name = tensor.spec.name
        if array.dtype != tensor.dtype:
            raise UnsupportedInput(
                f"input {name!r} must be {tensor.spec.datatype}, not {array.dtype}", field=name
            )
        if not self._context.set_input_shape(name, array.shape):
            known = self._range(tensor.spec)
            raise UnsupportedInput(
                f"input {name!r} has the shape {list(array.shape)}; the plan takes {known}", field=name
            )
        self._address(tensor, tensor.give(array, self._cuda))

    def _prepare(self, tensor: _Tensor) -> None:
        """Make room for an output, or have TensorRT ask for it where the shape depends on values."""
        shape = tuple(self._context.get_tensor_shape(tensor.spec.name))
        if DYNAMIC not in shape:
            tensor.shape = shape
            self._address(tensor, tensor.reserve())
            return
        if tensor.allocator is None:
            tensor.allocator = self._allocator(tensor.device)
            self._context.set_output_allocator(tensor.spec.name, tensor.allocator)
        tensor.allocator.shape = None

    def _address(self, tensor: _Tensor, address: int) -> None:
        if not self._context.set_tensor_address(tensor.spec.name, address):
            raise RuntimeError(
                f"TensorRT refuses the memory of {tensor.spec.name!r}: {self._messages.text()}"
            )

    def _told_shape(self, tensor: _Tensor) -> tuple[int, ...]:
        shape: tuple[int, ...] | None = tensor.allocator.shape
        if shape is None:
            raise RuntimeError(f"TensorRT did not tell the shape of {tensor.spec.name!r}")
        return shape

    def _spec(self, name: str) -> TensorSpec:
        kind = self.native.get_tensor_dtype(name).name
        if kind not in DATATYPES:
            raise InvalidModel(
                f"tensor {name!r} of the plan is {kind}, which callers cannot send", field=name
            )
        return TensorSpec(name, DATATYPES[kind], tuple(self.native.get_tensor_shape(name)))

    def _is_at(self, name: str, location: Any) -> bool:
        return bool(self.native.get_tensor_location(name) == location)

    def _range(self, spec: TensorSpec) -> str:
        if DYNAMIC not in spec.shape:
            return str(list(spec.shape))
        least, _, largest = self.native.get_tensor_profile_shape(spec.name, 0)
        return f"{list(least)} to {list(largest)}: build it for more, or lower max_batch_size"


class EngineMethod:
    """One method of a plan; an ``Opened``.

    Args:
        engine: the plan; methods may share it.
        answers: name of each answer to the plan's name of it.
    """

    def __init__(self, engine: Engine, answers: Mapping[str, str]) -> None:
        self._engine = engine
        self._answers = answers

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run the plan; see ``Engine.execute``."""
        found = self._engine.execute(inputs)
        return {answer: found[name] for answer, name in self._answers.items()}

    def input_names(self, count: int) -> tuple[str, ...]:
        """Return the plan's first input names."""
        names = tuple(spec.name for spec in self._engine.inputs)
        return names[:count] if len(names) >= count else tuple(f"input_{index}" for index in range(count))


class _Tensor:
    """One input or output: where its values are on the host and on the card.

    Args:
        spec: as the plan has it.
        cuda: the card.
        on_host: TensorRT reads or writes it in the host's memory: shapes are such tensors.
    """

    def __init__(self, spec: TensorSpec, cuda: Cuda, on_host: bool) -> None:
        self.spec = spec
        self.dtype = np.dtype(datatypes.numpy_dtype(spec.datatype))
        self.shape: tuple[int, ...] = ()
        self.allocator: Any = None
        self.host: Memory = cuda.pinned_memory()
        self.device: Memory = self.host if on_host else cuda.device_memory()

    @property
    def size(self) -> int:
        """Bytes of the current shape."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def reserve(self) -> int:
        """Make room for the shape on both sides; return the address that TensorRT is to use."""
        self.host.reserve(self.size)
        return self.device.reserve(self.size)

    def give(self, array: Array, cuda: Cuda) -> int:
        """Start to bring an array to the card and return its address there."""
        self.shape = array.shape
        address = self.reserve()
        self.host.view(self.size)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if self.device is not self.host:
            cuda.to_device(address, self.host.address, self.size)
        return address

    def fetch(self, cuda: Cuda) -> None:
        """Start to bring the values to the host."""
        if self.device is not self.host:
            cuda.to_host(self.host.reserve(self.size), self.device.address, self.size)

    def array(self) -> Array:
        """Return a copy of what was fetched; the next call overwrites the buffer."""
        array = np.empty(self.shape, dtype=self.dtype)
        array.reshape(-1).view(np.uint8)[:] = self.host.view(self.size)
        return array


def _allocator_class(module: ModuleType) -> Any:
    """Return the class through which TensorRT asks for the memory of outputs of unknown shape."""

    class Allocator(module.IOutputAllocator):  # type: ignore[misc, name-defined]  # the base has no type
        def __init__(self, memory: Memory) -> None:
            module.IOutputAllocator.__init__(self)  # as its documentation demands
            self.memory = memory
            self.shape: tuple[int, ...] | None = None

        def reallocate_output(self, _name: str, _memory: int, size: int, _alignment: int) -> int:
            try:
                return self.memory.reserve(size)
            except RuntimeError:  # nothing may be raised through TensorRT; null makes it fail in order
                return 0

        def reallocate_output_async(
            self, name: str, memory: int, size: int, alignment: int, _stream: int
        ) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, _name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator
