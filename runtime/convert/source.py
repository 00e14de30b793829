"""The source model of an export: saved by its adapter with everything that conversion has to know of it.

Input specs come from the samples. Output specs come from running the saved model on them: an axis that
differs from sample to sample is dynamic. A model whose outputs need other names or axes than the adapter
finds by itself is saved once more with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Final

from frameworks import registry
from frameworks.arrays import Array, Arrays
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.convert.samples import Samples, specs_of, stack
from frameworks.errors import SampleFailed
from frameworks.objects import CALL
from frameworks.row_errors import complete
from runtime.convert.arguments import Asked
from runtime.convert.reading import InvalidArguments
from store import Model, ModelStore, Signature, TensorSpec, datatypes
from store.signature import DYNAMIC

_TRIED_ROWS: Final = 3
"""Rows of the sample with which the adapter tries the model: enough to see rows influence each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is exported.

    Args:
        module: adapter that saves it.
        model: the framework's own object.
        convert: a tensor of the dataloader's items to an array.
        names: names of so many positional inputs.
        threads: that the framework has in this process; trying the model must not change that.
        external_modules: modules whose code is stored with it.
    """

    module: str
    model: Any
    convert: Callable[[object], Array]
    names: Callable[[int], tuple[str, ...]]
    threads: int
    external_modules: Sequence[ModuleType] = field(default=())


def save(source: Source, samples: Samples, asked: Asked, store: ModelStore) -> Model:
    """Save the source with the specs of all its tensors.

    Raises:
        SampleFailed: the model cannot execute the dataloader's items, or has no batch axis.
        InvalidArguments: names or axes are given for tensors that are not there.
        FrameworkError: the model cannot be saved.
    """
    inputs = specs_of(samples, _of_inputs(samples, asked))
    axis = asked.batch_dim
    signature = Signature(batchable=axis is not None, batch_dim=(axis or 0, axis or 0), inputs=inputs)
    first = samples.conversion
    try:
        model = _save(
            source, signature, asked, store, first[0] if axis is None else stack(first, _TRIED_ROWS, axis)
        )
    except SampleFailed as error:
        raise SampleFailed(
            f"{error.message}; the dataloader must give what the model takes, without labels"
            + ("" if axis is None else ", and a model without a batch axis needs batch_dim=None"),
            field="dataloader",
        ) from error
    method = registry.adapter(source.module).open_methods(model, LoadOptions(threads=source.threads))[CALL]
    outputs = _outputs(method, signature, samples, asked)
    if outputs == model.info.signatures[CALL].outputs:
        return model
    described = _save(source, replace(signature, outputs=outputs), asked, store, None)
    store.delete(model.tag)
    return described


def _save(
    source: Source, signature: Signature, asked: Asked, store: ModelStore, sample: Arrays | None
) -> Model:
    arguments: SaveArguments = {"signatures": {CALL: signature}, "store": store, "sample": sample}
    if source.external_modules:
        arguments["external_modules"] = source.external_modules
    return registry.adapter(source.module).save_model(asked.model_name, source.model, **arguments)


def _of_inputs(samples: Samples, asked: Asked) -> dict[str, frozenset[int]]:
    """Return the dynamic axes of inputs; those of outputs are looked at once these are known."""
    names = samples.conversion[0].keys()
    for name in asked.settings.trt_axes:
        if name not in names:
            raise InvalidArguments(
                f"trt_dynamic_axes names {name!r}; the inputs are {', '.join(names)}",
                field="trt_dynamic_axes",
            )
    return {name: axes for name, axes in asked.dynamic_axes.items() if name in names}


def _outputs(method: Method, signature: Signature, samples: Samples, asked: Asked) -> tuple[TensorSpec, ...]:
    """Return the specs of what the saved model answers to the samples."""
    answers = [_run(method, sample) for sample in samples.conversion]
    found = list(answers[0])
    names = asked.output_names or tuple(found)
    if len(names) != len(found):
        raise InvalidArguments(
            f"output_names has {len(names)} names, the model has {len(found)} outputs: {', '.join(found)}",
            field="output_names",
        )
    known = {*names, *samples.conversion[0]}
    for name in asked.dynamic_axes:
        if name not in known:
            raise InvalidArguments(
                f"dynamic_axes names {name!r}; there are {', '.join(sorted(known))}", field="dynamic_axes"
            )
    axis = signature.batch_dim[1] if signature.batchable else None
    return tuple(
        _spec(new, [answer[old] for answer in answers], axis, asked.dynamic_axes)
        for old, new in zip(found, names, strict=True)
    )


def _run(method: Method, sample: Arrays) -> Arrays:
    """Execute copies of a sample, and keep the result apart from what the model may reuse."""
    answer = complete(method({name: array.copy() for name, array in sample.items()}))
    return {name: array.copy() for name, array in answer.items()}


def _spec(
    name: str, arrays: list[Array], axis: int | None, dynamic: Mapping[str, frozenset[int]]
) -> TensorSpec:
    first = arrays[0]
    if any(array.ndim != first.ndim or array.dtype != first.dtype for array in arrays):
        raise SampleFailed(
            f"output {name!r} has another rank or datatype from sample to sample; that cannot be converted",
            field=name,
        )
    opened = dynamic.get(name, frozenset())
    shape = tuple(
        DYNAMIC
        if index == axis or index in opened or any(array.shape[index] != size for array in arrays)
        else size
        for index, size in enumerate(first.shape)
    )
    return TensorSpec(name, datatypes.from_numpy(first.dtype), shape)
