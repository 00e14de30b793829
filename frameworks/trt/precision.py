"""Rewriting an ONNX graph in half precision, or quantised to eight bits.

Newer TensorRT takes precision from the graph alone, and quantisation comes from the graph in any version.
Inputs and outputs keep their names and datatypes, so that callers notice nothing.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from frameworks import base
from frameworks.arrays import Arrays
from frameworks.errors import InvalidModel

try:
    import onnx
except ModuleNotFoundError as error:
    raise base.missing("onnx", "convert") from error

_MAX_FP16: Final = 65504.0
_MIN_FP16: Final = 5.96e-08
"""Largest and least positive number of IEEE binary16; weights beyond them are brought to them."""

_QUANTISED: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Where the arithmetic is; the rest keeps FP32, since it costs little and loses much."""

_PER_CHANNEL_OPSET: Final = 13
"""First opset whose QuantizeLinear has an axis. Source: ONNX's list of operators."""


def to_fp16(graph: Path, target: Path) -> None:
    """Write the graph with FP16 arithmetic; its inputs and outputs keep their datatypes.

    Raises:
        MissingFramework: onnxruntime, whose tool does it, is not installed.
        InvalidModel: the graph cannot be rewritten.
    """
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ModuleNotFoundError as error:
        raise base.missing("onnxruntime", "onnx") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each weight that is brought to the limits
            model = convert_float_to_float16(
                onnx.load(graph),
                min_positive_val=_MIN_FP16,
                max_finite_val=_MAX_FP16,
                keep_io_types=True,
            )
        onnx.save(model, target)
        _try(target)
    except Exception as error:
        raise InvalidModel(f"the graph cannot be rewritten in FP16: {error}", field="precision") from error


def to_int8(graph: Path, target: Path, samples: Sequence[Arrays]) -> None:
    """Write the graph with eight-bit weights and inputs of its multiplications, by ranges seen on samples.

    Quantisation is symmetric, since TensorRT knows no other.

    Args:
        graph: file of the graph.
        target: file to write.
        samples: inputs as the graph takes them; the more typical, the better the ranges.

    Raises:
        MissingFramework: onnxruntime is not installed.
        InvalidModel: there are no samples, or the graph cannot be quantised.
    """
    if not samples:
        raise InvalidModel("int8 needs samples, from which the ranges are taken", field="precision")
    try:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ModuleNotFoundError as error:
        raise base.missing("onnxruntime", "onnx") from error
    try:
        with tempfile.TemporaryDirectory(prefix="quantise-") as folder:
            prepared = Path(folder) / "prepared.onnx"
            # Symbolic inference needs one more library and adds nothing that calibration needs.
            quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(target),
                _reader(samples),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED),
                per_channel=_opset(prepared) >= _PER_CHANNEL_OPSET,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "AddQDQPairToWeight": True,
                    "QuantizeBias": False,
                    "MatMulConstBOnly": True,
                    "OpTypesToExcludeOutputQuantization": list(_QUANTISED),
                },
            )
        _try(target)
    except Exception as error:
        raise InvalidModel(f"the graph cannot be quantised: {error}", field="precision") from error


def _try(graph: Path) -> None:
    """Have onnxruntime check what the tools have made; they err at times."""
    import onnxruntime

    onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])


def _reader(samples: Sequence[Arrays]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the base has no type
        def __init__(self) -> None:
            self._left: Iterator[Arrays] = iter(samples)

        def get_next(self) -> Arrays | None:
            return next(self._left, None)

    return Reader()


def _opset(graph: Path) -> int:
    model = onnx.load(graph, load_external_data=False)
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
