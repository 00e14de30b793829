"""Adapter for TorchScript modules: scripted or traced, in memory or in a file.

The artifact holds no pickled Python, so that it loads without the code that made it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, Unpack

from frameworks import base, objects
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.calling import Caller, Parameters
from frameworks.errors import InvalidModel
from frameworks.pt.quiet import quiet
from frameworks.pt.tensors import VERSIONS, InferenceCall, device_of, to_array, to_tensor
from store import Model, ModelStore, Signature, Tag

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

MODULE: Final = "torchscript"
ARTIFACT: Final = "model.ts"

Source: TypeAlias = "torch.jit.ScriptModule | str | Path"

SETTINGS: Final = {"optimize": bool}
"""Load options. ``optimize``: freeze the weights and fuse operations for the device, as ``torch.jit`` can;
results differ in the last bits."""

_DEFAULT: Final = {objects.CALL: Signature(batchable=False)}


def save_model(name: str, model: Source, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a ScriptModule, or a file that ``torch.jit.save`` wrote.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: the module or the path of its file.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``, not batchable.

    Raises:
        InvalidModel: neither, or it has no such method.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    script = model
    if isinstance(script, str | Path):
        script = _read_file(Path(script), "cpu")
    if not isinstance(script, torch.jit.ScriptModule):
        raise InvalidModel(f"a {type(model).__name__} is neither a ScriptModule nor a path", field="model")
    signatures = base.given_signatures(arguments)
    if signatures is None:
        signatures = _DEFAULT
    for method in signatures:
        objects.function_of(script, method)
    plan = base.Plan(
        module=MODULE,
        versions=VERSIONS,
        pickled=False,
        signatures=signatures,
        settings=SETTINGS,
        write=partial(_write, model),
        # The budget that is in force: trying the sample must not change the caller's process.
        open=lambda folder, known, settings: _open(
            folder, known, LoadOptions(threads=torch.get_num_threads(), settings=settings)
        ),
        convert=to_array,
    )
    return base.save(name, plan, arguments)


def load_model(
    tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu"
) -> torch.jit.ScriptModule:
    """Return the module on the device, in evaluation mode.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be loaded here, or the device is not there.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    return base.load(found, MODULE, VERSIONS, lambda folder: _read_file(folder / ARTIFACT, device))


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Load the module and return one callable per method.

    Raises:
        InvalidModel: it cannot be loaded here, a method is missing, or the device is not there.
        StoreError: its files are damaged or gone.
    """
    options = base.load_settings(model, options, SETTINGS)
    return base.load(model, MODULE, VERSIONS, lambda folder: _open(folder, model.info.signatures, options))


def open_artifact(path: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    """Load a file of ``torch.jit.save`` where it lies and return one callable per method.

    Raises:
        InvalidModel: it cannot be loaded here, a method is missing, a load option is unknown, or the device
            is not there.
    """
    base.check_settings(options.settings, SETTINGS)
    script = _read_file(path, options.device)
    if options.settings.get("optimize"):
        others = [name for name in signatures if name not in (objects.CALL, "forward")]
        with quiet():
            optimize: Any = torch.jit.optimize_for_inference  # untyped
            script = optimize(script, other_methods=others)
    place = device_of(options.device)
    methods = {}
    for name, signature in signatures.items():
        function: Any = objects.function_of(script, name)
        methods[name] = Caller(
            InferenceCall(function, options.threads, into=lambda array: to_tensor(array, place)),
            signature,
            parameters=parameters_of(script.forward if name == objects.CALL else function),
            out=to_array,
        )
    return methods


def parameters_of(function: Any) -> Parameters:
    """Read a compiled method's parameters, which Python's own inspection cannot see."""
    named = function.schema.arguments[1:]  # without the module itself, whatever its name
    return Parameters(
        names=tuple(argument.name for argument in named),
        required=frozenset(argument.name for argument in named if not argument.has_default_value()),
    )


def _write(model: Source, folder: Path) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        with quiet():
            torch.jit.save(model, str(folder / ARTIFACT))
    else:
        shutil.copyfile(model, folder / ARTIFACT)


def _read_file(path: Path, device: str) -> torch.jit.ScriptModule:
    place = device_of(device)
    try:
        with quiet():
            load: Any = torch.jit.load  # untyped
            script: torch.jit.ScriptModule = load(str(path), map_location=place)
    except (RuntimeError, ValueError) as error:
        raise InvalidModel(f"{path} is no TorchScript file: {error}", field="model") from error
    script.eval()
    return script


def _open(folder: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    return open_artifact(folder / ARTIFACT, signatures, options)
