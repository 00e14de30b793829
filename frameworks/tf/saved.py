"""SavedModel folders: loading one, reading its signatures, and calling them with named arrays.

A method is one of the folder's signatures and has its name, but for one: what callers get who name no method,
``serving_default``, is the method ``__call__``, as it is with other frameworks. Folders that this package
writes follow the same rule, so that other tools find ``serving_default`` in them.

The format does not keep the order of tensors: where no specs say it, they go by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from frameworks import objects
from frameworks.arrays import Arrays, as_array
from frameworks.errors import InvalidModel, UnsupportedInput
from frameworks.tf.library import tf
from frameworks.tf.tensors import keeps_inputs, read_spec, to_tensor
from store import Signature, TensorSpec

ARTIFACT: Final = "model.savedmodel"
DEFAULT_KEY: Final = "serving_default"

Specs = tuple[TensorSpec, ...] | None


def load(path: Path, scope: str | None = None) -> Any:
    """Return the object of a SavedModel folder; ``signatures`` has its functions.

    Args:
        path: the folder.
        scope: device to put variables on; None leaves that to TensorFlow.

    Raises:
        InvalidModel: it is no SavedModel, or this TensorFlow cannot read it.
    """
    if path.suffix in (".keras", ".h5", ".hdf5"):
        raise InvalidModel(
            f"{path} is a Keras file; give what keras.models.load_model makes of it", field="model"
        )
    try:
        with tf.device(scope):
            return tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise InvalidModel(f"{path} is no SavedModel that can be loaded: {error}", field="model") from error


def key_of(method: str, keys: Iterable[str]) -> str:
    """Return which of a folder's signatures a method is.

    Raises:
        InvalidModel: none; the methods that there are get listed.
    """
    known = list(keys)
    if method in known:
        return method
    if method == objects.CALL and DEFAULT_KEY in known:
        return DEFAULT_KEY
    listed = ", ".join(default_methods(known)) or "none"
    raise InvalidModel(
        f"the SavedModel has no signature {method!r}; its methods are {listed}", field=f"signatures.{method}"
    )


def default_methods(keys: Iterable[str]) -> list[str]:
    """Return the methods of a folder's signatures, the default one first."""
    names = sorted(keys)
    if DEFAULT_KEY in names and objects.CALL not in names:
        names.remove(DEFAULT_KEY)
        names.insert(0, objects.CALL)
    return names


def specs_of(function: Any) -> tuple[Specs, Specs]:
    """Return a signature function's input and output specs by name; None for a side with a free rank.

    Raises:
        InvalidModel: a tensor is of a type that no datatype holds.
    """
    inputs = function.structured_input_signature[1]
    return _specs(inputs), _specs(function.structured_outputs)


def complete(method: str, signature: Signature, function: Any) -> Signature:
    """Return the signature with the function's specs where it has none.

    Raises:
        InvalidModel: given specs have other names or datatypes than the function.
        InvalidSignature: the method is to be batchable and the function fixes the batch axis.
    """
    own_inputs, own_outputs = specs_of(function)
    names = tuple(function.structured_input_signature[1]), tuple(function.structured_outputs)
    for kind, given, own, known in (
        ("input", signature.inputs, own_inputs, names[0]),
        ("output", signature.outputs, own_outputs, names[1]),
    ):
        if given is not None:
            _check(f"method {method!r}", kind, given, own, known)
    return replace(signature, inputs=signature.inputs or own_inputs, outputs=signature.outputs or own_outputs)


class SignatureMethod:
    """Runs one signature; an ``Opened``. Inputs and outputs go by the signature's names.

    Args:
        owner: the loaded folder, which owns the variables; held, since its functions need not do so.
        function: one of its ``signatures``.
        signature: contract of the method; its specs say the order.
        scope: device to run on; None leaves that to TensorFlow.
        xla: compile the function, once for every combination of input shapes.
    """

    def __init__(
        self,
        owner: object,
        function: Any,
        signature: Signature,
        *,
        scope: str | None = None,
        xla: bool = False,
    ) -> None:
        self._owner = owner
        own = function.structured_input_signature[1]
        order = [spec.name for spec in signature.inputs or ()] or sorted(own)
        self._dtypes = {name: own[name].dtype for name in order}
        self._outputs = [spec.name for spec in signature.outputs or ()] or sorted(function.structured_outputs)
        self._function = tf.function(function, jit_compile=True) if xla else function
        self._lend = not keeps_inputs(function)
        self._scope = scope

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run the function.

        Raises:
            UnsupportedInput: other names or datatypes than the function takes. What TensorFlow raises passes.
        """
        if inputs.keys() != self._dtypes.keys():
            raise UnsupportedInput(
                f"the model takes {', '.join(self._dtypes) or 'no input'}; given were {', '.join(inputs)}"
            )
        tensors = {
            name: to_tensor(name, array, self._dtypes[name], lend=self._lend)
            for name, array in inputs.items()
        }
        if self._scope is None:
            results = self._function(**tensors)
        else:
            with tf.device(self._scope):
                results = self._function(**tensors)
        return {name: as_array(results[name]) for name in self._outputs}

    def input_names(self, count: int) -> tuple[str, ...]:
        """Return the first input names, or ``input_0`` … when there are too few."""
        names = tuple(self._dtypes)
        return names[:count] if len(names) >= count else tuple(f"input_{index}" for index in range(count))


def open_methods(
    path: Path, signatures: Mapping[str, Signature], *, scope: str | None = None, xla: bool = False
) -> dict[str, SignatureMethod]:
    """Load a folder and return one callable per method.

    Raises:
        InvalidModel: it cannot be loaded, or a method or a tensor of the signatures is not in it.
    """
    loaded = load(path, scope)
    methods = {}
    for name, signature in signatures.items():
        function = loaded.signatures[key_of(name, loaded.signatures)]
        signature = complete(name, signature, function)
        methods[name] = SignatureMethod(loaded, function, signature, scope=scope, xla=xla)
    return methods


def _specs(tensors: Mapping[str, Any]) -> Specs:
    specs = [read_spec(name, tensors[name]) for name in sorted(tensors)]
    known = tuple(spec for spec in specs if spec is not None)
    return known if len(known) == len(specs) else None


def _check(where: str, kind: str, given: Specs, own: Specs, known: tuple[str, ...]) -> None:
    names = {spec.name for spec in given or ()}
    if names != set(known):
        odd = sorted(names.symmetric_difference(known))
        raise InvalidModel(
            f"{where}: its {kind}s are {', '.join(sorted(known))}; the signature differs in {', '.join(odd)}",
            field=odd[0],
        )
    datatypes = {spec.name: spec.datatype for spec in own or ()}
    for spec in given or ():
        if datatypes.get(spec.name, spec.datatype) != spec.datatype:
            raise InvalidModel(
                f"{where}: {kind} {spec.name!r} is {datatypes[spec.name]}, not {spec.datatype}",
                field=spec.name,
            )
