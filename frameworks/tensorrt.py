"""Adapter for TensorRT: an ONNX graph together with a plan that was built from it for one card.

The graph is the source and the plan a product of it, which runs only on machines like the one that built it.
Elsewhere the model is still served: by ONNX Runtime from the graph, until a plan is built here; see
``frameworks.trt.open`` for the cases and the load setting ``on_mismatch``. The device is ``cuda:N``; on
``cpu`` ONNX Runtime answers.

Options of a saved model: ``max_batch_size`` bounds the rows that the plan is built for. A plan alone, without
its graph, is a model too, but is at home on one kind of machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Unpack

from frameworks import base, objects
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.calling import Opened
from frameworks.errors import InvalidModel
from frameworks.gpu import find_gpu
from frameworks.trt import fallback as tensorrt_fallback
from frameworks.trt import module as tensorrt_module
from frameworks.trt.files import SUFFIXES, Contents, Source
from frameworks.trt.open import (
    BUILD,
    SETTINGS,
    NotRunnable,
    card_index,
    open_contents,
    open_engine,
    policy_of,
)
from frameworks.trt.plan import BuildSettings
from frameworks.trt.save import Prepared, from_graph, from_plan
from store import Model, ModelStore, Signature, Tag

__all__ = [
    "BuildSettings",
    "Source",
    "get",
    "load_model",
    "open_artifact",
    "open_methods",
    "save_model",
]

MODULE: Final = "tensorrt"


def save_model(name: str, model: Any, **arguments: Unpack[SaveArguments]) -> Model:
    """Save an ONNX graph for TensorRT, or a plan.

    The plan is built now where that is possible: on a machine with a card, or with ``tensorrt_rtx`` anywhere.
    Otherwise it is built by the first start on a machine with a card.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: a ``Source``; or path, bytes or ``ModelProto`` of an ONNX graph, to be built in FP32; or the
            path of a plan, which brings along ``plan.json`` and ``model.onnx`` beside it, as a conversion
            writes them.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``, not batchable.
            The sample also tells how far dynamic axes extend, and the ranges for ``int8``.

    Raises:
        InvalidModel: TensorRT or onnxruntime refuses it; a dynamic axis without bounds; a plan of which
            nothing is known; more rows in the options than the plan takes.
        InvalidSignature: it is to be batchable, but the graph fixes the batch axis.
        MissingFramework: onnxruntime is not installed, or what rewrites graphs is needed and is not.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name or record is wrong, or the version exists.
    """
    signatures = base.given_signatures(arguments)
    if signatures is None:
        signatures = {objects.CALL: Signature()}
    if not signatures:
        raise InvalidModel(
            f"a TensorRT model needs a method; {objects.CALL!r} answers all outputs", field="signatures"
        )
    settings = base.given_settings(arguments)
    base.check_settings(settings, SETTINGS)
    policy_of(LoadOptions(settings=settings))
    with tempfile.TemporaryDirectory(prefix="tensorrt-") as folder:
        prepared = _prepare(model, signatures, arguments, Path(folder))
        arguments["options"] = prepared.options(arguments.get("options") or {})
        plan = base.Plan(
            module=MODULE,
            versions=tensorrt_module.installed_versions(),
            pickled=False,
            signatures=prepared.signatures,
            settings=SETTINGS,
            write=prepared.write,
            open=lambda folder, known, _: _open_draft(folder, known),
        )
        return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return a ``tensorrt.ICudaEngine``; on ``cpu`` an onnxruntime session of the graph.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: there is no plan for this machine's card, or no card.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    versions = tensorrt_module.installed_versions()

    def load(folder: Path) -> Any:
        contents = Contents.read(folder)
        if card_index(device) is None:
            return tensorrt_fallback.open_session(contents, LoadOptions())
        try:
            return open_engine(contents, device, BUILD, str(found.tag)).native
        except NotRunnable as error:
            raise InvalidModel(
                f"the TensorRT plan of {found.tag} cannot run here: {error.reason}", field="device"
            ) from error

    return base.load(found, MODULE, versions, load)


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Open the plan of this machine, or what stands in for it, and return the methods.

    Raises:
        InvalidModel: it cannot be run here, or not as ``on_mismatch`` demands.
        StoreError: its files are damaged or gone.
    """
    options = base.load_settings(model, options, SETTINGS)
    signatures, name = model.info.signatures, str(model.tag)
    return base.load(
        model,
        MODULE,
        tensorrt_module.installed_versions(),
        lambda folder: open_contents(Contents.read(folder), signatures, options, name),
    )


def open_artifact(
    path: Path, signatures: Mapping[str, Signature], options: LoadOptions
) -> Mapping[str, Opened]:
    """Open a plan with the record, and the graph if there is one, that lie beside it.

    Raises:
        InvalidModel: it has no record, cannot be run here, or not as ``on_mismatch`` demands.
    """
    base.check_settings(options.settings, SETTINGS)
    return open_contents(Contents.read(path.parent, path.name), signatures, options, str(path))


def _prepare(
    model: Any, signatures: Mapping[str, Signature], arguments: SaveArguments, folder: Path
) -> Prepared:
    if isinstance(model, str | Path) and Path(model).suffix in SUFFIXES:
        return from_plan(Path(model), signatures)
    source = model if isinstance(model, Source) else Source(graph=model, settings=BuildSettings())
    return from_graph(source, signatures, arguments, folder)


def _open_draft(folder: Path, signatures: Mapping[str, Signature]) -> Mapping[str, Opened]:
    """Open for the sample: by the plan where it can run, else, without a warning, by its graph."""
    contents = Contents.read(folder)
    if contents.plan_path is not None and find_gpu() is not None:
        options = LoadOptions(device="cuda", settings={"on_mismatch": BUILD})
        return open_contents(contents, signatures, options, folder.name)
    if contents.graph_path is None:
        raise InvalidModel(
            "a plan without its graph can be tried on a machine with a card only", field="sample"
        )
    session = tensorrt_fallback.open_session(contents, LoadOptions())
    return tensorrt_fallback.session_methods(session, signatures)
