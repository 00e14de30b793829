"""What a worker tells of the exceptions that come out of a batch; the rest of them goes to its log."""

from __future__ import annotations

import logging
from typing import Final

from frameworks.errors import InvalidOutput, UnsupportedInput
from runtime.clock import now_ns
from runtime.errors import InvalidInput, MemoryExhausted, ModelError, OutputMismatch, RuntimeServingError

log = logging.getLogger(__name__)

_NAMES: Final = frozenset({"OutOfMemoryError", "ResourceExhaustedError"})
"""Classes that say it all: PyTorch's ``torch.OutOfMemoryError`` and TensorFlow's."""

_TEXTS: Final = (
    "out of memory",  # CUDA, cuDNN and PyTorch before 2.5
    "can't allocate memory",  # PyTorch on a CPU
    "not enough memory",  # likewise, on other systems
    "failed to allocate memory",  # ONNX Runtime's arena
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUSOLVER_…, CUFFT_…
    "bad_alloc",  # C++ anywhere below
    "bad allocation",
)
_LIBRARIES: Final = frozenset({"jax", "jaxlib", "onnxruntime", "tensorflow", "tensorrt", "torch"})
_CAUSES: Final = 8
"""How far a chain of causes is followed: errors are wrapped two or three times, and a chain may be a ring."""


def to_tell(error: Exception, *, is_known: bool = False) -> RuntimeServingError:
    """What the service is told; the traceback goes to the log, under an id.

    The answer never refers to the exception, whose frames refer to the inputs.

    Args:
        error: that was raised.
        is_known: its traceback was logged before, and will be again once the task at fault is alone.
    """
    if isinstance(error, RuntimeServingError):
        log.warning("batch_failed", extra={"reason": error.reason, "cause": error.message})
        return type(error)(error.message, field=error.field)
    kind = type(error).__name__
    identity = f"{now_ns():x}"
    if lacks_memory(error):
        log.warning("memory_exhausted", exc_info=error, extra={"error_id": identity})
        return MemoryExhausted(f"the model ran out of memory: {kind} (error id {identity})")
    if isinstance(error, UnsupportedInput):
        return InvalidInput(error.message, field=error.field)
    if isinstance(error, InvalidOutput):
        return OutputMismatch(error.message, field=error.field)
    if is_known:
        log.warning("model_raised_again", extra={"error_id": identity, "cause": kind})
    else:
        log.error("model_raised", exc_info=error, extra={"error_id": identity})
    return ModelError(f"the model raised {kind} (error id {identity})")


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, means that the batch was too large for the memory.

    Told by class name and text, since this process need not have the libraries whose errors they are. Texts
    count only in errors of those libraries: others may quote what a caller sent.

    Source: messages of PyTorch 2.13 and ONNX Runtime 1.31 on a CPU, reproduced; those of CUDA from the issue
    threads of both.
    """
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if cause is None:
            return False
        if isinstance(cause, MemoryError) or any(base.__name__ in _NAMES for base in type(cause).__mro__):
            return True
        if type(cause) is RuntimeError or type(cause).__module__.partition(".")[0] in _LIBRARIES:
            text = str(cause).lower()
            if any(part in text for part in _TEXTS):
                return True
        cause = cause.__cause__
    return False
