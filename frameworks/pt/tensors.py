"""numpy and torch: values across the border without change, and calls as inference wants them.

Shared by the adapters that run torch. bfloat16 crosses as raw bits, since numpy has no such type of its own;
every other datatype maps to itself. On the CPU nothing is copied.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from frameworks import base
from frameworks.arrays import Array, as_array
from frameworks.errors import InvalidModel, InvalidOutput
from store import datatypes

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

VERSIONS: Final = {"torch": str(torch.__version__)}

_BF16: Final = datatypes.numpy_dtype("BF16")


def device_of(name: str) -> torch.device:
    """Return the device.

    Raises:
        InvalidModel: the name is unknown to torch, or the machine lacks the device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidModel(f"torch knows no device {name!r}: {error}", field="device") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidModel(
            f"device {name!r} is not there; torch sees {torch.cuda.device_count()} GPUs", field="device"
        )
    return device


def to_tensor(array: Array, device: torch.device) -> torch.Tensor | Array:
    """Return a tensor that shares the array's memory (CPU) or its copy (GPU); BYTES stay an object array."""
    if array.dtype.kind == "O":
        return array
    if not array.flags.writeable:
        array = array.copy()  # torch has no read-only tensors
    if array.dtype == _BF16:
        tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.to(device, non_blocking=True)


def to_array(value: object) -> Array:
    """Return the array of a tensor, sharing its memory (CPU), or of any other array-like value.

    Raises:
        InvalidOutput: a datatype without a protocol name.
    """
    if not isinstance(value, torch.Tensor):
        return as_array(value)
    if value.dtype is not torch.bfloat16:
        try:
            return as_array(value.numpy())
        except (TypeError, RuntimeError):  # not dense on the CPU, or with a gradient
            pass
    tensor = value.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    if tensor.dtype is torch.bfloat16:
        bits = as_array(tensor.contiguous().view(torch.int16).numpy())
        return bits.view(_BF16)
    try:
        return as_array(tensor.numpy())
    except (TypeError, RuntimeError) as error:
        raise InvalidOutput(f"a {tensor.dtype} tensor has no datatype: {error}") from error


class InferenceCall:
    """Calls a function in inference mode, with the thread budget set in whichever thread executes.

    torch keeps both per thread, so that setting them where the model is loaded would not do.

    Args:
        function: what to call.
        threads: CPU threads of one call.
        into: each argument to the function's value. Tensors that are made in inference mode are quicker in it
            than others; only, a function that leaves it to compute gradients cannot do so with them.
    """

    def __init__(
        self,
        function: Callable[..., object],
        threads: int,
        *,
        into: Callable[[Any], object] = lambda value: value,
    ) -> None:
        self._function = function
        self._threads = threads
        self._into = into
        self._prepared = threading.local()

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Return what the function returns."""
        if not hasattr(self._prepared, "done"):
            torch.set_num_threads(self._threads)
            self._prepared.done = True
        into = self._into
        with torch.inference_mode():
            return self._function(
                *[into(value) for value in args], **{name: into(value) for name, value in kwargs.items()}
            )
