"""What the torch steps start from: a module that takes and returns tensors by position.

A saved model may take its inputs by keyword and return a mapping, of which the signature names a part.
Exporters want neither, so such a module is put into one whose ``forward`` takes the inputs in the order of
the signature and returns a tuple in the order of its outputs. Others are taken as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from frameworks import base, objects, registry, torchscript
from frameworks.calling import Parameters, name_results
from frameworks.convert.formats import Format
from frameworks.convert.steps.torch_shapes import example
from frameworks.convert.work import NotConvertible, Work
from frameworks.errors import InvalidOutput
from frameworks.pt.quiet import quiet
from frameworks.pt.tensors import device_of, to_tensor
from store import Signature

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

MODULES: Final = ("pytorch", "transformers", "torchscript", "torch_export")
"""Adapters whose models are torch's."""

_FORWARD: Final = (objects.CALL, "forward")


@dataclass(frozen=True, slots=True)
class Source:
    """A module that is called with the example's tensors, in this order.

    Args:
        module: returns a tensor, or a tuple in the order of the signature's outputs.
        method: name of the method that is converted.
        signature: its contract, with all specs.
        example: one tensor per input; two rows along the batch axis, two or more along other dynamic ones.
    """

    module: torch.nn.Module
    method: str
    signature: Signature
    example: tuple[torch.Tensor, ...]


def chosen(work: Work) -> tuple[str, Signature]:
    """Return the method that is converted: ``__call__``, or the only one there is.

    Raises:
        NotConvertible: there are several and none of them is ``__call__``, specs are missing, or a tensor is
            text.
    """
    found = dict(work.signatures)
    method = objects.CALL if objects.CALL in found else next(iter(found), "")
    if method != objects.CALL and len(found) != 1:
        raise NotConvertible(
            "only one method of a torch model can be converted; save it with the signature of that one, not "
            f"of {', '.join(found) or 'none'}",
            field="signatures",
        )
    signature = found[method]
    if signature.inputs is None or signature.outputs is None:
        raise NotConvertible(
            f"the signature of {method!r} has no specs of its inputs and outputs; save the model with a "
            "sample",
            field=f"signatures.{method}",
        )
    for spec in (*signature.inputs, *signature.outputs):
        if spec.datatype == "BYTES":
            raise NotConvertible(
                f"tensor {spec.name!r} of method {method!r} is text, which torch has no tensors for; convert "
                "a model that takes and returns numbers, such as the one inside a pipeline",
                field=spec.name,
            )
    return method, signature


def original(work: Work) -> Any:
    """Return what the step starts from: a module, a ScriptModule or an ExportedProgram, ready for inference.

    Raises:
        NotConvertible: the model is not torch's, or there is none.
    """
    if work.artifact is not None and work.start is not None:
        return _of_artifact(work.artifact, work.start.format, work.settings.device)
    if work.model is None:
        raise NotConvertible("the source model is not here, only what was converted from it", field="model")
    module = work.model.info.module
    if module not in MODULES:
        raise NotConvertible(
            f"a model of adapter {module!r} is no torch model; those of {', '.join(MODULES)} are",
            field="model",
        )
    with quiet():
        found = registry.adapter(module).load_model(work.model, device=work.settings.device)
    if not isinstance(found, torch.nn.Module | torch.export.ExportedProgram):
        found = getattr(found, "model", found)  # of a pipeline
    if not isinstance(found, torch.nn.Module | torch.export.ExportedProgram):
        raise NotConvertible(f"a {type(found).__name__} cannot be converted again", field="model")
    config: Any = getattr(found, "config", None)
    if getattr(config, "use_cache", False):
        config.use_cache = False  # the cache of keys and values would be built and thrown away
    return found


def source(work: Work, module: Any | None = None) -> Source:
    """Return the module of a step in the form that exporters want.

    Args:
        work: the step's task.
        module: what ``original`` returned, where it was asked before.

    Raises:
        NotConvertible: the model cannot be brought into that form; see ``chosen`` and ``original``, too.
    """
    method, signature = chosen(work)
    module = original(work) if module is None else module
    if isinstance(module, torch.export.ExportedProgram):
        raise NotConvertible(
            "an exported program can be made into onnx and torch-aoti only; convert the module that it came "
            "from",
            field="model",
        )
    inputs = example(work, signature)
    place = device_of(work.settings.device)
    tensors: tuple[Any, ...] = tuple(to_tensor(array, place) for array in inputs.values())
    return Source(_by_position(module, method, signature, tensors), method, signature, tensors)


def _of_artifact(path: Path, form: Format, device: str) -> Any:
    place = device_of(device)
    if form is Format.TORCHSCRIPT:
        with quiet():
            load: Any = torch.jit.load  # untyped
            return load(str(path), map_location=place).eval()
    if form is Format.TORCH_EXPORT:
        with quiet():
            return torch.export.load(path)
    raise NotConvertible(f"nothing of torch is made of {form.value}", field="start")


class _ByPosition(torch.nn.Module):
    """Calls a method of a module as its ``Caller`` would, and picks the outputs of the signature."""

    def __init__(self, model: torch.nn.Module, method: str, signature: Signature, by_keyword: bool) -> None:
        super().__init__()
        self.model = model
        names = [spec.name for spec in signature.inputs or ()]
        outputs = [spec.name for spec in signature.outputs or ()]

        def forward(*values: torch.Tensor) -> tuple[Any, ...]:
            call: Any = objects.function_of(self.model, method)
            result = call(**dict(zip(names, values, strict=True))) if by_keyword else call(*values)
            return tuple(_picked(result, outputs))

        # Exporters read the inputs' names here.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        known = names if by_keyword else [f"input_{index}" for index in range(len(names))]
        forward.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in known])  # type: ignore[attr-defined]
        self.forward = forward


def _by_position(
    module: torch.nn.Module, method: str, signature: Signature, tensors: Sequence[torch.Tensor]
) -> torch.nn.Module:
    names = [spec.name for spec in signature.inputs or ()]
    outputs = [spec.name for spec in signature.outputs or ()]
    call: Callable[..., Any] = objects.function_of(module, method)
    function = module.forward if method in _FORWARD else call
    is_script = isinstance(module, torch.jit.ScriptModule)
    parameters = torchscript.parameters_of(function) if is_script else Parameters.of(function)
    by_keyword = parameters.take(names)
    with torch.no_grad(), quiet():
        result = call(**dict(zip(names, tensors, strict=True))) if by_keyword else call(*tensors)
    # Parameters with defaults count, too: an exporter may take them for inputs.
    ordered = list(parameters.names) == names if by_keyword else len(parameters.names) == len(names)
    plain = isinstance(result, torch.Tensor) or (
        isinstance(result, tuple) and all(isinstance(value, torch.Tensor) for value in result)
    )
    picked = _picked(result, outputs)
    for name, value in zip(outputs, picked, strict=True):
        if not isinstance(value, torch.Tensor):
            raise NotConvertible(
                f"output {name!r} of the module is a {type(value).__name__}, not a tensor", field=name
            )
    if plain and ordered and method in _FORWARD:
        return module
    return _ByPosition(module, method, signature, by_keyword).eval()


def _picked(result: Any, outputs: Sequence[str]) -> list[Any]:
    """Return the values of the signature's outputs."""
    if isinstance(result, Mapping):
        missing = [name for name in outputs if result.get(name) is None]
        if missing:
            raise NotConvertible(
                f"the module returns {', '.join(map(str, result))}; its signature says {', '.join(outputs)}",
                field=missing[0],
            )
        return [result[name] for name in outputs]
    try:
        named = name_results(result, outputs)
    except InvalidOutput as error:
        raise NotConvertible(error.message, field="signatures") from error
    return [named[name] for name in outputs]
