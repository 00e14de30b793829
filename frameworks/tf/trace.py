"""Making signature functions of a model's methods, in the form that ``tf.saved_model.save`` takes.

Each takes named tensors and returns a mapping by name, so that the SavedModel has exactly the names of the
signature. Input specs come, in this order, from: the signature; the method itself (a Keras graph, an
``input_signature``); the sample. Output names come from: the signature; the mapping that the method returns;
the Keras model; ``output_0`` …
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from frameworks import objects, sample
from frameworks.arrays import Array, Arrays, as_array
from frameworks.calling import name_results
from frameworks.errors import FrameworkError, InvalidModel
from frameworks.tf.library import tf
from frameworks.tf.saved import DEFAULT_KEY
from frameworks.tf.targets import check_model, kept_name, methods_of, target_of
from frameworks.tf.tensors import read_spec, tensor_spec
from store import Signature, TensorSpec, datatypes
from store.padding import open_axes
from store.signature import DYNAMIC


@dataclass(frozen=True, slots=True)
class Traced:
    """A model's methods.

    Args:
        functions: SavedModel signature to its concrete function.
        signatures: method to its contract, with input specs, and output specs where their ranks are known.
    """

    functions: dict[str, Any]
    signatures: dict[str, Signature]


def trace(model: Any, signatures: Mapping[str, Signature] | None, given: object = None) -> Traced:
    """Trace a model's methods.

    Args:
        model: Keras model, ``tf.Module`` or other trackable object, or what ``tf.saved_model.load`` returned.
        signatures: methods to trace; None takes ``__call__`` where the model can be called, a loaded
            SavedModel's signatures, or all methods that are a ``tf.function``.
        given: the user's sample, for specs that nothing else says; None when there is none.

    Raises:
        InvalidModel: no model of TensorFlow, it has no such method, nothing says the input specs, or the
            method cannot be traced with them.
        InvalidSignature: a method is to be batchable and its outputs fix the batch axis.
        SampleFailed: the sample is no tensor.
    """
    check_model(model)
    wanted = signatures if signatures is not None else dict.fromkeys(methods_of(model), Signature())
    arrays = None if given is None else sample.read(given, as_array)
    functions, found = dict[str, Any](), dict[str, Signature]()
    for method, signature in wanted.items():
        key = DEFAULT_KEY if method == objects.CALL else method
        if key in functions:
            raise InvalidModel(
                f"{objects.CALL!r} is saved as {DEFAULT_KEY!r}; there cannot be another method of that name",
                field=f"signatures.{DEFAULT_KEY}",
            )
        functions[key], found[method] = _trace(model, method, signature, arrays)
    return Traced(functions, found)


def _trace(
    model: Any, method: str, signature: Signature, arrays: Arrays | list[Array] | None
) -> tuple[Any, Signature]:
    target = target_of(model, method)
    inputs = signature.inputs
    if inputs is None:
        inputs = target.specs
    if inputs is None:
        inputs = _from_sample(method, signature, target.parameters, arrays)
    _check_names(method, inputs)
    signature = replace(signature, inputs=inputs)
    names = tuple(spec.name for spec in signature.outputs or ())

    def serve(*tensors: Any) -> dict[str, Any]:
        given = {spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)}
        return _named(target.call(given), names, target.outputs)

    try:
        function = tf.function(serve, input_signature=[tensor_spec(spec) for spec in inputs], autograph=False)
        concrete = function.get_concrete_function()
    except FrameworkError as error:
        raise InvalidModel(f"method {method!r}: {error.message}", field=error.field) from error
    except Exception as error:
        listed = ", ".join(f"{spec.name} {spec.datatype}{list(spec.shape)}" for spec in inputs) or "none"
        raise InvalidModel(
            f"method {method!r} cannot be traced with inputs {listed}: {error}", field=f"signatures.{method}"
        ) from error
    return concrete, _complete(method, signature, concrete.structured_outputs)


def _complete(method: str, signature: Signature, outputs: Mapping[str, Any]) -> Signature:
    found = {name: read_spec(name, tensor) for name, tensor in outputs.items()}
    for spec in signature.outputs or ():
        own = found[spec.name]
        if own is not None and own.datatype != spec.datatype:
            raise InvalidModel(
                f"method {method!r}: output {spec.name!r} is {own.datatype}, not {spec.datatype}",
                field=spec.name,
            )
    known = tuple(spec for spec in found.values() if spec is not None)
    if signature.outputs is not None or len(known) < len(found):
        return signature
    return replace(signature, outputs=known)


def _named(result: object, wanted: Sequence[str], own: Sequence[str]) -> dict[str, Any]:
    """Return a method's results by name, in the signature's order."""
    if not wanted and not isinstance(result, Mapping):
        count = len(result) if isinstance(result, tuple | list) else 1
        wanted = own if len(own) == count else ()
    values = name_results(result, wanted)
    if wanted and values.keys() != set(wanted):
        raise InvalidModel(
            f"it returns {', '.join(values)}; its signature names {', '.join(wanted)}", field="outputs"
        )
    return {name: _plain(name, values[name]) for name in wanted or values}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, tf.RaggedTensor | tf.SparseTensor):
        read_spec(name, value)  # refuses it and says what to do
    return tf.convert_to_tensor(value)


def _from_sample(
    method: str, signature: Signature, parameters: Sequence[str], arrays: Arrays | list[Array] | None
) -> tuple[TensorSpec, ...]:
    """Take specs from the sample; an axis is dynamic only where the signature says that it is."""
    if arrays is None:
        raise InvalidModel(
            f"nothing says which tensors method {method!r} takes; give inputs in its signature, or a sample",
            field=f"signatures.{method}",
        )
    if isinstance(arrays, list):
        names = parameters if len(parameters) >= len(arrays) else [f"input_{i}" for i in range(len(arrays))]
        arrays = dict(zip(names, arrays, strict=False))
    padded, _ = open_axes(signature.padding, signature.batch_dim[0])
    batch = signature.batch_dim[0] if signature.batchable else None
    return tuple(
        TensorSpec(
            name,
            datatypes.from_numpy(array.dtype),
            tuple(
                DYNAMIC if axis == batch or (name, axis) in padded else size
                for axis, size in enumerate(array.shape)
            ),
        )
        for name, array in arrays.items()
    )


def _check_names(method: str, inputs: Sequence[TensorSpec]) -> None:
    lowered: dict[str, str] = {}
    for spec in inputs:
        if kept_name(spec.name) != spec.name:
            raise InvalidModel(
                f"method {method!r}: a SavedModel cannot have an input {spec.name!r}; "
                f"call it {kept_name(spec.name)!r}",
                field=spec.name,
            )
        other = lowered.setdefault(spec.name.lower(), spec.name)
        if other != spec.name:
            raise InvalidModel(
                f"method {method!r}: a SavedModel cannot tell inputs {other!r} and {spec.name!r} apart",
                field=spec.name,
            )
