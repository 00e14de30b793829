"""Opening an ONNX graph in onnxruntime, reading its specs, and calling it with named arrays."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from frameworks import base
from frameworks.arrays import Array, Arrays, as_array
from frameworks.base import LoadOptions
from frameworks.errors import InvalidModel, UnsupportedInput
from store import Signature, TensorSpec, datatypes
from store.signature import DYNAMIC

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise base.missing("onnxruntime", "onnx") from error

VERSIONS: Final = {"onnxruntime": str(onnxruntime.__version__)}

_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
_BF16: Final = "tensor(bfloat16)"
_BF16_ELEMENT_TYPE: Final = 16
"""Number of bfloat16 in ``TensorProto.DataType``. Source: onnx.proto."""


def open_session(graph: Path | bytes, options: LoadOptions) -> Any:
    """Return a session on the device with the thread budget.

    With more than one thread, waiting threads sleep: spinning ones burn a core per instance while idle.

    Raises:
        InvalidModel: onnxruntime refuses the graph, or lacks the device.
    """
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted, provider_options = _provider(options.device)
    if wanted not in onnxruntime.get_available_providers():
        raise InvalidModel(
            f"device {options.device!r} needs {wanted}, which this onnxruntime lacks; "
            "install the extra 'onnx-gpu' instead of 'onnx'",
            field="device",
        )
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        session = onnxruntime.InferenceSession(source, settings, providers=[(wanted, provider_options)])
    except Exception as error:
        raise InvalidModel(f"onnxruntime refuses the model: {error}", field="model") from error
    if session.get_providers()[0] != wanted:  # it falls back to the CPU in silence
        raise InvalidModel(
            f"onnxruntime could not use {wanted} for device {options.device!r}", field="device"
        )
    return session


def complete(signature: Signature, session: Any) -> Signature:
    """Return the signature with the graph's specs where it has none.

    A tensor of no axes may be a scalar or of unknown rank, which onnxruntime does not tell apart; then that
    side stays without specs.

    Raises:
        InvalidModel: a tensor is no plain tensor, or the given specs name other tensors.
        InvalidSignature: the method is to be batchable and the graph fixes the batch axis.
    """
    inputs, outputs = _specs(session.get_inputs()), _specs(session.get_outputs())
    for given, nodes in (
        (signature.inputs, session.get_inputs()),
        (signature.outputs, session.get_outputs()),
    ):
        names = [node.name for node in nodes]
        for spec in given or ():
            if spec.name not in names:
                raise InvalidModel(
                    f"the graph has no tensor {spec.name!r}; it has {', '.join(names)}", field=spec.name
                )
    return replace(signature, inputs=signature.inputs or inputs, outputs=signature.outputs or outputs)


class SessionMethod:
    """Runs the graph; an ``Opened``. Inputs and outputs go by the graph's names."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = tuple(node.name for node in session.get_inputs())
        self._outputs = [node.name for node in session.get_outputs()]
        types = [node.type for node in (*session.get_inputs(), *session.get_outputs())]
        self._has_bf16 = _BF16 in types

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run the graph.

        Raises:
            UnsupportedInput: a BYTES element is not UTF-8; the graph's strings are text. What onnxruntime
                raises passes through.
        """
        feeds = {name: _feed(name, array) for name, array in inputs.items()}
        if self._has_bf16:
            values = self._session.run_with_ort_values(
                self._outputs, {name: _to_value(array) for name, array in feeds.items()}
            )
            results = [_from_value(value) for value in values]
        else:
            results = [as_array(result) for result in self._session.run(self._outputs, feeds)]
        return dict(zip(self._outputs, results, strict=True))

    def input_names(self, count: int) -> tuple[str, ...]:
        """Return the graph's first input names."""
        names = self._inputs
        return names[:count] if len(names) >= count else tuple(f"input_{index}" for index in range(count))


def _provider(device: str) -> tuple[str, dict[str, str]]:
    kind, _, index = device.partition(":")
    if kind == "cpu" and not index:
        return "CPUExecutionProvider", {}
    if kind == "cuda" and (not index or index.isdecimal()):
        return "CUDAExecutionProvider", {"device_id": index or "0"}
    raise InvalidModel(
        f"onnxruntime knows no device {device!r}; use 'cpu', 'cuda' or 'cuda:N'", field="device"
    )


def _specs(nodes: list[Any]) -> tuple[TensorSpec, ...] | None:
    specs = []
    for node in nodes:
        if node.type not in _DATATYPES:
            raise InvalidModel(
                f"tensor {node.name!r} is a {node.type}; export the model so that it takes and returns plain "
                "tensors (for scikit-learn: zipmap=False)",
                field=node.name,
            )
        shape = tuple(size if isinstance(size, int) and size >= 0 else DYNAMIC for size in node.shape)
        specs.append(TensorSpec(node.name, _DATATYPES[node.type], shape))
    return tuple(specs) if all(spec.shape for spec in specs) else None


def _feed(name: str, array: Array) -> Array:
    if array.dtype.kind != "O":
        return array
    texts = np.empty(array.size, dtype=object)
    for index, item in enumerate(array.ravel().tolist()):
        try:
            texts[index] = item.decode() if isinstance(item, bytes) else item
        except UnicodeDecodeError as error:
            raise UnsupportedInput(
                f"input {name!r}, element {index}: not UTF-8: {error}", field=name
            ) from error
    return texts.reshape(array.shape)


def _to_value(array: Array) -> Any:
    if array.dtype.name == "bfloat16":
        bits = array.view(np.uint16)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BF16_ELEMENT_TYPE)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _from_value(value: Any) -> Array:
    if value.data_type() != _BF16:
        return as_array(value.numpy())
    # onnxruntime has no numpy type for bfloat16, so its memory is copied as it is.
    array = np.empty(value.shape(), dtype=datatypes.numpy_dtype("BF16"))
    ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array
