"""Adapter for ``torch.nn.Module``, stored whole so that classes which workers cannot import load too.

Loading runs code from the artifact. The loaded module is in evaluation mode and is called in inference mode;
the module that was given to ``save_model`` is left as it is. Methods take and return tensors; datatypes never
change. BYTES inputs arrive as object arrays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Unpack

import cloudpickle

from frameworks import base, objects, pickling
from frameworks.arrays import Array
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.calling import Caller, Parameters
from frameworks.errors import InvalidModel
from frameworks.pt.tensors import VERSIONS, InferenceCall, device_of, to_array, to_tensor
from store import Model, ModelStore, Signature, Tag
from store.plain import Plain

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

MODULE: Final = "pytorch"
ARTIFACT: Final = "model.pt"

SETTINGS: Final = {"channels_last": bool, "dtype": str, "compile": bool}
"""Load options. ``channels_last``: keep images with their channels innermost, which makes convolutions
faster on most CPUs and GPUs. ``dtype``: compute in ``bfloat16`` or ``float16``; what goes in and comes out
stays float32. ``compile``: run through ``torch.compile``; the first calls compile, which takes seconds, so
save a sample to have them made before the model is ready. It is not tried when a model is saved."""

_IMAGES: Final = 4
"""Axes of a batch of images."""

_DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}

_DEFAULT: Final = {objects.CALL: Signature(batchable=False)}


def save_model(name: str, model: torch.nn.Module, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a module with its weights and its code.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: the module, on any device, in any mode.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``, not batchable.

    Raises:
        InvalidModel: no module, it has no such method, or a load setting is wrong.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    if not isinstance(model, torch.nn.Module):
        raise InvalidModel(f"a {type(model).__name__} is no torch.nn.Module", field="model")
    if isinstance(model, torch.jit.ScriptModule):
        raise InvalidModel("a ScriptModule is saved by the torchscript adapter", field="model")
    signatures = base.given_signatures(arguments)
    if signatures is None:
        signatures = _DEFAULT
    for method in signatures:
        objects.function_of(model, method)
    settings = base.given_settings(arguments)
    base.check_settings(settings, SETTINGS)
    _dtype_of(settings, model)
    modules = arguments.get("external_modules") or ()
    plan = base.Plan(
        module=MODULE,
        versions=VERSIONS,
        pickled=True,
        signatures=signatures,
        settings=SETTINGS,
        write=partial(_write, model, modules),
        open=_open_draft,
        convert=to_array,
    )
    return base.save(name, plan, arguments)


def load_model(
    tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu"
) -> torch.nn.Module:
    """Return the module on the device, in evaluation mode.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be loaded here, or the device is not there.
        StoreError: it is unknown or its files are damaged.
    """
    return base.load(base.find(tag, MODULE, store), MODULE, VERSIONS, partial(_read, device=device))


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


def _write(model: torch.nn.Module, modules: Sequence[ModuleType], folder: Path) -> None:
    with pickling.by_value(modules):
        torch.save(model, folder / ARTIFACT, pickle_module=cloudpickle, pickle_protocol=pickling.PROTOCOL)


def _read(folder: Path, device: str) -> torch.nn.Module:
    place = device_of(device)
    with pickling.readable_imports():
        # Whole modules are code: weights_only cannot read them. The digest was checked.
        model: torch.nn.Module = torch.load(folder / ARTIFACT, map_location=place, weights_only=False)
    return model.eval()


def _open(folder: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    model = _read(folder, options.device)
    border = _Border.of(options, model)
    if border.dtype is not None:
        model = model.to(border.dtype)
    if border.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stub
    methods = {}
    for name, signature in signatures.items():
        function: Any = objects.function_of(model, name)
        methods[name] = Caller(
            InferenceCall(
                _compiled(function) if options.settings.get("compile") else function, options.threads
            ),
            signature,
            parameters=Parameters.of(model.forward if name == objects.CALL else function),
            into=border.into,
            out=border.out,
        )
    return methods


def _open_draft(
    folder: Path, signatures: Mapping[str, Signature], settings: Mapping[str, Plain]
) -> dict[str, Caller]:
    """Open for the sample, in the caller's process, whose number of threads must not change."""
    tried = {name: value for name, value in settings.items() if name != "compile"}
    return _open(folder, signatures, LoadOptions(threads=torch.get_num_threads(), settings=tried))


@dataclass(frozen=True, slots=True)
class _Border:
    """How values go in and out as the load options ask."""

    place: torch.device
    dtype: torch.dtype | None
    channels_last: bool

    @classmethod
    def of(cls, options: LoadOptions, model: torch.nn.Module) -> _Border:
        return cls(
            device_of(options.device),
            _dtype_of(options.settings, model),
            bool(options.settings.get("channels_last")),
        )

    def into(self, array: Array) -> object:
        value = to_tensor(array, self.place)
        if not isinstance(value, torch.Tensor):
            return value
        if self.dtype is not None and value.dtype is torch.float32:
            value = value.to(self.dtype)
        if self.channels_last and value.dim() == _IMAGES:
            value = value.contiguous(memory_format=torch.channels_last)
        return value

    def out(self, value: object) -> Array:
        if isinstance(value, torch.Tensor) and self.dtype is not None and value.dtype is self.dtype:
            value = value.to(torch.float32)
        return to_array(value)


def _dtype_of(settings: Mapping[str, Plain], model: torch.nn.Module) -> torch.dtype | None:
    """Return the datatype to compute in; None for that of the weights.

    Raises:
        InvalidModel: it is not offered, or not for such a model.
    """
    name = settings.get("dtype")
    if name is None:
        return None
    if name not in _DTYPES:
        raise InvalidModel(
            f"load option 'dtype' must be {' or '.join(_DTYPES)}, not {name!r}", field="load.dtype"
        )
    kinds = {value.dtype for value in model.parameters() if value.is_floating_point()}
    if not kinds <= {torch.float32}:
        said = ", ".join(sorted(str(kind) for kind in kinds))
        raise InvalidModel(
            f"load option 'dtype' is for models of float32; this one has {said}", field="load.dtype"
        )
    return _DTYPES[str(name)]


def _compiled(function: Any) -> Any:
    if not any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name):
        raise InvalidModel(
            "load option 'compile' needs a C++ compiler; install g++ or leave the option out",
            field="load.compile",
        )
    return torch.compile(function, dynamic=True)
