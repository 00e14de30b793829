"""Conversions of TensorFlow models: SavedModel, ONNX, and SavedModel with TensorRT inside.

The adapter stores every model as a SavedModel, so the first step copies one, or makes one with narrower
specs; the others start from its result. ONNX and TF-TRT hold one signature: of several methods the default
one is converted, and the result says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from frameworks import base, gpu, registry
from frameworks.arrays import Arrays
from frameworks.base import FileAdapter, LoadOptions
from frameworks.convert.formats import Format, TensorRTPrecision
from frameworks.convert.samples import stack
from frameworks.convert.steps.tensorflow_source import chosen, fitting, prepare, replacing, source_of
from frameworks.convert.work import ADAPTERS, Made, MissingTool, NotConvertible, Work
from frameworks.errors import FrameworkError, MissingFramework
from frameworks.row_errors import complete
from frameworks.tf import saved as tensorflow_saved
from frameworks.tf.library import VERSIONS, import_quietly, tf
from frameworks.tf.saved import ARTIFACT, key_of, specs_of
from frameworks.tf.tensors import tensor_spec
from frameworks.tf.trace import trace
from store import Signature
from store.plain import Plain
from store.signature import DYNAMIC


def saved_model(work: Work) -> Made:
    """Write a SavedModel with exactly the methods and specs asked for; a copy where the source is that.

    Raises:
        NotConvertible: no source is at hand.
        InvalidModel: the source has no such method, or it cannot be run with these specs.
    """
    prepare("cpu")
    if work.model is None:
        raise NotConvertible("a SavedModel is made of the source model, which is not at hand", field="model")
    with work.model.present(), replacing(work.target) as path:
        stored = work.model.path / ARTIFACT
        loaded = tensorflow_saved.load(stored)
        copied = _is_exactly(loaded.signatures, work.signatures)
        if copied:
            shutil.copytree(stored, path)
        else:
            traced = trace(loaded, work.signatures)
            tf.saved_model.save(loaded, str(path), signatures=traced.functions)
    return Made(methods=tuple(work.signatures), facts={**VERSIONS, "copied": copied})


def onnx(work: Work) -> Made:
    """Convert the default method to ONNX. Images stay as they are: channels last.

    Raises:
        MissingTool: tf2onnx is not installed.
        NotConvertible: the opset is out of its reach, an operator has no form in ONNX, or onnxruntime does
            not run the result.
    """
    from frameworks.convert.steps import onnx_file

    prepare("cpu")
    tf2onnx = _tf2onnx(work.settings.opset)
    method, signature = chosen(work.signatures)
    function, specs = _positional(work, method, signature)
    try:
        model, _ = tf2onnx.convert.from_function(function, input_signature=specs, opset=work.settings.opset)
        # It leaves what it does not know in the graph, under TensorFlow's names.
        import_quietly("onnx").checker.check_model(model)
    except Exception as error:
        raise NotConvertible(
            f"tf2onnx cannot convert method {method!r}: {error}", field=f"signatures.{method}"
        ) from error
    inputs, outputs = ([spec.name for spec in side or ()] for side in (signature.inputs, signature.outputs))
    onnx_file.check_opset(model, work.settings.opset, "tf2onnx")
    onnx_file.name_tensors(model, method, signature, inputs, outputs)
    onnx_file.write(model, work.target, lambda path: _try(path, method, signature, work.samples[0]))
    facts: dict[str, Plain] = {
        **VERSIONS,
        "tf2onnx": str(tf2onnx.__version__),
        "opset": onnx_file.opset_of(model),
    }
    return Made(methods=(method,), facts=facts)


def tf_trt(work: Work) -> Made:
    """Turn what TensorRT can run of the default method into its engines; the rest stays TensorFlow's.

    Raises:
        MissingTool: this TensorFlow is built without TensorRT, or there is no NVIDIA GPU.
        NotConvertible: TF-TRT cannot convert the model.
    """
    method, signature = chosen(work.signatures)
    source = source_of(work)
    key = key_of(method, tensorflow_saved.load(source).signatures)
    try:
        converter = tf.experimental.tensorrt.Converter(
            input_saved_model_dir=str(source),
            input_saved_model_signature_key=key,
            **trt_arguments(work, signature),
        )
    except RuntimeError as error:
        raise MissingTool(
            f"TF-TRT cannot be had from TensorFlow {tf.__version__}: {error} Convert SavedModel to ONNX, and "
            "ONNX to TensorRT: targets 'onnx' and 'trt'",
            field="tensorflow",
        ) from error
    if gpu.find_gpu() is None:
        raise MissingTool(f"TF-TRT builds engines on the card that runs them; {gpu.NO_GPU}", field="device")
    if work.precision in (TensorRTPrecision.FP32, TensorRTPrecision.TF32):
        # TF-TRT follows TensorFlow's own switch.
        tf.config.experimental.enable_tensor_float_32_execution(work.precision is TensorRTPrecision.TF32)
    feed = trt_feed(work, signature)
    try:
        calibrate = {"calibration_input_fn": feed} if work.precision is TensorRTPrecision.INT8 else {}
        converter.convert(**calibrate)
        converter.build(input_fn=feed)
        with replacing(work.target) as path:
            converter.save(str(path))
    except (RuntimeError, ValueError, TypeError, tf.errors.OpError) as error:
        raise NotConvertible(
            f"TF-TRT cannot convert method {method!r} in {work.precision}: {error}", field="model"
        ) from error
    return Made(methods=(method,), facts={**VERSIONS, "precision": work.precision.value})


def trt_arguments(work: Work, signature: Signature) -> dict[str, object]:
    """Return a step's settings in TF-TRT's words."""
    precision = TensorRTPrecision.FP32 if work.precision is TensorRTPrecision.TF32 else work.precision
    dynamic = any(DYNAMIC in spec.shape for spec in signature.inputs or ())
    arguments: dict[str, object] = {
        "precision_mode": precision.value.upper(),
        "minimum_segment_size": work.settings.minimum_segment_size,
        "use_calibration": precision is TensorRTPrecision.INT8,
        "use_dynamic_shape": dynamic,
    }
    if dynamic:
        arguments["dynamic_shape_profile_strategy"] = "Range+Optimal"
    if work.settings.max_workspace_bytes is not None:
        arguments["max_workspace_size_bytes"] = work.settings.max_workspace_bytes
    return arguments


def trt_feed(work: Work, signature: Signature) -> Callable[[], Iterator[dict[str, Any]]]:
    """Return what yields a step's samples for TF-TRT: alone, and in batches of the most rows.

    The extents it yields are those that the engines will take. Samples of another method are left out.

    Raises:
        NotConvertible: no sample is one of this method's.
    """
    specs = signature.inputs or ()
    samples = [found for one in work.spanning if (found := fitting(signature, one))]
    if not samples:
        raise NotConvertible("TF-TRT needs a sample of the method that it converts", field="samples")

    def feed() -> Iterator[dict[str, Any]]:
        for given in samples:
            batches = [given]
            if signature.batchable and work.settings.max_batch_size > 1:
                batches.append(stack([given], work.settings.max_batch_size, signature.batch_dim[0]))
            for batch in batches:
                yield {spec.name: tf.constant(batch[spec.name]) for spec in specs}

    return feed


def _is_exactly(functions: Mapping[str, Any], signatures: Mapping[str, Signature]) -> bool:
    """Return whether a folder's signatures are these methods, with these inputs."""
    keys = {method: key_of(method, functions) for method in signatures}
    return set(keys.values()) == set(functions) and all(
        set(specs_of(functions[key])[0] or ()) == set(signatures[method].inputs or ())
        for method, key in keys.items()
    )


def _positional(work: Work, method: str, signature: Signature) -> tuple[Any, list[Any]]:
    """Return the method as a function of tensors in the order of its specs, and their ``tf.TensorSpec``."""
    loaded = tensorflow_saved.load(source_of(work))
    function = loaded.signatures[key_of(method, loaded.signatures)]
    tensorflow_saved.complete(method, signature, function)
    inputs, outputs = signature.inputs or (), signature.outputs or ()

    def call(*tensors: Any) -> tuple[Any, ...]:
        results = function(**{spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)})
        # A node for each, so that one tensor under two names makes two outputs.
        return tuple(tf.identity(results[spec.name]) for spec in outputs)

    traceable = tf.function(call, autograph=False)
    traceable.owner = loaded  # the variables live as long as it does
    return traceable, [tensor_spec(spec, f"input_{index}") for index, spec in enumerate(inputs)]


def _tf2onnx(opset: int | None) -> Any:
    try:
        tf2onnx = import_quietly("tf2onnx")
    except ModuleNotFoundError as error:
        raise MissingTool(base.missing("tf2onnx", "convert").message, field="convert") from error
    most = max(tf2onnx.constants.OPSET_TO_IR_VERSION)
    if opset is not None and opset > most:
        raise NotConvertible(
            f"tf2onnx {tf2onnx.__version__} writes opsets up to {most}, not {opset}; leave opset out to get "
            f"{tf2onnx.constants.PREFERRED_OPSET}",
            field="opset",
        )
    return tf2onnx


def _try(path: Path, method: str, signature: Signature, given: Arrays) -> None:
    """Make sure that onnxruntime opens the graph and answers the sample; not where it is not installed."""
    with suppress(MissingFramework):
        adapter: Any = registry.adapter(ADAPTERS[Format.ONNX])
        runtime: FileAdapter = adapter
        inputs = fitting(signature, given)
        try:
            opened = runtime.open_artifact(path, {method: signature}, LoadOptions())[method]
            if inputs is not None:
                complete(opened(inputs))
        except MissingFramework:
            raise
        except FrameworkError as error:
            raise NotConvertible(
                f"onnxruntime does not run the converted method {method!r}: {error.message}", field="model"
            ) from error
        except Exception as error:
            raise NotConvertible(
                f"onnxruntime does not run the converted method {method!r}: {error}", field="model"
            ) from error
