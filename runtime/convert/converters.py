"""ModelCI's converters, by their names: one conversion each, from an object or a file to a path.

They return whether it went well, and log why it did not. Conversions run in a process of their own. What is
at the path already is kept, and counts as success, unless ``override=True``. Inputs are described as
``runtime.convert.shapes`` reads them. Nothing is verified here: ``runtime.convert.torch.export`` does that.
"""

from __future__ import annotations

import copy
import glob
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from frameworks import base
from frameworks.convert.formats import Format, TensorRTPrecision, Variant
from frameworks.convert.work import Settings
from frameworks.errors import FrameworkError
from frameworks.objects import CALL
from runtime.convert import shapes, single
from runtime.convert.reading import enum
from store import ModelStore, Signature, StoreError, TensorSpec
from store.fields import is_int

_ONNX: Final = Variant(Format.ONNX)
_MAX_BATCH_SIZE: Final = 8

_logger = logging.getLogger(__name__)


class TorchScriptConverter:
    """To TorchScript, ``.zip``."""

    @staticmethod
    def from_torch_module(torch_module: Any, saved_path: str | Path, override: bool = False) -> bool:
        """Script a module, in evaluation mode; the module is left as it is."""
        return _make(saved_path, ".zip", override, partial(_script, torch_module))


class TFSConverter:
    """To a SavedModel folder, as TensorFlow Serving takes it."""

    @staticmethod
    def from_tf_model(tf_model: Any, saved_path: str | Path, override: bool = False) -> bool:
        """Save a Keras model or a ``tf.Module`` whose inputs are known."""
        return _make(saved_path, "", override, partial(_save_tensorflow, tf_model))


class ONNXConverter:
    """To ONNX, ``.onnx``, with the specs' names and a dynamic batch axis."""

    @staticmethod
    def from_torch_module(
        torch_module: Any,
        saved_path: str | Path,
        inputs: Sequence[Any],
        batch_size: int = 1,
        opset: int | None = None,
        optimize: bool = True,
        override: bool = False,
    ) -> bool:
        """Export a module.

        Args:
            torch_module: in any mode; exported in evaluation mode.
            saved_path: where to; ``.onnx`` is appended.
            inputs: descriptions of the inputs, or the extents of one float input without the batch axis.
            batch_size: largest batch that the model has to take, where that matters to the exporter.
            opset: of ONNX; None for the exporter's own.
            optimize: let onnxruntime simplify the graph, by what holds on every machine.
            override: replace what is there.
        """

        def write(target: Path) -> None:
            from runtime.convert.torch import source_of

            origin = source_of(torch_module)
            described = [([-1, *inputs], float)] if all(map(is_int, inputs)) else inputs
            settings = Settings(opset=opset, max_batch_size=max(_MAX_BATCH_SIZE, batch_size))
            names = origin.names(len(described))
            single.from_object(_ONNX, target, origin, shapes.specs(described, names), settings)
            if optimize:
                from frameworks.ort.session import optimize as simplify

                simplify(target)

        return _make(saved_path, ".onnx", override, write)

    @staticmethod
    def from_sklearn(
        model: Any, saved_path: str | Path, inputs: Sequence[Any], outputs: object = None, **options: Any
    ) -> bool:
        """Convert an estimator or a pipeline of scikit-learn; see ``from_xgboost``."""
        return _trees("sklearn", model, saved_path, inputs, **options)

    @staticmethod
    def from_xgboost(
        model: Any, saved_path: str | Path, inputs: Sequence[Any], outputs: object = None, **options: Any
    ) -> bool:
        """Convert a model of XGBoost.

        Args:
            model: with ``predict`` and perhaps ``predict_proba``, or a booster.
            saved_path: where to; ``.onnx`` is appended.
            inputs: description of the features.
            outputs: not looked at: the model says what it returns.
            options: ``opset`` and ``override``.
        """
        return _trees("xgboost", model, saved_path, inputs, **options)

    @staticmethod
    def from_lightgbm(
        model: Any, saved_path: str | Path, inputs: Sequence[Any], outputs: object = None, **options: Any
    ) -> bool:
        """Convert a model of LightGBM; see ``from_xgboost``."""
        return _trees("lightgbm", model, saved_path, inputs, **options)


class TRTConverter:
    """To TensorRT: a plan, ``.plan``, or a SavedModel with engines inside."""

    @staticmethod
    def from_onnx(
        onnx_path: str | Path,
        save_path: str | Path,
        inputs: Sequence[Any] = (),
        outputs: object = None,
        precision: TensorRTPrecision | str = TensorRTPrecision.FP32,
        max_batch_size: int = _MAX_BATCH_SIZE,
        override: bool = False,
    ) -> bool:
        """Build the plan of a graph.

        Args:
            onnx_path: the ``.onnx`` file.
            save_path: where to; ``.plan`` is appended.
            inputs: descriptions; they fix extents that the file leaves open.
            outputs: not looked at: the file says what it returns.
            precision: of the arithmetic.
            max_batch_size: largest batch that the plan takes.
            override: replace what is there.
        """

        def write(target: Path) -> None:
            variant = Variant(Format.TENSORRT, precision=enum(TensorRTPrecision, precision))
            path = Path(onnx_path).expanduser()
            specs = single.merged(_onnx_inputs(path), shapes.specs(inputs) if inputs else ())
            settings = Settings(max_batch_size=max_batch_size)
            single.from_methods(variant, target, "onnx", path, (CALL,), specs, settings)

        return _make(save_path, ".plan", override, write)

    @staticmethod
    def from_saved_model(
        tf_path: str | Path,
        trt_path: str | Path,
        inputs: Sequence[Any] = (),
        outputs: object = None,
        precision: TensorRTPrecision | str = TensorRTPrecision.FP32,
        max_batch_size: int = _MAX_BATCH_SIZE,
        override: bool = False,
    ) -> bool:
        """Compile a SavedModel folder by TF-TRT; see ``from_onnx``.

        TensorFlow has it no more in its newer releases: the log then names the way by ONNX.
        """

        def write(target: Path) -> None:
            variant = Variant(Format.TF_TRT, precision=enum(TensorRTPrecision, precision))
            path = Path(tf_path).expanduser()
            specs = single.merged(_saved_model_inputs(path), shapes.specs(inputs) if inputs else ())
            settings = Settings(max_batch_size=max_batch_size)
            start = Variant(Format.TF_SAVEDMODEL), path
            single.from_methods(variant, target, "tensorflow", path, (CALL,), specs, settings, start)

        return _make(trt_path, "", override, write)


def _make(path: str | Path, suffix: str, override: bool, write: Callable[[Path], None]) -> bool:
    """Write aside, put in its place, and say whether that went well."""
    target = Path(path).expanduser().absolute()
    if not target.name.endswith(suffix):
        target = target.with_name(target.name + suffix)
    if target.exists() and not override:
        _logger.info("conversion_kept target=%s", target)
        return True
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as folder:
            made = Path(folder) / target.name
            write(made)
            for companion in Path(folder).glob(f"{glob.escape(target.name)}.*"):  # weights over 2 GiB
                companion.replace(target.with_name(companion.name))
            if target.is_dir():
                target.rename(Path(folder) / "replaced folder")
            made.replace(target)
    except (FrameworkError, StoreError, OSError) as error:
        _logger.error("conversion_failed target=%s error=%s", target, error)  # noqa: TRY400 -- it says why
        return False
    return True


def _script(module: Any, target: Path) -> None:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise base.missing("torch", "torch") from error
    from frameworks.pt.quiet import quiet

    compile_code, save = torch.jit.script, torch.jit.save
    with quiet():
        try:
            save(compile_code(copy.deepcopy(module).eval()), str(target))
        except Exception as error:
            raise single.ConversionFailed(f"TorchScript cannot be made of it: {error}") from error


def _save_tensorflow(model: Any, target: Path) -> None:
    from frameworks import tensorflow
    from frameworks.tf.saved import ARTIFACT

    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        saved = tensorflow.save_model("source", model, store=ModelStore(folder))
        shutil.copytree(saved.path / ARTIFACT, target)


def _trees(
    module: str,
    model: Any,
    saved_path: str | Path,
    inputs: Sequence[Any],
    opset: int | None = None,
    override: bool = False,
) -> bool:
    def write(target: Path) -> None:
        methods = [name for name in ("predict", "predict_proba") if callable(getattr(model, name, None))]
        specs = shapes.specs(inputs)
        single.from_methods(_ONNX, target, module, model, methods, specs, Settings(opset=opset))

    return _make(saved_path, ".onnx", override, write)


def _onnx_inputs(path: Path) -> tuple[TensorSpec, ...]:
    from frameworks.ort.session import complete, open_session

    return complete(Signature(), open_session(path, base.LoadOptions())).inputs or ()


def _saved_model_inputs(path: Path) -> tuple[TensorSpec, ...]:
    from frameworks.tf.library import tf
    from frameworks.tf.targets import target_of

    return target_of(tf.saved_model.load(str(path)), CALL).specs or ()
