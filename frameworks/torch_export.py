"""Adapter for exported programs (``torch.export``) and for what AOTInductor compiled of them.

Both are ``.pt2`` files and load without the code that made them. A program has no pickled Python either,
unless it holds tensors or constants of classes of their own; the manifest tells. A compiled package is
machine code: it runs only on the kind of device and CPU for which it was compiled, and checks nothing, so
that its signature has to say what goes in. Either is the only method, ``__call__`` unless the signature
names it otherwise.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, Unpack

from frameworks import base, objects
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.calling import Caller
from frameworks.errors import InvalidModel
from frameworks.pt.archive import Archive
from frameworks.pt.program import Package, Program, batch_limit, describe
from frameworks.pt.quiet import quiet
from frameworks.pt.tensors import VERSIONS, InferenceCall, device_of, to_array, to_tensor
from store import Model, ModelStore, Signature, Tag

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

MODULE: Final = "torch_export"
ARTIFACT: Final = "model.pt2"

Source: TypeAlias = "torch.export.ExportedProgram | str | Path"

_SERVED_BATCH: Final = 64
"""Rows of a batch when neither the model nor the server's configuration says how many."""


def save_model(name: str, model: Source, **arguments: Unpack[SaveArguments]) -> Model:
    """Save an exported program, or a ``.pt2`` file that holds one or a compiled package.

    When a batchable program was exported for fewer rows than a server would give it, the option
    ``max_batch_size`` is set to what it takes.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: the program or the path of the file.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``, not batchable. A
            compiled package needs one with the specs of its inputs.

    Raises:
        InvalidModel: neither, or it is not what its signature says.
        InvalidSignature: more than one method, or a batchable one whose batch axis the program fixes.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name or record is wrong, or the version exists.
    """
    given = base.given_signatures(arguments)
    method, signature = _only({objects.CALL: Signature()} if given is None else given)
    program, pickled = _inspect(model)
    if program is not None:
        if signature.batchable:
            arguments = _bounded(arguments, batch_limit(program, signature.batch_dim[0]))
        signature = describe(program, signature)
    elif signature.inputs is None:
        raise InvalidModel(
            "an AOTInductor package checks nothing and tells nothing of its inputs; give their specs in the "
            "signature",
            field=f"signatures.{method}.inputs",
        )
    plan = base.Plan(
        module=MODULE,
        versions=VERSIONS,
        pickled=pickled,
        signatures={method: signature},
        settings={},
        write=partial(_write, model),
        # The budget that is in force: trying the sample must not change the caller's process.
        open=lambda folder, known, _: _open(folder, known, LoadOptions(threads=torch.get_num_threads())),
        convert=to_array,
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return the ``ExportedProgram`` on the device, or the compiled package as a callable.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be loaded here, or the device is not there.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    signature = next(iter(found.info.signatures.values()))
    return base.load(found, MODULE, VERSIONS, lambda folder: _read(folder / ARTIFACT, device, signature))


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Load the file and return its one method.

    Raises:
        InvalidModel: it cannot be loaded here, or the device is not there.
        StoreError: its files are damaged or gone.
    """
    options = base.load_settings(model, options, {})
    return base.load(model, MODULE, VERSIONS, lambda folder: _open(folder, model.info.signatures, options))


def open_artifact(path: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    """Load a ``.pt2`` file where it lies and return its one method.

    Raises:
        InvalidModel: it cannot be loaded here, there is more than one method, or the device is not there.
    """
    base.check_settings(options.settings, {})
    method, signature = _only(signatures)
    found = _read(path, options.device, signature)
    call = found if isinstance(found, Package) else Program(found)
    place = device_of(options.device)
    caller = Caller(
        InferenceCall(call, options.threads, into=lambda array: to_tensor(array, place)),
        signature,
        parameters=call.layout.parameters,
        out=to_array,
    )
    return {method: caller}


def _open(folder: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    return open_artifact(folder / ARTIFACT, signatures, options)


def _only(signatures: Mapping[str, Signature]) -> tuple[str, Signature]:
    if len(signatures) != 1:
        raise InvalidModel(
            f"a .pt2 file has exactly one method, not {', '.join(signatures) or 'none'}", field="signatures"
        )
    return next(iter(signatures.items()))


def _inspect(model: object) -> tuple[torch.export.ExportedProgram | None, bool]:
    """Return the program, None for a compiled package, and whether loading it runs code from it."""
    if isinstance(model, torch.export.ExportedProgram):
        return model, _has_own_classes(model)
    if not isinstance(model, str | Path):
        raise InvalidModel(
            f"a {type(model).__name__} is neither an ExportedProgram nor a path", field="model"
        )
    archive = Archive.of(Path(model))
    program = None
    if not archive.compiled:
        program = _read_program(Path(model), "cpu", needs_tensorrt=archive.uses_tensorrt)
    return program, archive.runs_code


def _bounded(arguments: SaveArguments, limit: int | None) -> SaveArguments:
    """Keep a server from making batches that the program would refuse as a whole."""
    if limit is None:
        return arguments
    options = dict(arguments.get("options") or {})
    asked = options.get("max_batch_size")
    if isinstance(asked, int) and asked > limit:
        raise InvalidModel(
            f"option max_batch_size is {asked}, but the program was exported for {limit} rows at most",
            field="options.max_batch_size",
        )
    if asked is None and limit < _SERVED_BATCH:
        options["max_batch_size"] = limit
    return {**arguments, "options": options}


def _has_own_classes(program: torch.export.ExportedProgram) -> bool:
    """Return whether saving the program pickles objects: tensors of other classes, or no tensors."""
    values = [*program.state_dict.values(), *program.constants.values()]
    return any(type(value) not in (torch.Tensor, torch.nn.Parameter) for value in values)


def _write(model: Source, folder: Path) -> None:
    if isinstance(model, torch.export.ExportedProgram):
        with quiet():
            torch.export.save(model, folder / ARTIFACT)
    else:
        shutil.copyfile(model, folder / ARTIFACT)


def _read(path: Path, device: str, signature: Signature) -> torch.export.ExportedProgram | Package:
    archive, place = Archive.of(path), device_of(device)
    if not archive.compiled:
        return _read_program(path, device, needs_tensorrt=archive.uses_tensorrt)
    archive.check_machine(place)
    return Package(path, place, signature.inputs)


def _read_program(path: Path, device: str, *, needs_tensorrt: bool = False) -> torch.export.ExportedProgram:
    place = device_of(device)
    if needs_tensorrt:
        try:
            import torch_tensorrt  # noqa: F401  # registers the operations that run its engines
        except ImportError as error:
            raise InvalidModel(
                f"the program has TensorRT engines; install torch_tensorrt to load it: {error}", field="model"
            ) from error
    try:
        with quiet():
            program = torch.export.load(path)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InvalidModel(f"torch cannot load {path.name}: {error}", field="model") from error
    tensors = (*program.state_dict.values(), *program.constants.values())
    if all(value.device == place for value in tensors if isinstance(value, torch.Tensor)):
        return program
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(program, place)
