"""Adapter for JAX functions, stored as exported programs (``jax.export``) for the CPU and CUDA.

The artifact is the compiler's own portable program and holds no Python: it loads without the code that made
it. Axes are fixed at the sample's sizes, except the batch axis of a batchable signature (the symbol ``b``)
and those that its input specs leave open. Every new combination of sizes is compiled once when it is first
seen, so that batch sizes belong into the warm-up.

There is one method, ``__call__``. Programs of 64-bit numbers run as such, whatever the process is set to.
The number of CPU threads is the process's: XLA has its own pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Unpack

from frameworks import base, jax_programs, objects
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.calling import Caller, Parameters
from frameworks.errors import InvalidModel
from store import Model, ModelStore, Signature, Tag

try:
    import jax
    from jax import export
except ModuleNotFoundError as error:
    raise base.missing("jax", "jax") from error

MODULE: Final = "jax"
ARTIFACT: Final = "model.jax"

_VERSIONS: Final = {"jax": str(jax.__version__)}


def save_model(name: str, model: Any, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a function of arrays, or a program that ``jax.export`` made.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: a function, jitted or not, whose parameters are arrays; or a ``jax.export.Exported``.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``, not batchable. A
            function needs a sample or input specs.

    Raises:
        InvalidModel: neither, another method than ``__call__``, or JAX cannot export it.
        InvalidSignature: it is to be batchable, but the program fixes the batch axis.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    signatures = base.given_signatures(arguments)
    signature = Signature() if signatures is None else signatures.pop(objects.CALL, None)
    if signature is None or signatures:
        raise InvalidModel(f"a JAX program has exactly one method, {objects.CALL!r}", field="signatures")
    if not isinstance(model, export.Exported) and not callable(model):
        raise InvalidModel(
            f"a {type(model).__name__} is neither a function nor a jax.export.Exported", field="model"
        )
    if isinstance(model, export.Exported):
        program = model
    else:
        program, signature = jax_programs.export_function(model, signature, arguments.get("sample"))
    plan = base.Plan(
        module=MODULE,
        versions=_VERSIONS,
        pickled=False,
        signatures={objects.CALL: jax_programs.complete(signature, program)},
        settings={},
        write=partial(_write, program),
        open=lambda folder, known, _: _open(folder, known, LoadOptions()),
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return the ``jax.export.Exported``; its ``call`` runs where its arguments are.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be read here, or is not for the device.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    return base.load(found, MODULE, _VERSIONS, lambda folder: _read(folder, device))


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Load the program and return its one method.

    Raises:
        InvalidModel: it cannot be read here, or the device is not there.
        StoreError: its files are damaged or gone.
    """
    options = base.load_settings(model, options, {})
    return base.load(model, MODULE, _VERSIONS, lambda folder: _open(folder, model.info.signatures, options))


def _write(program: Any, folder: Path) -> None:
    (folder / ARTIFACT).write_bytes(bytes(program.serialize()))


def _read(folder: Path, device: str) -> Any:
    program = export.deserialize(bytearray((folder / ARTIFACT).read_bytes()))
    jax_programs.device_of(program, device)
    return program


def _open(folder: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    program = _read(folder, options.device)
    place = jax_programs.device_of(program, options.device)
    methods = {}
    for method, signature in signatures.items():
        names, _ = jax_programs.arguments(program, signature)
        methods[method] = Caller(
            jax_programs.Call(program, names),
            signature,
            parameters=Parameters(names=names, required=frozenset(names)),
            into=jax_programs.way_to(place, program),
            out=jax_programs.to_array,
        )
    return methods
