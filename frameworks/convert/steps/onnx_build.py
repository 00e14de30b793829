"""Building an ONNX graph piece by piece, for converters that write nodes themselves.

Values carry their datatype, so that a cast is written only where one is needed. Inner names are this module's
own; ``frameworks.convert.steps.onnx_graph`` gives inputs and outputs their public ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from frameworks import base
from frameworks.arrays import Array
from frameworks.convert.work import NotConvertible
from store import datatypes

try:
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper
except ModuleNotFoundError as error:
    raise base.missing("onnx", "convert") from error

ML_DOMAIN: Final = "ai.onnx.ml"
ML_OPSET: Final = 3
"""The first with trees of doubles, which onnxruntime and the scikit-learn converter both know."""

OPSET: Final = 18
LEAST_OPSET: Final = 13

_TYPES: Final = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}
_NAMES: Final[dict[int, str]] = {int(number): name for name, number in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph.

    Args:
        name: in the graph.
        datatype: such as ``FP32``.
    """

    name: str
    datatype: str


class Build:
    """A graph that is being written.

    Args:
        opset: of ONNX's own operators; None takes the usual one.

    Raises:
        NotConvertible: it is too old.
    """

    def __init__(self, opset: int | None) -> None:
        self.opset = OPSET if opset is None else opset
        if self.opset < LEAST_OPSET:
            raise NotConvertible(
                f"opset {opset} is too old for this conversion; use {LEAST_OPSET} or more", field="opset"
            )
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._opsets = {"": self.opset, ML_DOMAIN: ML_OPSET}
        self._count = 0

    def add(
        self, op: str, *inputs: Value, datatype: str | None = None, domain: str = "", **attributes: Any
    ) -> Value:
        """Add a node of one result and return that.

        Args:
            op: operator.
            inputs: its arguments.
            datatype: of the result; None is that of the first argument.
            domain: of the operator.
            attributes: of the node.
        """
        result = Value(self._fresh(), datatype or inputs[0].datatype)
        self._nodes.append(
            helper.make_node(op, [one.name for one in inputs], [result.name], domain=domain, **attributes)
        )
        return result

    def constant(self, array: Array, datatype: str | None = None) -> Value:
        """Add a constant; text is a list of ``str`` in an object array."""
        result = Value(self._fresh(), datatype or datatypes.from_numpy(array.dtype))
        self._constants.append(numpy_helper.from_array(array, result.name))
        return result

    def cast(self, value: Value, datatype: str) -> Value:
        """Return the value in a datatype; itself where it is of that already."""
        if value.datatype == datatype:
            return value
        return self.add("Cast", value, datatype=datatype, to=_TYPES[datatype])

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """Return the value in a shape; 0 keeps an axis."""
        return self.add("Reshape", value, self.constant(np.array(shape, dtype=np.int64)))

    def include(self, model: Any, features: Value) -> list[Value]:
        """Add the graph of a model with one input and return its outputs.

        Args:
            model: a ``ModelProto``; its operators are of this graph's opsets or older ones of equal meaning.
            features: what its input is given.
        """
        inner = compose.add_prefix(model, f"{self._fresh()}_")
        for opset in inner.opset_import:
            self._opsets.setdefault(opset.domain, opset.version)
        (entry,) = inner.graph.input
        self._nodes.append(helper.make_node("Identity", [features.name], [entry.name]))
        self._nodes.extend(inner.graph.node)
        self._constants.extend(inner.graph.initializer)
        return [Value(one.name, _NAMES[one.type.tensor_type.elem_type]) for one in inner.graph.output]

    def finish(self, entry: Value, axes: Sequence[int], outputs: Sequence[tuple[Value, int]]) -> Any:
        """Return the ``ModelProto``, without the nodes that no output needs.

        Args:
            entry: the graph's input, as ``entry`` made it.
            axes: its shape; -1 is an open axis.
            outputs: each with its number of axes.
        """
        graph = helper.make_graph(
            self._nodes,
            "graph",
            [helper.make_tensor_value_info(entry.name, _TYPES[entry.datatype], _dims("input", axes))],
            [
                helper.make_tensor_value_info(
                    value.name, _TYPES[value.datatype], _dims(f"output_{index}", [-1] * rank)
                )
                for index, (value, rank) in enumerate(outputs)
            ],
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        version = min(helper.find_min_ir_version_for(opsets, ignore_unknown=True), onnx.IR_VERSION)
        return helper.make_model(graph, opset_imports=opsets, ir_version=version)

    def entry(self, datatype: str) -> Value:
        """Return the graph's input of a datatype."""
        return Value(self._fresh(), datatype)

    def _fresh(self) -> str:
        self._count += 1
        return f"v{self._count}"


def _dims(word: str, axes: Sequence[int]) -> list[int | str]:
    return [size if size >= 0 else f"{word}_{axis}" for axis, size in enumerate(axes)]
