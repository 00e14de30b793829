"""What a worker tells of an exception, and how that reaches the service."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from frameworks.errors import InvalidOutput, UnsupportedInput
from runtime.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    MemoryExhausted,
    ModelError,
    OutputMismatch,
    QueueFull,
)
from runtime.runner import failures, reports


def of(name: str, message: str, *bases: type[Exception], module: str = "somewhere") -> Exception:
    """An error of a class that this process does not have."""
    made: Exception = type(name, bases or (Exception,), {"__module__": module})(message)
    return made


def caused_by(cause: Exception) -> Exception:
    try:
        raise ValueError("cannot") from cause
    except ValueError as error:
        return error


def raised_by_numpy() -> Exception:
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, np.uint8)
    return caught.value


TORCH, ORT = "torch", "onnxruntime.capi.onnxruntime_pybind11_state"
EXHAUSTED = [
    MemoryError(),
    raised_by_numpy(),
    of("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB.", RuntimeError, module=TORCH),
    of("AcceleratorError", "CUDA error: out of memory", RuntimeError, module=TORCH),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 31.75 GiB total capacity)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:81] data. DefaultCPUAllocator: not enough memory: you"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    of("RuntimeException", "BFCArena::AllocateRawInternal Failed to allocate memory for", module=ORT),
    of("Fail", "[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc", module=ORT),
    of("ResourceExhaustedError", "OOM when allocating tensor with shape[64]", module="tensorflow.errors"),
    of("XlaRuntimeError", "RESOURCE_EXHAUSTED: Out of memory allocating", RuntimeError, module="jaxlib.xla"),
    caused_by(caused_by(MemoryError())),
]

OTHERS = [
    ValueError("the caller wrote: out of memory"),
    KeyError("memory"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    of("Fail", "out of memory, says the request", module="usercode"),
    of("InvalidArgument", "Got invalid dimensions", module=ORT),
    caused_by(KeyError("x")),
]


@pytest.mark.parametrize("error", EXHAUSTED, ids=str)
def test_a_batch_too_large_for_the_memory_is_told_from_other_failures(error: Exception) -> None:
    told = failures.to_tell(error)
    assert type(told) is MemoryExhausted
    assert type(error).__name__ in told.message
    assert "error id" in told.message


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_failures_are_not_taken_for_it(error: Exception) -> None:
    assert type(failures.to_tell(error)) is ModelError


def test_a_ring_of_causes_is_not_followed_for_ever() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not failures.lacks_memory(one)


def test_what_the_model_raised_is_told_by_its_class_and_an_id_only(caplog: pytest.LogCaptureFixture) -> None:
    told = failures.to_tell(KeyError("secret"))
    assert "KeyError" in told.message
    assert "secret" not in told.message
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.error_id in told.message  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnsupportedInput("not UTF-8", field="t"), InvalidInput),
        (InvalidOutput("no tensor", field="y"), OutputMismatch),
        (QueueFull("full", field="q"), QueueFull),
    ],
)
def test_errors_on_purpose_keep_their_words_and_field(error: Exception, kind: type[Exception]) -> None:
    told = failures.to_tell(error)
    assert type(told) is kind
    assert told is not error
    assert (told.message, told.field) == (str(error), error.field)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [Cancelled, DeadlineExceeded, InvalidInput, MemoryExhausted, OutputMismatch])
def test_a_report_gives_the_same_error_on_the_other_side(kind: type[InvalidInput]) -> None:
    error = kind("what \ud800 happened", field="x")
    for got in (reports.decode(reports.encode(error)), *reports.decode_all(reports.encode_all([error]))):
        assert type(got) is kind
        assert (got.message, got.field) == (error.message, "x")


def test_a_kind_that_workers_do_not_report_is_the_models_fault() -> None:
    assert type(reports.decode(reports.encode(QueueFull("no")))) is ModelError


def test_parts_of_a_batch_that_has_failed_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    error = failures.to_tell(ValueError("bad"), is_known=True)
    (line,) = caplog.records
    assert line.exc_info is None
    assert line.error_id in error.message
