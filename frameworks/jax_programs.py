"""Exported JAX programs: made of functions, described by specs, and run on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from frameworks import base, gpu, sample
from frameworks.arrays import Array, as_array
from frameworks.calling import Parameters
from frameworks.errors import InvalidModel
from store import Signature, TensorSpec, datatypes
from store.signature import DYNAMIC

try:
    import jax
    from jax import export
except ModuleNotFoundError as error:
    raise base.missing("jax", "jax") from error

PLATFORMS: Final = ("cpu", "cuda")
"""What functions are exported for, whatever the exporting machine has."""

_BATCH: Final = "b"
_BYTES_OF_64_BITS: Final = 8


def export_function(
    function: Callable[..., object], signature: Signature, given: object
) -> tuple[Any, Signature]:
    """Export a function for the shapes of its input specs or its sample.

    Args:
        function: of arrays; jitted or not.
        signature: its contract; where it has no input specs the sample decides.
        given: the sample, or None.

    Returns:
        The program, which takes its arguments by position, and the signature with its input specs.

    Raises:
        InvalidModel: there are neither specs nor a sample, or JAX cannot export it.
        SampleFailed: a value of the sample is no tensor.
    """
    parameters = Parameters.of(function)
    specs = signature.inputs or _sample_specs(parameters, signature, given)
    scope = export.SymbolicScope()
    shapes = [_shape(index, spec, signature, scope) for index, spec in enumerate(specs)]
    names = [spec.name for spec in specs]
    by_keyword = parameters.take(names)

    def positional(*arrays: object) -> object:
        return function(**dict(zip(names, arrays, strict=True))) if by_keyword else function(*arrays)

    try:
        program = export.export(jax.jit(positional), platforms=PLATFORMS)(*shapes)
    except Exception as error:
        raise InvalidModel(f"JAX cannot export the function: {error}", field="model") from error
    return program, replace(signature, inputs=specs)


def complete(signature: Signature, program: Any) -> Signature:
    """Return the signature with the program's specs where it has none; nested results stay without.

    Raises:
        InvalidModel: the program takes nested arguments, or the input specs are not its arguments.
        InvalidSignature: the method is to be batchable and the program fixes the batch axis.
    """
    names, _ = arguments(program, signature)
    outputs = _output_names(program)
    found = replace(
        signature,
        inputs=_specs(names, program.in_avals),
        outputs=None if outputs is None else _specs(outputs, program.out_avals),
        padding=(),
    )
    for given, own in zip(signature.inputs or (), found.inputs or (), strict=False):
        if given.datatype != own.datatype:
            raise InvalidModel(
                f"input {given.name!r} of the program is {own.datatype}, not {given.datatype}",
                field=given.name,
            )
    return replace(
        signature, inputs=signature.inputs or found.inputs, outputs=signature.outputs or found.outputs
    )


def arguments(program: Any, signature: Signature) -> tuple[tuple[str, ...], bool]:
    """Return the names of a program's arguments, in its order, and whether it takes them by keyword.

    Raises:
        InvalidModel: they are nested, or the input specs are others.
    """
    count = len(program.in_avals)
    args, kwargs = jax.tree_util.tree_unflatten(program.in_tree, range(count))
    specs = tuple(spec.name for spec in signature.inputs or ())
    if not args and all(isinstance(value, int) for value in kwargs.values()):
        names, fits, by_keyword = tuple(kwargs), set(specs) == set(kwargs), True
    elif not kwargs and all(isinstance(value, int) for value in args):
        names, fits, by_keyword = specs or numbered("input", count), len(specs) == count, False
    else:
        raise InvalidModel(
            "the program takes nested arguments; export a function whose parameters are arrays, given either "
            "all by position or all by keyword",
            field="model",
        )
    if specs and not fits:
        wanted = ", ".join(names) if by_keyword else f"{count} inputs"
        raise InvalidModel(f"the program takes {wanted}; the specs are {', '.join(specs)}", field="inputs")
    return names, by_keyword


class Call:
    """Runs a program on arguments by name; compiled once for each combination of sizes.

    Args:
        program: an exported program.
        names: its arguments, in its order.
    """

    def __init__(self, program: Any, names: tuple[str, ...]) -> None:
        self._call = jax.jit(program.call)
        self._names = names
        self._by_keyword = bool(jax.tree_util.tree_unflatten(program.in_tree, program.in_avals)[1])
        self._wide = _is_wide(program)

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Return the program's result; 64-bit programs run as such, whatever the process is set to."""
        if self._wide:
            with jax.enable_x64(True):
                return self._run(args, kwargs)
        return self._run(args, kwargs)

    def _run(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        if kwargs and not self._by_keyword:
            return self._call(*(kwargs[name] for name in self._names))
        return self._call(*args, **kwargs)


def way_to(place: Any, program: Any) -> Callable[[Array], Any]:
    """Return what brings arrays to a device, of the same datatype.

    Where JAX itself would put them there, they go to the program as they are, which is quicker by half.
    """
    if place != jax.devices()[0] or getattr(jax.config, "jax_default_device", None) is not None:
        return partial(to_device, place)
    wide = _is_wide(program)

    def pass_on(array: Array) -> Any:
        return array if wide or array.dtype.itemsize < _BYTES_OF_64_BITS else to_device(place, array)

    return pass_on


def to_device(place: Any, array: Array) -> Any:
    """Return a JAX array on a device, of the same datatype."""
    if array.dtype.itemsize < _BYTES_OF_64_BITS:
        return jax.device_put(array, place)
    with jax.enable_x64(True):  # otherwise JAX would cut the numbers in half
        return jax.device_put(array, place)


def to_array(value: object) -> Array:
    """Return the array of what JAX answered."""
    return as_array(np.asarray(value) if isinstance(value, jax.Array) else value)


def device_of(program: Any, device: str) -> Any:
    """Return JAX's device of a name.

    Raises:
        InvalidModel: it is no device, is not here, or the program was exported for others.
    """
    kind, colon, index = device.partition(":")
    if kind not in PLATFORMS or (colon and (kind == "cpu" or not index.isdecimal())):
        raise InvalidModel(f"jax knows no device {device!r}; use 'cpu', 'cuda' or 'cuda:N'", field="device")
    if kind not in program.platforms:
        raise InvalidModel(
            f"the program was exported for {', '.join(program.platforms)} and not for {kind}; export it with "
            f"platforms={PLATFORMS}",
            field="device",
        )
    if kind == "cuda" and gpu.find_gpu(int(index or 0)) is None:
        raise InvalidModel(f"device {device!r}: {gpu.NO_GPU}", field="device")
    try:
        return jax.devices(kind)[int(index or 0)]
    except (RuntimeError, IndexError) as error:
        raise InvalidModel(f"device {device!r}: {error}", field="device") from error


def numbered(word: str, count: int) -> tuple[str, ...]:
    """Return ``word_0``, ``word_1`` …."""
    return tuple(f"{word}_{index}" for index in range(count))


def _is_wide(program: Any) -> bool:
    avals = (*program.in_avals, *program.out_avals)
    return any(aval.dtype.itemsize >= _BYTES_OF_64_BITS for aval in avals)


def _sample_specs(parameters: Parameters, signature: Signature, given: object) -> tuple[TensorSpec, ...]:
    if given is None:
        raise InvalidModel("a JAX function needs a sample or input specs to be exported", field="sample")
    arrays = sample.read(given, to_array)
    if isinstance(arrays, list):
        own, count = parameters.names, len(arrays)
        names = own[:count] if len(own) >= count else numbered("input", count)
        arrays = dict(zip(names, arrays, strict=True))
    batch = signature.batch_dim[0] if signature.batchable else None
    return tuple(
        TensorSpec(
            name,
            datatypes.from_numpy(array.dtype),
            tuple(DYNAMIC if axis == batch else size for axis, size in enumerate(array.shape)),
        )
        for name, array in arrays.items()
    )


def _shape(index: int, spec: TensorSpec, signature: Signature, scope: Any) -> Any:
    if spec.datatype == "BYTES":
        raise InvalidModel(f"input {spec.name!r}: JAX has no strings", field=spec.name)
    dtype = datatypes.numpy_dtype(spec.datatype)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise InvalidModel(
            f"input {spec.name!r} is {spec.datatype}, and JAX computes with 32 bits here; set "
            "jax_enable_x64, or give a sample of 32 bits",
            field=spec.name,
        )
    batch = signature.batch_dim[0] if signature.batchable else None
    dims = [_symbol(index, axis, size, axis == batch) for axis, size in enumerate(spec.shape)]
    struct: Any = jax.ShapeDtypeStruct  # untyped
    return struct(export.symbolic_shape(", ".join(dims), scope=scope), dtype)


def _symbol(index: int, axis: int, size: int, is_batch: bool) -> str:
    if is_batch:
        return _BATCH
    return f"d{index}_{axis}" if size == DYNAMIC else str(size)


def _output_names(program: Any) -> tuple[str, ...] | None:
    """Return the results' names in the program's order, as ``Caller`` gives them; None for nested ones."""
    count = len(program.out_avals)
    result = jax.tree_util.tree_unflatten(program.out_tree, range(count))
    if isinstance(result, int):
        return numbered("output", 1)
    if isinstance(result, dict) and list(result.values()) == list(range(count)):
        return tuple(str(name) for name in result)
    if type(result) in (tuple, list) and list(result) == list(range(count)):
        return numbered("output", count)
    return None


def _specs(names: tuple[str, ...], avals: tuple[Any, ...]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name,
            datatypes.from_numpy(np.dtype(aval.dtype)),
            tuple(size if isinstance(size, int) else DYNAMIC for size in aval.shape),
        )
        for name, aval in zip(names, avals, strict=True)
    )
