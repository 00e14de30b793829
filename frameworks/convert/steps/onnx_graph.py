"""Giving an ONNX graph the names and axes that a signature says, whatever its exporter called them.

Values have one namespace in ONNX: what a node makes may already bear the name that an output is to have, so
the others move out of the way. Every function changes the model in place; what the graph computes and the
order of its inputs stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableSequence, Sequence
from typing import Any, Final

from frameworks import base
from frameworks.convert.work import NotConvertible
from store import Signature, TensorSpec
from store.signature import DYNAMIC

try:
    from onnx import AttributeProto, GraphProto, ModelProto, helper
except ModuleNotFoundError as error:
    raise base.missing("onnx", "convert") from error

BATCH: Final = "batch"
"""Name of the batch axis in the shapes of inputs and outputs."""


def rename(model: ModelProto, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Rename graph inputs and outputs wherever they are mentioned.

    An output that is an input or a constant itself gets a node of its own, so that both can have their names.

    Args:
        model: changed in place.
        inputs: name in the graph to the wanted one; inputs left out keep theirs.
        outputs: likewise.

    Raises:
        NotConvertible: the graph has no such input or output, or two values would share a name.
    """
    graph = model.graph
    _check_known("input", inputs, [value.name for value in graph.input])
    _check_known("output", outputs, [value.name for value in graph.output])
    separated = _separate(graph, inputs, outputs)
    outputs = {
        **{fresh: old for old, fresh in separated.items()},
        **{separated.get(old, old): new for old, new in outputs.items()},
    }
    wanted = {old: new for old, new in {**inputs, **outputs}.items() if old != new}
    public = [value.name for value in (*graph.input, *graph.output)]
    final = [wanted.get(name, name) for name in dict.fromkeys(public)]
    for name in final:
        if final.count(name) > 1:
            raise NotConvertible(
                f"an ONNX graph cannot have two tensors named {name!r}; rename one in the signature",
                field=name,
            )
    names = _names(graph)
    moved = {name: _fresh(name, names) for name in wanted.values() if name in names and name not in wanted}
    _replace(graph, {**wanted, **moved})


def keep_outputs(model: ModelProto, names: Sequence[str]) -> None:
    """Keep these outputs, in this order, and drop whatever only the others need. Inputs stay.

    Raises:
        NotConvertible: the graph has no such output.
    """
    graph = model.graph
    known = {value.name: value for value in graph.output}
    _check_known("output", names, list(known))
    kept = [known[name] for name in names]
    del graph.output[:]
    graph.output.extend(kept)
    needed, nodes = set(names), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(_used(node))
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    _keep(graph.initializer, lambda one: one.name in needed)
    _keep(graph.sparse_initializer, lambda one: one.values.name in needed)
    made = {name for node in graph.node for name in node.output}
    _keep(graph.value_info, lambda one: one.name in made)


def name_batch_axes(model: ModelProto, signatures: Mapping[str, Signature]) -> None:
    """Make the shapes of the graph's inputs and outputs say what the specs of the same names say.

    The batch axis is called ``batch`` everywhere. Other axes of -1 stay, or become, symbolic; an axis that
    the specs fix and the graph leaves open is fixed, since TensorRT wants a range for each open one.

    Raises:
        NotConvertible: a tensor has another number of axes than its spec.
    """
    graph = model.graph
    renamed: dict[str, str] = {}
    for signature in signatures.values():
        for values, specs, axis in (
            (graph.input, signature.inputs, signature.batch_dim[0]),
            (graph.output, signature.outputs, signature.batch_dim[1]),
        ):
            known = {value.name: value for value in values}
            for spec in specs or ():
                if spec.name in known:
                    dims = _dims(known[spec.name], spec)
                    renamed.update(_set_dims(dims, spec, axis if signature.batchable else None))
    for part in _graphs(graph):
        for value in (*part.input, *part.output, *part.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param in renamed:
                    dim.dim_param = renamed[dim.dim_param]


def _check_known(kind: str, names: Collection[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise NotConvertible(f"the graph has no {kind} {name!r}; it has {', '.join(known)}", field=name)


def _separate(graph: GraphProto, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """Give outputs that no node makes a node of their own; return their new names."""
    constants = {value.name for value in graph.initializer}
    given = {value.name: inputs.get(value.name, value.name) for value in graph.input}
    names, separated = _names(graph), dict[str, str]()
    for value in graph.output:
        old = value.name
        wanted = outputs.get(old, old)
        if (old in given and given[old] != wanted) or (old in constants and old != wanted):
            separated[old] = _fresh(old, names)
            graph.node.append(helper.make_node("Identity", [old], [separated[old]]))
            value.name = separated[old]
    return separated


def _names(graph: GraphProto) -> set[str]:
    """Return the name of every value of the graph and the graphs inside it."""
    names: set[str] = set()
    for part in _graphs(graph):
        names.update(value.name for value in _values(part))
        names.update(value.values.name for value in part.sparse_initializer)
        for node in part.node:
            names.update((*node.input, *node.output))
    return names - {""}  # an optional input that is left out


def _fresh(name: str, names: set[str]) -> str:
    """Return a name that no value has, and take it."""
    number = 1
    while f"{name}_{number}" in names:
        number += 1
    names.add(f"{name}_{number}")
    return f"{name}_{number}"


def _replace(graph: GraphProto, new: Mapping[str, str]) -> None:
    # The same change everywhere, one to one: what a name means in an inner graph stays the same, too.
    for part in _graphs(graph):
        for value in _values(part):
            value.name = new.get(value.name, value.name)
        for sparse in part.sparse_initializer:
            sparse.values.name = new.get(sparse.values.name, sparse.values.name)
        for annotation in part.quantization_annotation:
            annotation.tensor_name = new.get(annotation.tensor_name, annotation.tensor_name)
            for entry in annotation.quant_parameter_tensor_names:
                entry.value = new.get(entry.value, entry.value)
        for node in part.node:
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield the graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)


def _values(graph: GraphProto) -> Iterator[Any]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info
    yield from graph.initializer


def _inner(node: Any) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _used(node: Any) -> set[str]:
    """Return the names that a node reads, in the graphs inside it too."""
    used = set(node.input)
    for inner in _inner(node):
        used |= _names(inner)
    return used


def _keep(values: MutableSequence[Any], wanted: Callable[[Any], bool]) -> None:
    kept = [value for value in values if wanted(value)]
    del values[:]
    values.extend(kept)


def _dims(value: Any, spec: TensorSpec) -> Sequence[Any]:
    shape = value.type.tensor_type.shape
    if not value.type.tensor_type.HasField("shape"):
        shape.SetInParent()
        for _ in spec.shape:
            shape.dim.add()
    if len(shape.dim) != len(spec.shape):
        raise NotConvertible(
            f"tensor {spec.name!r} has {len(shape.dim)} axes in the graph and {len(spec.shape)} in the "
            "signature",
            field=spec.name,
        )
    dims: Sequence[Any] = shape.dim
    return dims


def _set_dims(dims: Sequence[Any], spec: TensorSpec, batch: int | None) -> dict[str, str]:
    """Set the axes of one tensor; return what the symbols of batch axes were."""
    renamed = {}
    for axis, (dim, size) in enumerate(zip(dims, spec.shape, strict=True)):
        if axis == batch:
            if dim.dim_param:
                renamed[dim.dim_param] = BATCH
            dim.dim_param = BATCH
        elif size != DYNAMIC:
            dim.dim_value = size
        elif not dim.dim_param:
            dim.dim_param = f"{spec.name}_{axis}"
    return renamed
