"""Opening an ONNX graph in onnxruntime, reading its specs, and calling it with named arrays."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from frameworks import base, objects
from frameworks.arrays import Array, Arrays, as_array
from frameworks.base import LoadOptions
from frameworks.errors import InvalidModel, UnsupportedInput
from frameworks.ort import providers as onnx_providers
from frameworks.ort import values as onnx_values
from store import Signature, TensorSpec
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
    onnx_values.BF16: "BF16",
    onnx_values.STRING: "BYTES",
}

OUTPUTS_KEY: Final = "runtime.outputs."
"""With a method's name behind it: key of the graph's metadata whose value lists that method's outputs.

The value is a JSON list of the graph's output names, in the order of the method's output specs. By it one
graph answers several methods whose outputs have equal names.
"""


def open_session(graph: Path | bytes, options: LoadOptions) -> Any:
    """Return a session on the device with the thread budget.

    Args:
        graph: the file, or the serialised model.
        options: see ``frameworks.ort.providers`` for the settings; those of others are passed over.

    Raises:
        InvalidModel: onnxruntime refuses the graph, or lacks the device or the provider.
    """
    settings = onnx_providers.session_options(options)
    providers = onnx_providers.choose(options)
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        session = onnxruntime.InferenceSession(source, settings, providers=providers)
    except Exception as error:
        raise InvalidModel(f"onnxruntime refuses the model: {error}", field="model") from error
    onnx_providers.check_used(session, providers[0][0], options.device)
    return session


def method_outputs(session: Any, method: str, signature: Signature) -> dict[str, str]:
    """Return a method's outputs: the name under which each is answered, and the graph's name of it.

    Cases, in this order:

    1. the graph's metadata lists the method's outputs (see ``OUTPUTS_KEY``): answered under the names of the
       output specs, by position;
    2. the method has output specs: they name outputs of the graph;
    3. ``__call__`` answers all outputs.

    Raises:
        InvalidModel: the graph has no such output, the numbers differ, or nothing says what is answered.
    """
    names = [node.name for node in session.get_outputs()]
    listed = _listed_outputs(session, method)
    answered = None if signature.outputs is None else [spec.name for spec in signature.outputs]
    found = listed if listed is not None else answered
    if found is None and method == objects.CALL:
        found = names
    if found is None:
        raise InvalidModel(
            f"method {method!r} needs output specs that say which of the graph's outputs it answers; "
            f"there are {', '.join(names)}",
            field=f"signatures.{method}",
        )
    for name in found:
        if name not in names:
            raise _no_tensor(name, names)
    if answered is not None and len(answered) != len(found):
        raise InvalidModel(
            f"the graph answers method {method!r} with {', '.join(found)}; its signature has "
            f"{len(answered)} outputs",
            field=f"signatures.{method}",
        )
    return dict(zip(answered or found, found, strict=True))


def complete(signature: Signature, session: Any, method: str = objects.CALL) -> Signature:
    """Return the signature with the graph's specs where it has none.

    A tensor of no axes may be a scalar or of unknown rank, which onnxruntime does not tell apart; then that
    side stays without specs.

    Raises:
        InvalidModel: a tensor is no plain tensor, or the given specs name other tensors or datatypes.
        InvalidSignature: the method is to be batchable and the graph fixes the batch axis.
    """
    outputs = method_outputs(session, method, signature)
    by_name = {node.name: node for node in session.get_outputs()}
    into = _specs({node.name: node for node in session.get_inputs()})
    out = _specs({name: by_name[inner] for name, inner in outputs.items()})
    for given, found in ((signature.inputs, into), (signature.outputs, out)):
        known = {spec.name: spec for spec in found}
        for spec in given or ():
            if spec.name not in known:
                raise _no_tensor(spec.name, list(known))
            if spec.datatype != known[spec.name].datatype:
                raise InvalidModel(
                    f"tensor {spec.name!r} of the graph is {known[spec.name].datatype}, not {spec.datatype}",
                    field=spec.name,
                )
    graphs = replace(signature, inputs=_known_rank(into), outputs=_known_rank(out), padding=())
    return replace(
        signature,
        inputs=signature.inputs or graphs.inputs,
        outputs=signature.outputs or graphs.outputs,
    )


class SessionMethod:
    """Runs the graph, or the part of it that some outputs need; an ``Opened``.

    Args:
        session: an onnxruntime session; methods may share it.
        outputs: name of each answer to the graph's name of it; None answers all under the graph's names.
    """

    def __init__(self, session: Any, outputs: Mapping[str, str] | None = None) -> None:
        self.session = session
        self._inputs = tuple(node.name for node in session.get_inputs())
        every = session.get_outputs()
        self._answers = tuple(outputs) if outputs is not None else tuple(node.name for node in every)
        wanted = list(outputs.values()) if outputs is not None else list(self._answers)
        nodes = [*session.get_inputs(), *(node for node in every if node.name in wanted)]
        self._execute = _execution(session, wanted, {node.type for node in nodes})

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run the graph.

        Raises:
            UnsupportedInput: a BYTES element is not UTF-8; the graph's strings are text. What onnxruntime
                raises passes through.
        """
        feeds = {name: _feed(name, array) for name, array in inputs.items()}
        return dict(zip(self._answers, self._execute(feeds), strict=True))

    def input_names(self, count: int) -> tuple[str, ...]:
        """Return the graph's first input names."""
        names = self._inputs
        return names[:count] if len(names) >= count else tuple(f"input_{index}" for index in range(count))


def _execution(session: Any, outputs: list[str], types: set[str]) -> Callable[[Arrays], list[Array]]:
    """Return the way to run a session: plainly; by its own values for bfloat16; bound on a GPU."""
    if session.get_providers()[0] != onnx_providers.CPU and onnx_values.STRING not in types:
        return onnx_values.Bound(session, outputs)
    if onnx_values.BF16 in types:
        return onnx_values.ByValue(session, outputs)
    return lambda feeds: [as_array(result) for result in session.run(outputs, feeds)]


def _listed_outputs(session: Any, method: str) -> list[str] | None:
    text = session.get_modelmeta().custom_metadata_map.get(OUTPUTS_KEY + method)
    if text is None:
        return None
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidModel(
            f"the graph's metadata {OUTPUTS_KEY + method!r} must be a JSON list of names, not {text!r}",
            field="model",
        )
    return names


def _no_tensor(name: str, names: list[str]) -> InvalidModel:
    return InvalidModel(f"the graph has no tensor {name!r}; it has {', '.join(names)}", field=name)


def _known_rank(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...] | None:
    return specs if all(spec.shape for spec in specs) else None


def _specs(nodes: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    specs = []
    for name, node in nodes.items():
        if node.type not in _DATATYPES:
            raise InvalidModel(
                f"tensor {name!r} is a {node.type}; export the model so that it takes and returns plain "
                "tensors (for scikit-learn: zipmap=False)",
                field=name,
            )
        shape = tuple(size if isinstance(size, int) and size >= 0 else DYNAMIC for size in node.shape)
        specs.append(TensorSpec(name, _DATATYPES[node.type], shape))
    return tuple(specs)


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


def optimize(path: Path) -> None:
    """Let onnxruntime fold constants and drop what does nothing; a graph of several files stays as it is."""
    if any(path.parent.glob(f"{glob.escape(path.name)}.*")):
        return
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path.with_name("optimized"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    path.with_name("optimized").replace(path)
