"""Adapter for ONNX models, executed by onnxruntime.

The artifact holds no code. The graph is the only method, ``__call__``; its specs come from the graph, with -1
for symbolic axes, and its tensors keep the graph's names. It is batchable only when asked for, since a
symbolic first axis does not prove that rows are independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Unpack

from frameworks import base, objects
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.errors import InvalidModel
from frameworks.onnx_files import GRAPH, Files
from frameworks.onnx_session import VERSIONS, SessionMethod, complete, open_session
from store import Model, ModelStore, Signature, Tag

MODULE: Final = "onnx"


def save_model(name: str, model: Any, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a graph, with the files beside it when it keeps tensors there.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: ``ModelProto``, its serialised bytes, or the path of an ``.onnx`` file.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``, not batchable.

    Raises:
        InvalidModel: no such model, another method than ``__call__``, or onnxruntime refuses the graph.
        InvalidSignature: it is to be batchable, but the graph fixes the batch axis.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name or record is wrong, or the version exists.
    """
    signatures = base.given_signatures(arguments)
    signature = Signature() if signatures is None else signatures.pop(objects.CALL, None)
    if signature is None or signatures:
        raise InvalidModel(f"an ONNX graph has exactly one method, {objects.CALL!r}", field="signatures")
    files = Files.of(model)
    session = open_session(Path(model) if isinstance(model, str | Path) else files.graph, LoadOptions())
    plan = base.Plan(
        module=MODULE,
        versions=VERSIONS,
        pickled=False,
        signatures={objects.CALL: complete(signature, session)},
        write=files.write,
        open=lambda folder, _: _open(folder, LoadOptions()),
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return an ``onnxruntime.InferenceSession`` on the device, with one thread.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: onnxruntime refuses the graph or lacks the device.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    options = LoadOptions(device=device)
    return base.load(found, MODULE, VERSIONS, lambda folder: open_session(folder / GRAPH, options))


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Open the graph and return its one method.

    Raises:
        InvalidModel: onnxruntime refuses the graph or lacks the device.
        StoreError: its files are damaged or gone.
    """
    return base.load(model, MODULE, VERSIONS, lambda folder: _open(folder, options))


def _open(folder: Path, options: LoadOptions) -> dict[str, SessionMethod]:
    return {objects.CALL: SessionMethod(open_session(folder / GRAPH, options))}
