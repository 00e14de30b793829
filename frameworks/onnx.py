"""Adapter for ONNX models, executed by onnxruntime; on the CPU, on CUDA, or by its TensorRT provider.

The artifact holds no code. A method is a part of the graph's outputs: ``__call__``, the default, answers all
of them, and another one those that its output specs name, or that the graph's own metadata lists for it (see
``frameworks.ort.session.OUTPUTS_KEY``). Every method takes all of the graph's inputs. Specs come from the
graph, with -1 for symbolic axes, and tensors keep the graph's names. A method is batchable only when asked
for, since a symbolic first axis does not prove that rows are independent.

``options={"load": {...}}`` chooses provider and session options; see ``frameworks.ort.providers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Unpack

from frameworks import base, objects
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.errors import InvalidModel
from frameworks.ort import providers as onnx_providers
from frameworks.ort.files import GRAPH, Files
from frameworks.ort.session import VERSIONS, SessionMethod, complete, method_outputs, open_session
from store import Model, ModelStore, Signature, Tag
from store.plain import Plain

MODULE: Final = "onnx"


def save_model(name: str, model: Any, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a graph, with the files beside it when it keeps tensors there.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: ``ModelProto``, its serialised bytes, or the path of an ``.onnx`` file.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``, not batchable.

    Raises:
        InvalidModel: no such model, a method that the graph does not have, a load setting that means nothing,
            or onnxruntime refuses the graph.
        InvalidSignature: it is to be batchable, but the graph fixes the batch axis.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name or record is wrong, or the version exists.
    """
    signatures = base.given_signatures(arguments)
    if signatures is None:
        signatures = {objects.CALL: Signature()}
    if not signatures:
        raise InvalidModel(
            f"an ONNX model needs a method; {objects.CALL!r} answers all outputs", field="signatures"
        )
    settings = base.given_settings(arguments)
    onnx_providers.check_settings(settings)
    files = Files.of(model)
    session = open_session(Path(model) if isinstance(model, str | Path) else files.graph, LoadOptions())
    plan = base.Plan(
        module=MODULE,
        versions=VERSIONS,
        pickled=False,
        signatures={name: complete(given, session, name) for name, given in signatures.items()},
        settings=onnx_providers.SETTINGS,
        write=files.write,
        open=_open_draft,
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return an ``onnxruntime.InferenceSession`` with the model's load settings and one thread.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: onnxruntime refuses the graph or lacks the device.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    options = base.load_settings(found, LoadOptions(device=device), onnx_providers.SETTINGS)
    return base.load(found, MODULE, VERSIONS, lambda folder: open_session(folder / GRAPH, options))


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Open the graph once and return its methods.

    Raises:
        InvalidModel: onnxruntime refuses the graph, or lacks the device or the provider.
        StoreError: its files are damaged or gone.
    """
    options = base.load_settings(model, options, onnx_providers.SETTINGS)
    return base.load(
        model, MODULE, VERSIONS, lambda folder: open_artifact(folder / GRAPH, model.info.signatures, options)
    )


def open_artifact(
    path: Path, signatures: Mapping[str, Signature], options: LoadOptions
) -> dict[str, SessionMethod]:
    """Open an ``.onnx`` file once and return one callable per method.

    Raises:
        InvalidModel: onnxruntime refuses the graph, or lacks the device or the provider; a method is not in
            the graph; a load setting is unknown.
    """
    base.check_settings(options.settings, onnx_providers.SETTINGS)
    session = open_session(path, options)
    return {
        name: SessionMethod(session, method_outputs(session, name, signature))
        for name, signature in signatures.items()
    }


def _open_draft(
    folder: Path, signatures: Mapping[str, Signature], settings: Mapping[str, Plain]
) -> dict[str, SessionMethod]:
    """Open for the sample, on the CPU: the provider may be one of another machine."""
    return open_artifact(folder / GRAPH, signatures, LoadOptions(settings=onnx_providers.on_cpu(settings)))
