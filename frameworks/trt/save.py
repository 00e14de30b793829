"""Making a TensorRT model of what a user or a conversion has: an ONNX graph, or a plan."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from frameworks import sample
from frameworks.arrays import Arrays, as_array
from frameworks.base import LoadOptions, SaveArguments
from frameworks.errors import InvalidModel, MissingFramework
from frameworks.gpu import Gpu, find_gpu
from frameworks.ort.files import GRAPH, Files
from frameworks.trt import cuda as tensorrt_cuda
from frameworks.trt import module as tensorrt_module
from frameworks.trt import profile as tensorrt_profile
from frameworks.trt import specs as tensorrt_specs
from frameworks.trt.build import build, prepare, require_builder
from frameworks.trt.cuda import Cuda
from frameworks.trt.engine import Engine
from frameworks.trt.files import Contents, Source, graph_digest
from frameworks.trt.plan import INFO, PLAN, BuildSettings, PlanInfo, Platform, digest
from store import Signature

DEFAULT_ROWS: Final = 64
"""Most rows that a plan takes when the model's options do not say; the batcher's own default."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is to be saved.

    Args:
        info: record of the plan.
        plan: None when it is still to be built.
        graph: file of the graph; None for a plan alone.
        signatures: with all specs.
    """

    info: PlanInfo
    plan: bytes | None
    graph: Path | None
    signatures: dict[str, Signature]

    def write(self, target: Path) -> None:
        """Write the files below a model's folder."""
        info = self.info
        if self.graph is not None:
            Files.of(self.graph).write(target)
            info = replace(info, graph_digest=graph_digest(target / GRAPH))
        if self.plan is not None:
            (target / PLAN).write_bytes(self.plan)
        (target / INFO).write_bytes(info.to_json())

    def options(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return the model's options, with the plan's limit of rows where they have none.

        Raises:
            InvalidModel: they allow more rows than the plan takes.
        """
        result = dict(given)
        rows = [
            tensorrt_profile.largest_rows(self.info.settings.profile, signature.batch_dim[0])
            for signature in self.signatures.values()
            if signature.batchable
        ]
        limits = [most for most in rows if most is not None]
        if not limits:
            return result
        limit = min(limits)
        wanted = result.setdefault("max_batch_size", limit)
        if isinstance(wanted, int) and wanted > limit:
            raise InvalidModel(
                f"max_batch_size is {wanted}, and the plan takes {limit} rows at most; lower it, or build "
                "the plan for more",
                field="max_batch_size",
            )
        return result


def from_graph(
    source: Source, signatures: Mapping[str, Signature], arguments: SaveArguments, folder: Path
) -> Prepared:
    """Read a graph and build its plan, if that is possible on this machine.

    Args:
        source: the graph and how to build its plan.
        signatures: its methods.
        arguments: of ``save_model``: the sample and the options are looked at.
        folder: where files may be put until the model is saved.

    Raises:
        InvalidModel: onnxruntime or TensorRT refuses the graph, or nothing says how far a dynamic axis goes.
        MissingFramework: onnxruntime is not installed.
    """
    from frameworks.ort import session as onnx_session  # imports onnxruntime

    Files.of(source.graph).write(folder)
    graph = folder / GRAPH
    session = onnx_session.open_session(graph, LoadOptions())
    complete = {name: onnx_session.complete(given, session, name) for name, given in signatures.items()}
    methods = {
        name: onnx_session.method_outputs(session, name, signature) for name, signature in complete.items()
    }
    samples = _samples(arguments, [node.name for node in session.get_inputs()])
    settings = _with_profile(source.settings, complete, samples, arguments.get("options") or {})
    module, gpu = _builder()
    graph, settings = prepare(graph, settings, module, samples, folder)
    info = PlanInfo(settings=settings, graph_digest=graph_digest(graph), methods=methods)
    if module is None:
        return Prepared(info=info, plan=None, graph=graph, signatures=complete)
    built = build(graph, settings, module, gpu)
    for name, signature in complete.items():
        tensorrt_specs.check(signature, built, methods[name])
    info = replace(info, inputs=built.inputs, outputs=built.outputs)
    return Prepared(
        info=info.built(Platform.here(module, gpu), built.plan),
        plan=built.plan,
        graph=graph,
        signatures=complete,
    )


def from_plan(path: Path, signatures: Mapping[str, Signature]) -> Prepared:
    """Read a plan, with the record and the graph that lie beside it.

    Without a record the plan has to run on this machine, which is then what it was built for.

    Raises:
        InvalidModel: there is no such file, or no record of it and no card to try it on.
    """
    if not path.is_file():
        raise InvalidModel(f"there is no file {path}", field="model")
    if (path.parent / INFO).is_file():
        contents = Contents.read(path.parent, path.name)
        info, plan = contents.info, contents.plan()
        graph = contents.graph() if contents.graph_path is not None else None
    else:
        plan, graph = path.read_bytes(), None
        info = _try_plan(path, plan)
    complete = {name: tensorrt_specs.complete(given, info, name) for name, given in signatures.items()}
    return Prepared(info=info, plan=plan, graph=graph, signatures=complete)


def _try_plan(path: Path, plan: bytes) -> PlanInfo:
    gpu = find_gpu()
    if gpu is None:
        raise InvalidModel(
            f"{path} has no {INFO} beside it that says what it was built for, and there is no NVIDIA GPU "
            "here to try it on; save the ONNX model instead, or save the plan on the machine that built it",
            field="model",
        )
    module = tensorrt_module.find()
    engine = Engine(module, Cuda(tensorrt_cuda.runtime(), gpu.index), plan)
    return PlanInfo(
        settings=BuildSettings(),
        platform=Platform.here(module, gpu),
        plan_digest=digest(plan),
        inputs=engine.inputs,
        outputs=engine.outputs,
    )


def _builder() -> tuple[ModuleType | None, Gpu | None]:
    """Return the library that can build plans here; None when there is none."""
    gpu = find_gpu()
    try:
        module = tensorrt_module.find()
        require_builder(module, gpu)
    except MissingFramework as error:
        _logger.warning("tensorrt_plan_not_built reason=%s", error.message)
        return None, gpu
    return module, gpu


def _samples(arguments: SaveArguments, names: Sequence[str]) -> tuple[Arrays, ...]:
    given = arguments.get("sample")
    if given is None:
        return ()
    arrays = sample.read(given, as_array)
    return (arrays if isinstance(arrays, dict) else dict(zip(names, arrays, strict=False)),)


def _with_profile(
    settings: BuildSettings,
    signatures: Mapping[str, Signature],
    samples: Sequence[Arrays],
    options: Mapping[str, Any],
) -> BuildSettings:
    signature = next((one for one in signatures.values() if one.batchable), next(iter(signatures.values())))
    open_inputs = tuple(spec for spec in signature.inputs or () if spec.name not in settings.profile)
    rest = replace(signature, inputs=open_inputs, padding=())
    rows = options.get("max_batch_size")
    most = rows if isinstance(rows, int) and rows > 0 else DEFAULT_ROWS
    found = tensorrt_profile.derive(rest, samples, most, {})
    return replace(settings, profile={**settings.profile, **found})
