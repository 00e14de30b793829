"""Conversion of scikit-learn, XGBoost and LightGBM models to ONNX.

One graph answers all methods that have a form in ONNX; its metadata says which outputs belong to which method
(``frameworks.ort.session.OUTPUTS_KEY``), so that the converted model answers with the source's own names.
Input and output datatypes are those of the specs. Features of 64 bits stay so where the source computes with
64 bits and skl2onnx can; scikit-learn's trees and XGBoost round features to 32 bits themselves.

Where trees follow other steps than a scaler (principal components, say), those round a little otherwise in
ONNX, and a row that lies within that rounding of a threshold takes another branch. With FP64 features that is
rare; with FP32 it is not for rows that the trees were trained on, whose values are thresholds themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np

from frameworks import base, registry
from frameworks.arrays import Array, Arrays
from frameworks.base import LoadOptions
from frameworks.convert.steps import onnx_graph
from frameworks.convert.steps.onnx_build import Build, Value
from frameworks.convert.work import Made, NotConvertible, Work
from frameworks.ort import session as onnx_session
from frameworks.ort.session import OUTPUTS_KEY, SessionMethod
from frameworks.row_errors import complete
from store import Signature, TensorSpec
from store.plain import Plain

try:
    import onnx
    from onnx import helper
except ModuleNotFoundError as error:
    raise base.missing("onnx", "convert") from error

Answer: TypeAlias = Callable[[str], Value]
Reader: TypeAlias = Callable[[Any, Build, Value, TensorSpec, bool], Answer]
"""Model, graph, features, their spec, and whether to compute with 64 bits, to what each method answers."""

_WIDE: Final = ("FP64", "INT32", "INT64", "UINT32", "UINT64")
"""Datatypes that 32-bit floats do not hold."""

_GROSS_ABS: Final = 1e-3
_GROSS_REL: Final = 1e-2
"""An answer beyond these is no rounding: its converter is wrong. Verification is much stricter."""


def sklearn_onnx(work: Work) -> Made:
    """Convert a scikit-learn estimator or pipeline.

    Raises:
        NotConvertible: no method has a form in ONNX; the message names the class.
    """
    from frameworks.convert.steps import sklearn_parts

    def read(model: Any, build: Build, features: Value, spec: TensorSpec, wide: bool) -> Answer:
        return sklearn_parts.Answers(model, build, features, spec.shape, wide=wide)

    return _convert(work, read)


def xgboost_onnx(work: Work) -> Made:
    """Convert a booster or estimator of XGBoost.

    Raises:
        NotConvertible: no method has a form in ONNX; the message says why.
    """
    from frameworks.convert.steps import xgboost_trees

    return _convert(work, lambda model, build, features, *_: xgboost_trees.Answers(model, build, features))


def lightgbm_onnx(work: Work) -> Made:
    """Convert a booster or estimator of LightGBM.

    Raises:
        NotConvertible: no method has a form in ONNX; the message says why.
    """
    from frameworks.convert.steps import lightgbm_trees

    return _convert(work, lambda model, build, features, *_: lightgbm_trees.Answers(model, build, features))


@dataclass(slots=True)
class _Graph:
    """A converted model, and why methods are not in it."""

    model: Any = None
    methods: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def _convert(work: Work, read: Reader) -> Made:
    if work.model is None:
        raise NotConvertible("this conversion starts from a saved model", field="model")
    adapter = registry.adapter(work.model.info.module)
    source = adapter.load_model(work.model)
    reference = adapter.open_methods(work.model, LoadOptions())
    spec = _features(work.signatures)
    best = _Graph()
    for wide in (True, False) if spec.datatype in _WIDE else (False,):
        graph = _build(work, source, read, wide)
        _leave_out_wrong(graph, work, reference)
        if len(graph.methods) > len(best.methods) or best.model is None:
            best = graph
        if not graph.left_out:
            break
    if not best.methods:
        raise NotConvertible("; ".join(dict.fromkeys(best.left_out.values())), field="model")
    temporary = work.target.with_name(f".{work.target.name}.part")
    temporary.write_bytes(best.model.SerializeToString())
    temporary.rename(work.target)
    facts: dict[str, Plain] = {
        "onnx": onnx.__version__,
        "opset": _opset(best.model),
        "left_out": dict(best.left_out),
    }
    return Made(methods=tuple(best.methods), facts=facts)


def _features(signatures: Mapping[str, Signature]) -> TensorSpec:
    """Return the spec of the one input that all methods share; the first method's."""
    for method, signature in signatures.items():
        if signature.inputs is None or signature.outputs is None:
            raise NotConvertible(f"method {method!r} has no specs; save it with a sample", field=method)
    specs = next(iter(signatures.values())).inputs or ()
    if len(specs) != 1:
        raise NotConvertible(
            f"the model takes {len(specs)} inputs, not one table of features", field="inputs"
        )
    return specs[0]


def _build(work: Work, source: Any, read: Reader, wide: bool) -> _Graph:
    spec = _features(work.signatures)
    result = _Graph()
    build = Build(work.settings.opset)
    entry = build.entry(spec.datatype)
    try:
        answer = read(source, build, entry, spec, wide)
    except NotConvertible as error:
        result.left_out = dict.fromkeys(work.signatures, error.message)
        return result
    outputs: dict[str, tuple[Value, TensorSpec]] = {}
    for method, signature in work.signatures.items():
        try:
            outputs[method] = _output(build, answer, method, signature, spec)
        except NotConvertible as error:
            result.left_out[method] = error.message
    result.methods = list(outputs)
    if outputs:
        result.model = build.finish(
            entry, spec.shape, [(value, len(one.shape)) for value, one in outputs.values()]
        )
        _name(result.model, work.signatures, {method: one for method, (_, one) in outputs.items()})
    return result


def _output(
    build: Build, answer: Answer, method: str, signature: Signature, features: TensorSpec
) -> tuple[Value, TensorSpec]:
    """Return a method's only output, in the datatype and shape of its spec."""
    if signature.inputs != (features,):
        raise NotConvertible(f"method {method!r} takes other inputs than the first one", field=method)
    specs = signature.outputs or ()
    if len(specs) != 1:
        raise NotConvertible(f"method {method!r} answers {len(specs)} tensors, not one", field=method)
    value, spec = answer(method), specs[0]
    if method == "decision_function" and len(spec.shape) == 1:  # of two classes, the second one's
        value = build.add("Gather", value, build.constant(np.array(-1, dtype=np.int64)), axis=1)
    if spec.shape and min(spec.shape[1:], default=0) >= 0:
        value = build.reshape(value, [0, *spec.shape[1:]])
    if (value.datatype == "BYTES") != (spec.datatype == "BYTES"):
        raise NotConvertible(
            f"method {method!r} answers {spec.datatype}, and its form in ONNX {value.datatype}", field=method
        )
    value = build.cast(value, spec.datatype)
    return build.add("Identity", value), spec


def _name(model: Any, signatures: Mapping[str, Signature], outputs: Mapping[str, TensorSpec]) -> None:
    """Give the graph public names, and list in its metadata which output answers which method."""
    entry = model.graph.input[0].name
    (features,) = next(iter(signatures.values())).inputs or ()
    names = [spec.name for spec in outputs.values()]
    public = {
        method: spec.name
        if names.count(spec.name) == 1 and spec.name != features.name
        else f"{method}_{spec.name}"
        for method, spec in outputs.items()
    }
    inner = [value.name for value in model.graph.output]
    onnx_graph.keep_outputs(model, inner)
    onnx_graph.rename(model, {entry: features.name}, dict(zip(inner, public.values(), strict=True)))
    renamed = {
        method: replace(signatures[method], outputs=(replace(spec, name=public[method]),))
        for method, spec in outputs.items()
    }
    onnx_graph.name_batch_axes(model, renamed)
    helper.set_model_props(
        model, {OUTPUTS_KEY + method: json.dumps([name]) for method, name in public.items()}
    )


def _leave_out_wrong(graph: _Graph, work: Work, reference: Mapping[str, Any]) -> None:
    """Take methods out of the graph whose answers to the samples are not the source's."""
    if graph.model is None:
        return
    session = onnx_session.open_session(graph.model.SerializeToString(), LoadOptions())
    for method in list(graph.methods):
        run = SessionMethod(session, onnx_session.method_outputs(session, method, work.signatures[method]))
        for sample in work.samples:
            problem = _problem(run(sample), complete(reference[method](sample)))
            if problem:
                graph.methods.remove(method)
                graph.left_out[method] = f"method {method!r}: the converter's graph {problem}"
                break
    kept = [
        json.loads(one.value)[0] for one in graph.model.metadata_props if _method_of(one) in graph.methods
    ]
    onnx_graph.keep_outputs(graph.model, kept)
    props = {one.key: one.value for one in graph.model.metadata_props if _method_of(one) in graph.methods}
    helper.set_model_props(graph.model, props)


def _method_of(prop: Any) -> str:
    key: str = prop.key
    return key.removeprefix(OUTPUTS_KEY)


def _problem(actual: Arrays, expected: Arrays) -> str:
    """Return what is grossly wrong with an answer, for people; empty when nothing is."""
    for name, wanted in expected.items():
        found = actual[name]
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            return f"answers {found.dtype} {list(found.shape)}, not {wanted.dtype} {list(wanted.shape)}"
        if not _is_near(found, wanted):
            return "answers something else than the model"
    return ""


def _is_near(actual: Array, expected: Array) -> bool:
    if expected.dtype.kind != "f":
        return bool((actual == expected).all())
    return np.allclose(actual, expected, rtol=_GROSS_REL, atol=_GROSS_ABS, equal_nan=True)


def _opset(model: Any) -> int:
    return next(int(one.version) for one in model.opset_import if one.domain == "")
