"""The step from ONNX to TensorRT.

Beside the plan it leaves the record and the graph: the plan runs on machines like this one only, and
everywhere else the graph is run, or built again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from frameworks.base import LoadOptions
from frameworks.convert.work import Made, MissingTool, NotConvertible, Work
from frameworks.errors import MissingFramework
from frameworks.gpu import find_gpu
from frameworks.ort import files as onnx_files
from frameworks.ort import session as onnx_session
from frameworks.trt import files as tensorrt_files
from frameworks.trt import module as tensorrt_module
from frameworks.trt import profile as tensorrt_profile
from frameworks.trt import specs as tensorrt_specs
from frameworks.trt.build import build, prepare, require_builder
from frameworks.trt.plan import INFO, BuildSettings, PlanInfo, Platform
from store.plain import Plain


def convert(work: Work) -> Made:
    """Build the plan of an ONNX graph.

    Raises:
        MissingTool: TensorRT, what rewrites graphs, or the card that building needs is not here.
        InvalidModel: TensorRT cannot read or build the graph, or the profile contradicts it.
        NotConvertible: the source is no ONNX graph.
    """
    graph = _graph(work)
    try:
        return _convert(work, graph)
    except MissingFramework as error:
        raise MissingTool(error.message, field=error.field) from error


def _convert(work: Work, graph: Path) -> Made:
    gpu = find_gpu(_card(work.settings.device))
    module = tensorrt_module.find()
    require_builder(module, gpu)
    session = onnx_session.open_session(graph, LoadOptions())
    methods = {
        name: onnx_session.method_outputs(session, name, signature)
        for name, signature in work.signatures.items()
    }
    with tempfile.TemporaryDirectory(prefix="tensorrt-") as folder:
        prepared, settings = prepare(graph, _settings(work), module, work.samples, Path(folder))
        built = build(prepared, settings, module, gpu)
        for name, signature in work.signatures.items():
            tensorrt_specs.check(signature, built, methods[name])
        info = PlanInfo(settings=settings, inputs=built.inputs, outputs=built.outputs, methods=methods)
        _write(work.target, info.built(Platform.here(module, gpu), built.plan), built.plan, prepared)
    platform = Platform.here(module, gpu)
    return Made(
        methods=tuple(work.signatures),
        facts={
            "library": platform.library,
            "version": platform.version,
            "platform": platform.key(),
            "precision": settings.precision.value,
            "profile": _plain_profile(settings.profile),
        },
    )


def _graph(work: Work) -> Path:
    if work.artifact is not None:
        return work.artifact
    if work.model is None or work.model.info.module != "onnx":
        raise NotConvertible("TensorRT plans are made of ONNX graphs only", field="model")
    return work.model.path / onnx_files.GRAPH


def _settings(work: Work) -> BuildSettings:
    signature = next(iter(work.signatures.values()))
    return BuildSettings(
        precision=work.precision,
        profile=tensorrt_profile.derive(
            signature, work.spanning, work.settings.max_batch_size, work.settings.trt_axes
        ),
        max_workspace_bytes=work.settings.max_workspace_bytes,
    )


def _card(device: str) -> int:
    """Return the card to build on: the one where sources are run, else the first."""
    index = device.partition(":")[2]
    return int(index) if index.isdecimal() else 0


def _write(target: Path, info: PlanInfo, plan: bytes, graph: Path) -> None:
    """Put the three files into the folder; the plan comes last, since it is what others look for."""
    copy = tensorrt_files.copy_graph(graph, target.parent)
    info = replace(info, graph_digest=tensorrt_files.graph_digest(copy))
    tensorrt_files.replace(target.with_name(INFO), info.to_json())
    tensorrt_files.replace(target, plan)


def _plain_profile(profile: Mapping[str, tuple[tuple[int, ...], ...]]) -> dict[str, Plain]:
    return {name: [list(shape) for shape in shapes] for name, shapes in profile.items()}
