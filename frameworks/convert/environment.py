"""Where a conversion runs: machine and libraries, for the record and to tell old results from new."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

from frameworks import gpu
from frameworks.cores import usable_cores
from store.plain import Plain

_LIBRARIES: Final = (
    "torch",
    "torch_tensorrt",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "tf2onnx",
    "tensorrt",
    "tensorrt-rtx",
    "scikit-learn",
    "skl2onnx",
    "onnxmltools",
    "xgboost",
    "xgboost-cpu",
    "lightgbm",
    "transformers",
    "numpy",
)


def versions() -> dict[str, Plain]:
    """Return the versions of the libraries that take part in conversions, of those that are installed."""
    found: dict[str, Plain] = {}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe() -> dict[str, Plain]:
    """Return machine, interpreter, libraries and the first GPU."""
    card = gpu.find_gpu()
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "libraries": versions(),
        "gpu": None if card is None else {"name": card.name, "driver": card.driver},
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- no Path needed
            lines = (line.partition(":") for line in file)
            return next((value.strip() for name, _, value in lines if name.strip() == "model name"), "")
    except OSError:
        return ""
