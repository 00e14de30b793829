"""Writing a converted ONNX graph: named as the signature says, tried, and only then put in its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from frameworks import base
from frameworks.convert.steps import onnx_graph
from frameworks.convert.work import NotConvertible
from frameworks.ort.session import OUTPUTS_KEY
from store import Signature, TensorSpec, datatypes
from store.signature import DYNAMIC

try:
    import onnx
    from onnx import ModelProto, helper
except ModuleNotFoundError as error:
    raise base.missing("onnx", "convert") from error

MAX_BYTES: Final = 2**31 - 2**20
"""Weights above this lie in a file beside the graph. Source: protobuf's limit of 2 GiB for a message."""


def name_tensors(
    model: ModelProto, method: str, signature: Signature, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Give the graph's inputs and outputs, by position, their names, and their axes what the specs say.

    Args:
        model: changed in place.
        method: that the graph is.
        signature: with all specs.
        inputs: names of the specs in the graph's order.
        outputs: likewise; outputs whose names no spec has are dropped.

    Raises:
        NotConvertible: the graph has other numbers of inputs or outputs, or of axes.
    """
    graph = model.graph
    _make_distinct(graph)
    given, results = ([value.name for value in values] for values in (graph.input, graph.output))
    for kind, found, wanted in (("inputs", given, inputs), ("outputs", results, outputs)):
        if len(found) != len(wanted):
            raise NotConvertible(
                f"the exported graph has {len(found)} {kind} ({', '.join(found)}), and the signature names "
                f"{', '.join(wanted)}",
                field=f"signatures.{method}.{kind}",
            )
    specs = [spec.name for spec in signature.outputs or ()]
    by_name = dict(zip(outputs, results, strict=True))
    onnx_graph.keep_outputs(model, [by_name[name] for name in specs])
    # Values have one namespace in ONNX: an output that is called like an input needs another name there.
    public = {name: f"{name}_output" if name in inputs else name for name in specs}
    onnx_graph.rename(
        model, dict(zip(given, inputs, strict=True)), {by_name[name]: public[name] for name in specs}
    )
    if any(name != known for known, name in public.items()):
        helper.set_model_props(model, {OUTPUTS_KEY + method: json.dumps([public[name] for name in specs])})
    onnx_graph.name_batch_axes(model, {method: signature})


def restore_inputs(model: ModelProto, names: Sequence[str], specs: Sequence[TensorSpec]) -> None:
    """Add the inputs that an exporter left out because the model does nothing with them.

    Args:
        model: changed in place.
        names: of all inputs in the graph, in order.
        specs: theirs.
    """
    known: dict[str, Any] = {value.name: value for value in model.graph.input}
    values = []
    for name, spec in zip(names, specs, strict=True):
        kind = helper.np_dtype_to_tensor_dtype(datatypes.numpy_dtype(spec.datatype))
        shape = [None if size == DYNAMIC else size for size in spec.shape]
        values.append(known.pop(name, None) or helper.make_tensor_value_info(name, kind, shape))
    rest = list(known.values())
    del model.graph.input[:]
    model.graph.input.extend([*values, *rest])


def write(model: ModelProto, target: Path, check: Callable[[Path], None], limit: int = MAX_BYTES) -> None:
    """Write the graph as one file, or with its weights in a file beside it when they are too large.

    Args:
        model: to be written.
        target: the ``.onnx`` file.
        check: tries the file where it was written first; what it raises keeps the target as it was.
        limit: most bytes of weights inside the graph.
    """
    folder = target.with_name(f".{target.stem}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data = f"{target.name}.data"
    try:
        graph = folder / target.name
        beside = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > limit
        if beside:
            onnx.save_model(model, str(graph), save_as_external_data=True, location=data)
        else:
            onnx.save_model(model, str(graph))
        check(graph)
        if beside:
            (folder / data).replace(target.with_name(data))
        graph.replace(target)
        if not beside:
            target.with_name(data).unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operations that the graph uses."""
    versions: Mapping[str, Any] = {one.domain: one.version for one in model.opset_import}
    return int(versions.get("", 0))


def check_opset(model: ModelProto, wanted: int | None, exporter: str) -> None:
    """Make sure that the exporter did as it was told; some take another version in silence.

    Raises:
        NotConvertible: another opset than the wanted one.
    """
    if wanted is not None and opset_of(model) != wanted:
        raise NotConvertible(
            f"the {exporter} exporter made opset {opset_of(model)} where {wanted} was asked for; ask for "
            "that, or use the other exporter",
            field="opset",
        )


def _make_distinct(graph: Any) -> None:
    """Give an output that is there twice a node and a name of its own."""
    seen: set[str] = set()
    for index, value in enumerate(graph.output):
        if value.name in seen:
            name = f"{value.name}__again_{index}"
            graph.node.append(helper.make_node("Identity", [value.name], [name]))
            value.name = name
        seen.add(value.name)
