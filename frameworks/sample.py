"""A model's sample: an input with which its specs are inferred, its claims checked and its worker warmed up.

Run at save time on the artifacts as a worker would load them, so that a model that cannot be loaded, or does
not do what its signature says, is never published.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from frameworks import extents, invariance
from frameworks.arrays import Array, Arrays
from frameworks.calling import Opened
from frameworks.errors import InvalidOutput, SampleFailed
from store import CorruptArtifact, InvalidSignature, Model, Signature, TensorSpec, datatypes
from store.digests import check_file
from store.padding import open_axes
from store.plain import Plain
from store.signature import DYNAMIC

FILE_NAME: Final = "sample.npz"

_HEADER: Final = "header"


class NotBatchInvariant(UserWarning):
    """A batchable method answers a row differently when other rows are beside it."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What running the sample has shown.

    Args:
        signatures: with specs filled in where there were none.
        invariance: method name to the figures of ``frameworks.invariance``.
        arrays: the sample by name, as the first method takes it.
    """

    signatures: dict[str, Signature]
    invariance: dict[str, Plain]
    arrays: Arrays


def read(given: object, convert: Callable[[object], Array]) -> Arrays | list[Array]:
    """Read the user's sample: a mapping by name, a tuple by position, or one value.

    Raises:
        SampleFailed: a value is no tensor, or there is none.
    """
    try:
        if isinstance(given, Mapping):
            arrays: Arrays | list[Array] = {str(name): convert(value) for name, value in given.items()}
        else:
            arrays = [convert(value) for value in (given if isinstance(given, tuple) else (given,))]
    except InvalidOutput as error:
        raise SampleFailed(f"the sample cannot be used: {error.message}", field="sample") from error
    if not arrays:
        raise SampleFailed("the sample has no tensors", field="sample")
    return arrays


def examine(
    methods: Mapping[str, Opened], signatures: Mapping[str, Signature], given: Arrays | list[Array]
) -> Examined:
    """Run each method on the sample, infer missing specs and measure batch invariance.

    A method whose own input specs do not fit the sample is left as it is: the sample is meant for another.

    Raises:
        SampleFailed: a method raises, or a batchable method does not return one row per row.
    """
    found, figures, stored = dict(signatures), dict[str, Plain](), None
    for name, signature in signatures.items():
        inputs = _arrange(methods[name], signature, given)
        if inputs is None:
            continue
        stored = stored or inputs
        found[name] = _infer(name, methods[name], signature, inputs)
        if signature.batchable:
            figures[name] = _measure(name, methods[name], found[name], inputs)
    if stored is None:
        raise SampleFailed("the sample fits the input specs of no method", field="sample")
    return Examined(found, figures, stored)


def write(arrays: Arrays, folder: Path) -> None:
    """Store the sample below ``folder``; nothing in the file is pickled."""
    header, members = [], {}
    for index, (name, array) in enumerate(arrays.items()):
        datatype = datatypes.from_numpy(array.dtype)
        header.append({"name": name, "datatype": datatype, "shape": array.shape})
        if datatype == "BYTES":
            items = array.ravel().tolist()
            members[f"lengths_{index}"] = np.array([len(item) for item in items], dtype=np.int64)
            members[f"data_{index}"] = np.frombuffer(b"".join(items), dtype=np.uint8)
        else:
            members[f"data_{index}"] = np.frombuffer(array.tobytes(), dtype=np.uint8)
    members[_HEADER] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(folder / FILE_NAME, **members)  # type: ignore[arg-type]  # the stub mixes in a flag


def load(model: Model, method: str | None = None) -> Arrays | None:
    """Return the stored sample as fresh writable arrays; None when the model has none.

    Args:
        model: a saved model.
        method: rename the tensors, by position, to this method's input specs.

    Returns:
        The sample by name; None too when it does not fit the method's specs.

    Raises:
        CorruptArtifact: the file differs from its digest or cannot be read.
        ModelMissing: the model was deleted meanwhile.
    """
    expected = model.info.digests.get(FILE_NAME)
    if expected is None:
        return None
    with model.present():
        check_file(model.path, FILE_NAME, expected)
        try:
            with np.load(model.path / FILE_NAME, allow_pickle=False) as members:
                arrays = _unpack(dict(members))
        except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise CorruptArtifact(
                f"{FILE_NAME} of {model.tag} is unreadable: {error}", field=FILE_NAME
            ) from error
    specs = model.info.signatures[method].inputs if method is not None else None
    return arrays if specs is None else fit(list(arrays.values()), specs)


def fit(arrays: list[Array], specs: tuple[TensorSpec, ...]) -> Arrays | None:
    """Return positional arrays under the specs' names; None when number, datatype or shape differ."""
    if len(arrays) != len(specs):
        return None
    for array, spec in zip(arrays, specs, strict=True):
        sizes = zip(array.shape, spec.shape, strict=False)
        if (
            array.ndim != len(spec.shape)
            or datatypes.from_numpy(array.dtype) != spec.datatype
            or any(size not in (DYNAMIC, actual) for actual, size in sizes)
        ):
            return None
    return {spec.name: array for spec, array in zip(specs, arrays, strict=True)}


def _unpack(members: Mapping[str, Array]) -> Arrays:
    arrays: Arrays = {}
    for index, entry in enumerate(json.loads(members[_HEADER].tobytes())):
        name, shape, data = entry["name"], tuple(entry["shape"]), members[f"data_{index}"]
        if entry["datatype"] == "BYTES":
            ends = np.cumsum(members[f"lengths_{index}"])
            items = np.empty(len(ends), dtype=object)
            items[:] = [bytes(part) for part in np.split(data, ends[:-1])] if len(ends) else []
            arrays[name] = items.reshape(shape)
        else:
            dtype = datatypes.numpy_dtype(entry["datatype"])
            arrays[name] = np.frombuffer(bytearray(data.tobytes()), dtype=dtype).reshape(shape)
    return arrays


def _arrange(method: Opened, signature: Signature, given: Arrays | list[Array]) -> Arrays | None:
    if isinstance(given, list):
        if signature.inputs is not None:
            return fit(given, signature.inputs)
        return dict(zip(method.input_names(len(given)), given, strict=True))
    if signature.inputs is None:
        return given
    if set(given) != {spec.name for spec in signature.inputs}:
        return None
    return fit([given[spec.name] for spec in signature.inputs], signature.inputs)


def _infer(name: str, method: Opened, signature: Signature, inputs: Arrays) -> Signature:
    rows = invariance.rows_of(name, inputs, signature.batch_dim[0]) if signature.batchable else None
    outputs = invariance.execute(name, method, inputs)
    if rows is not None:
        invariance.check_rows(name, outputs, signature.batch_dim[1], rows)
    into, out = signature.batch_dim if signature.batchable else (None, None)
    open_inputs, open_outputs = open_axes(signature.padding, signature.batch_dim[0])
    try:
        known = signature.inputs or _specs(inputs, into, open_inputs)
        results = signature.outputs
        if results is None:
            varying = _varying(name, method, inputs, outputs, extents.open_axes(known, into))
            results = _specs(outputs, out, open_outputs | varying)
        return replace(signature, inputs=known, outputs=results)
    except InvalidSignature as error:
        raise SampleFailed(f"method {name!r}: {error.message}", field=name) from error


def _varying(
    name: str, method: Opened, inputs: Arrays, outputs: Arrays, axes: Iterable[extents.Axis]
) -> set[tuple[str, int]]:
    """Return the axes of outputs whose extents change with the dynamic axes of inputs."""

    def run(other: Arrays) -> Arrays | None:
        try:
            return invariance.execute(name, method, other)
        except SampleFailed:
            return None  # not every extent has to be one that the model takes

    found: set[tuple[str, int]] = set()
    for _, answer in extents.try_others(inputs, extents.around(inputs, axes), run):
        for key in outputs.keys() & answer.keys():
            sizes = zip(outputs[key].shape, answer[key].shape, strict=False)
            found.update((key, axis) for axis, (one, other) in enumerate(sizes) if one != other)
    return found


def _specs(arrays: Arrays, axis: int | None, padded: Set[tuple[str, int]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name,
            datatypes.from_numpy(array.dtype),
            tuple(
                DYNAMIC if index == axis or (name, index) in padded else size
                for index, size in enumerate(array.shape)
            ),
        )
        for name, array in arrays.items()
    )


def _measure(name: str, method: Opened, signature: Signature, inputs: Arrays) -> Plain:
    figures = invariance.measure(name, method, signature, inputs)
    if not figures.invariant:
        warnings.warn(
            f"method {name!r} is batchable, but a row's answer depends on the rows beside it: it "
            f"differs by up to {figures.max_abs:.3g} (relative {figures.max_rel:.3g}); "
            "callers would influence each other",
            NotBatchInvariant,
            stacklevel=6,  # the caller of save_model
        )
    return figures.to_dict()
