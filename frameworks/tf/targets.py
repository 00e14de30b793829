"""What a method name stands for in a Keras model, a ``tf.Module`` or a loaded SavedModel, and how to call it.

Inputs go as ``frameworks.calling`` has it. A method with tensors of its own (a Keras graph, an
``input_signature``) gets them in its own structure, by name where all names agree and else by position. A
Keras model whose ``call`` takes one value, and is to have several tensors, gets a mapping of them.
"""

from __future__ import annotations

import inspect
import keyword
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from frameworks import objects
from frameworks.calling import Parameters
from frameworks.errors import InvalidModel
from frameworks.tf.library import tf
from frameworks.tf.saved import Specs, default_methods, key_of, specs_of
from frameworks.tf.tensors import read_spec

Tensors: TypeAlias = Mapping[str, Any]

_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9_]*")
"""Input names that a SavedModel keeps as they are."""


@dataclass(frozen=True, slots=True)
class Target:
    """One method before it is traced.

    Args:
        call: calls it with named tensors.
        specs: of its inputs; None when it does not say.
        parameters: names for inputs that have none.
        outputs: names for results that have none.
    """

    call: Callable[[Tensors], Any]
    specs: Specs = None
    parameters: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def keras_of(model: object) -> Any:
    """Return the Keras library whose model this is; None when it is none."""
    for name in ("keras", "tf_keras"):  # imported already if the model is of it
        library = sys.modules.get(name)
        if library is not None and isinstance(model, library.Model):
            return library
    return None


def check_model(model: Any) -> None:
    """Make sure that TensorFlow can save the object.

    Raises:
        InvalidModel: it cannot; for a Keras model of another backend, the message says what to set.
    """
    if isinstance(model, tf.__internal__.tracking.Trackable):
        return
    library = keras_of(model)
    if library is not None:
        raise InvalidModel(
            f"Keras runs on {library.backend.backend()!r} in this process; set KERAS_BACKEND=tensorflow and "
            "load the model again before saving it",
            field="model",
        )
    raise InvalidModel(
        f"a {type(model).__name__} is neither a Keras model, a tf.Module nor the path of a SavedModel",
        field="model",
    )


def methods_of(model: Any) -> list[str]:
    """Return the methods to save where the user names none.

    Raises:
        InvalidModel: the model has none by itself.
    """
    loaded = _signatures(model)
    if loaded is not None:
        return default_methods(loaded)
    if callable(model):
        return [objects.CALL]
    found = [
        name
        for name in dir(model)
        if not name.startswith("_") and _is_function(inspect.getattr_static(model, name))
    ]
    if not found:
        raise InvalidModel(
            f"a {type(model).__name__} cannot be called and has no tf.function; name its methods in "
            "signatures",
            field="signatures",
        )
    return found


def target_of(model: Any, method: str) -> Target:
    """Return what a method name stands for.

    Raises:
        InvalidModel: nothing, or it takes what is no plain tensor.
    """
    loaded = _signatures(model)
    if loaded is not None and method in (*loaded, objects.CALL):
        function = loaded[key_of(method, loaded)]
        return Target(lambda tensors: function(**tensors), specs_of(function)[0])
    if method != objects.CALL or keras_of(model) is None:
        return _function_target(model, method)
    tensors = getattr(model, "inputs", None)
    return _keras_graph(model, tensors) if tensors else _keras_class(model)


def kept_name(name: str) -> str:
    """Return the nearest input name that a SavedModel keeps as it is."""
    kept = re.sub("[^A-Za-z0-9_]", "_", name)
    kept = kept if _NAME.fullmatch(kept) else f"input_{kept.lstrip('_')}"
    return f"{kept}_" if keyword.iskeyword(kept) or kept == "self" else kept


def _signatures(model: Any) -> Mapping[str, Any] | None:
    """Return the signatures of what ``tf.saved_model.load`` returned; None for any other model."""
    known = getattr(model, "signatures", None)
    return known if isinstance(known, Mapping) and hasattr(model, "tensorflow_version") else None


def _keras_graph(model: Any, tensors: Sequence[Any]) -> Target:
    names = [kept_name(tensor.name) for tensor in tensors]
    # A Sequential has inputs and, until it is called, no structure of them.
    structure = getattr(model, "input", None) if len(names) > 1 else None

    def call(given: Tensors) -> Any:
        values = _ordered(given, names)
        packed = values[0] if structure is None else tf.nest.pack_sequence_as(structure, values)
        return model(packed, training=False)

    specs = [_keras_spec(name, tensor) for name, tensor in zip(names, tensors, strict=True)]
    return Target(call, _known(specs), tuple(names), _keras_outputs(model))


def _keras_spec(name: str, tensor: Any) -> Any:
    for kind in ("sparse", "ragged"):
        if getattr(tensor, kind, False):
            raise InvalidModel(f"input {name!r} is {kind}; models are given plain tensors", field=name)
    return read_spec(name, tf.TensorSpec(tensor.shape, tensor.dtype))


def _keras_class(model: Any) -> Target:
    """A class of the user's own, which does not say what it takes."""
    parameters = Parameters.of(model.call)

    def call(given: Tensors) -> Any:
        if parameters.take(given):
            return model(**given, training=False)
        return model(dict(given) if len(given) > 1 else next(iter(given.values())), training=False)

    return Target(call, None, parameters.names, _keras_outputs(model))


def _keras_outputs(model: Any) -> tuple[str, ...]:
    names = tuple(getattr(model, "output_names", None) or ())
    return names if len(set(names)) == len(names) else ()


def _function_target(model: Any, method: str) -> Target:
    function: Any = objects.function_of(model, method)
    if method == objects.CALL:
        function = function.__call__  # has the input_signature
    parameters = Parameters.of(function)
    own = getattr(function, "input_signature", None)
    if own is None:
        # A plain method may branch on tensors as well: as a tf.function it may still do so when traced.
        traceable = function if _is_function(function) else tf.function(function)

        def apply(given: Tensors) -> Any:
            return traceable(**given) if parameters.take(given) else traceable(*given.values())

        return Target(apply, None, parameters.names)
    leaves = tf.nest.flatten(own)
    names = _leaf_names(leaves, parameters.names if len(leaves) == len(own) else ())

    def call(given: Tensors) -> Any:
        return function(*tf.nest.pack_sequence_as(own, _ordered(given, names)))

    specs = [read_spec(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
    return Target(call, _known(specs), tuple(names))


def _is_function(value: object) -> bool:
    return isinstance(value, tf.types.experimental.PolymorphicFunction)


def _leaf_names(leaves: Sequence[Any], parameters: Sequence[str]) -> list[str]:
    named = len(parameters) >= len(leaves)
    return [
        kept_name(leaf.name or (parameters[index] if named else f"input_{index}"))
        for index, leaf in enumerate(leaves)
    ]


def _known(specs: Sequence[Any]) -> Specs:
    """Return the specs, or None when one has a free rank."""
    known = tuple(spec for spec in specs if spec is not None)
    return known if len(known) == len(specs) else None


def _ordered(given: Tensors, names: Sequence[str]) -> list[Any]:
    if len(given) != len(names):
        raise InvalidModel(
            f"the model takes {len(names)} inputs ({', '.join(names)}); its signature has {len(given)}",
            field="inputs",
        )
    return [given[name] for name in names] if given.keys() == set(names) else list(given.values())
