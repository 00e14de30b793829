from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from frameworks import InvalidModel, UnsupportedInput
from frameworks.trt.cuda import Cuda
from frameworks.trt.engine import Engine, EngineMethod
from store import TensorSpec
from tests.support.fake_tensorrt import EngineKind, FakeCuda, fake_tensorrt


def rows(count: int, dtype: Any = np.float32) -> Any:
    return np.arange(count * 3, dtype=dtype).reshape(count, 3)


def opened(cuda: FakeCuda, **kind: Any) -> Engine:
    return Engine(fake_tensorrt(EngineKind(**kind)), Cuda(cuda, 2), b"plan")


def test_the_plan_computes_on_the_card() -> None:
    cuda = FakeCuda()
    engine = opened(cuda)
    assert engine.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    assert engine.outputs == (TensorSpec("y", "FP32", (-1, 3)),)
    np.testing.assert_array_equal(engine.execute({"x": rows(2)})["y"], rows(2) * 2)
    assert set(cuda.selected) == {2}


def test_answers_are_not_overwritten_by_the_next_call() -> None:
    engine = opened(FakeCuda())
    first = engine.execute({"x": rows(2)})["y"]
    engine.execute({"x": rows(2) + 100})
    np.testing.assert_array_equal(first, rows(2) * 2)


def test_buffers_are_kept_and_grow_only_when_they_must() -> None:
    cuda = FakeCuda()
    engine = opened(cuda)
    engine.execute({"x": rows(1)})
    first = cuda.allocations
    for count in (8, 1, 5, 8):  # all within the granule of 256 bytes
        np.testing.assert_array_equal(engine.execute({"x": rows(count)})["y"], rows(count) * 2)
    assert cuda.allocations == first == len(cuda.memory) == 4  # two tensors, on host and card


def test_growth_gives_the_old_memory_back() -> None:
    cuda = FakeCuda()
    memory = Cuda(cuda, 0).device_memory()
    addresses = {memory.reserve(size) for size in (10, 300, 200, 1000)}
    assert cuda.allocations == 3
    assert set(cuda.memory) == {memory.address} <= addresses
    del memory
    gc.collect()
    assert not cuda.memory


@pytest.mark.parametrize(("name", "dtype"), [("HALF", np.float16), ("INT64", np.int64)])
def test_every_width_travels(name: str, dtype: Any) -> None:
    answer = opened(FakeCuda(), datatype=name).execute({"x": rows(4, dtype)})["y"]
    assert answer.dtype == dtype
    np.testing.assert_array_equal(answer, rows(4, dtype) * 2)


def test_outputs_whose_shape_depends_on_values_are_sized_by_tensorrt() -> None:
    engine = opened(FakeCuda(), counts=True)
    for count in (3, 8, 1):
        np.testing.assert_array_equal(
            engine.execute({"x": rows(count)})["found"], np.flatnonzero(rows(count) > 0)
        )
    assert engine.execute({"x": -rows(2)})["found"].shape == (0,)


def test_tensors_in_the_hosts_memory_are_not_copied_to_the_card() -> None:
    answers = opened(FakeCuda(), tells_shape=True).execute({"x": rows(5)})
    assert answers["shape"].tolist() == [5, 3]


@pytest.mark.parametrize("shape", [(13, 3), (0, 3), (2, 4), (3,)])
def test_shapes_outside_of_the_plan_are_refused_with_its_range(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        UnsupportedInput, match=r"input 'x' has the shape .*takes \[1, 3\] to \[12, 3\]"
    ) as caught:
        opened(FakeCuda()).execute({"x": np.zeros(shape, np.float32)})
    assert caught.value.field == "x"


def test_another_datatype_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedInput, match="input 'x' must be FP32, not float64"):
        opened(FakeCuda()).execute({"x": rows(2, np.float64)})


def test_a_refused_plan_is_told_in_tensorrts_words() -> None:
    with pytest.raises(InvalidModel, match="refuses the plan: Version tag does not match"):
        opened(FakeCuda(), refuses="Version tag does not match")


def test_a_failed_execution_is_told_in_tensorrts_words_and_only_in_those_of_this_call() -> None:
    engine = opened(FakeCuda(), breaks="illegal memory access")
    with pytest.raises(UnsupportedInput):
        engine.execute({"x": rows(13)})
    with pytest.raises(RuntimeError, match=r"TensorRT failed: illegal memory access$"):
        engine.execute({"x": rows(1)})


@pytest.mark.parametrize(
    "function", ["cudaMalloc", "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaSetDevice"]
)
def test_errors_of_cuda_are_raised_with_their_text(function: str) -> None:
    cuda = FakeCuda()
    engine = opened(cuda)
    cuda.fail_in = function
    with pytest.raises(RuntimeError, match="CUDA error 700 on card 2: made to fail"):
        engine.execute({"x": rows(1)})


def test_lack_of_memory_for_an_output_of_unknown_size_fails_in_order() -> None:
    class Full(FakeCuda):
        def cudaMalloc(self, size: int) -> tuple[int, int]:
            return (2, 0) if size == 512 else super().cudaMalloc(size)

    engine = opened(Full(), counts=True)
    with pytest.raises(RuntimeError, match="TensorRT failed: no memory for found"):
        engine.execute({"x": np.ones((12, 3), np.float32)})


def test_a_method_answers_under_its_own_names() -> None:
    method = EngineMethod(opened(FakeCuda(), counts=True), {"doubled": "y"})
    assert list(method({"x": rows(2)})) == ["doubled"]
    assert method.input_names(1) == ("x",)
    assert method.input_names(2) == ("input_0", "input_1")
