"""Which execution provider of onnxruntime runs a graph, and with which session options.

onnxruntime names providers that its build contains, whether or not the machine has the hardware, and falls
back to the CPU in silence. So the card is looked for first, and what a session really uses is compared with
what was wanted.

Load settings (``options={"load": {...}}`` of a saved model):

* ``provider``: ``cpu``, ``cuda`` or ``tensorrt``, or onnxruntime's own name; default by device.
* ``fp16``: TensorRT may compute in half precision.
* ``graph_optimization``: ``all`` (default), ``extended``, ``basic`` or ``disabled``.
* ``spinning``: waiting threads burn their core for a shorter wait; off by default.
* ``inter_op_threads``: independent nodes run side by side on so many threads; default 1.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from frameworks import base, gpu
from frameworks.base import LoadOptions
from frameworks.errors import InvalidModel
from store.plain import Plain
from store.store import DEFAULT_HOME, HOME_VARIABLE

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise base.missing("onnxruntime", "onnx") from error

SETTINGS: Final[Mapping[str, base.Kinds]] = {
    "provider": str,
    "fp16": bool,
    "graph_optimization": str,
    "spinning": bool,
    "inter_op_threads": int,
}
"""The adapter's load settings and their types."""

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"

_PROVIDERS: Final = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
_LEVELS: Final = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_TENSORRT_CACHE: Final = "cache/onnxruntime-tensorrt"


def available_providers(device: str) -> tuple[str, ...]:
    """Return onnxruntime's names of the providers that can be asked for on a device, the fastest first.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``; on ``cpu`` there is only the CPU's.

    Raises:
        InvalidModel: it is no device.
    """
    index = _card(device)
    if index is None or gpu.find_gpu(index) is None:
        return (CPU,)
    built = onnxruntime.get_available_providers()
    return (*(name for name in (TENSORRT, CUDA) if name in built), CPU)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Make sure that load settings mean something, wherever the model may be loaded later.

    Raises:
        InvalidModel: a setting is unknown, of another type, or has no such value.
    """
    base.check_settings(settings, SETTINGS)
    wanted = provider_name(settings["provider"]) if "provider" in settings else None
    _check_precision(settings, wanted)
    session_options(LoadOptions(settings=settings))


def on_cpu(settings: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return the settings that can be tried on the CPU, whatever the provider is to be."""
    return {name: value for name, value in settings.items() if name not in ("provider", "fp16")}


def provider_name(given: str) -> str:
    """Return onnxruntime's name of a provider.

    Raises:
        InvalidModel: there is no such provider; the nearest is proposed.
    """
    by_name = _PROVIDERS | {name.lower(): name for name in _PROVIDERS.values()}
    found = by_name.get(given.lower())
    if found is None:
        raise _unknown("provider", given, by_name)
    return found


def session_options(options: LoadOptions) -> Any:
    """Return onnxruntime's options for the thread budget and the settings.

    With more than one thread, waiting threads sleep unless told otherwise: spinning ones burn a core per
    instance while idle.

    Raises:
        InvalidModel: a setting has no such value.
    """
    settings = options.settings
    level, inter = settings.get("graph_optimization", "all"), settings.get("inter_op_threads", 1)
    if level not in _LEVELS:
        raise _unknown("graph_optimization", str(level), _LEVELS)
    if not isinstance(inter, int) or inter < 1:
        raise InvalidModel(
            f"load option 'inter_op_threads' must be at least 1, not {inter!r}", field="load.inter_op_threads"
        )
    result = onnxruntime.SessionOptions()
    result.graph_optimization_level = _LEVELS[str(level)]
    result.intra_op_num_threads = options.threads
    result.inter_op_num_threads = inter
    if inter > 1:
        result.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    spinning = "1" if settings.get("spinning", False) else "0"
    result.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    result.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    return result


def choose(options: LoadOptions) -> list[tuple[str, dict[str, str]]]:
    """Return the providers to ask for with their options; the first is the one that is wanted.

    Raises:
        InvalidModel: device and provider contradict each other, or machine or build lack them.
    """
    device, index = options.device, _card(options.device)
    given = options.settings.get("provider")
    wanted = provider_name(str(given)) if given is not None else CPU if index is None else CUDA
    _check_precision(options.settings, wanted)
    if wanted == CPU:
        return [(CPU, {})]
    if index is None:
        raise InvalidModel(
            f"load option 'provider' asks for {wanted}, which needs a device 'cuda:N', not {device!r}",
            field="device",
        )
    _require(wanted, device, index)
    card = {"device_id": str(index)}
    if wanted == CUDA:
        return [(CUDA, card)]
    return [(TENSORRT, card | _tensorrt_options(options)), (CUDA, card)]


def check_used(session: Any, wanted: str, device: str) -> None:
    """Make sure that a session uses the provider that was asked for: onnxruntime falls back in silence.

    Raises:
        InvalidModel: it does not; the message names both.
    """
    used = session.get_providers()
    if not used or used[0] != wanted:
        raise InvalidModel(
            f"onnxruntime {onnxruntime.__version__} could not use {wanted} for device {device!r} and fell "
            f"back to {', '.join(used) or 'nothing'}; its own lines on stderr say which library it lacks",
            field="device",
        )


def _check_precision(settings: Mapping[str, Any], wanted: str | None) -> None:
    if settings.get("fp16") and wanted != TENSORRT:
        raise InvalidModel(
            f"load option 'fp16' is for the provider 'tensorrt', not for {wanted or 'the default one'}; "
            "convert the model to half precision instead",
            field="load.fp16",
        )


def _card(device: str) -> int | None:
    """Return the index of a device's card; None for the CPU."""
    kind, colon, index = device.partition(":")
    if kind == "cpu" and not colon:
        return None
    if kind == "cuda" and (not colon or index.isdecimal()):
        return int(index or 0)
    raise InvalidModel(
        f"onnxruntime knows no device {device!r}; use 'cpu', 'cuda' or 'cuda:N'", field="device"
    )


def _require(wanted: str, device: str, index: int) -> None:
    lacking = []
    if gpu.find_gpu(index) is None:
        lacking.append(f"this machine has no NVIDIA GPU {index} with a working driver")
    if wanted not in onnxruntime.get_available_providers():
        lacking.append("this onnxruntime lacks it: install the extra 'onnx-gpu' instead of 'onnx'")
    if lacking:
        raise InvalidModel(f"device {device!r} needs {wanted}, and {'; '.join(lacking)}", field="device")


def _tensorrt_options(options: LoadOptions) -> dict[str, str]:
    """Engines are kept below the home folder: building one takes up to minutes, loading it does not."""
    home = Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser()
    cache = home / _TENSORRT_CACHE
    cache.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_fp16_enable": "1" if options.settings.get("fp16") else "0",
    }


def _unknown(setting: str, given: str, known: Mapping[str, object]) -> InvalidModel:
    near = difflib.get_close_matches(given.lower(), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return InvalidModel(f"load option {setting!r} cannot be {given!r}; {hint}", field=f"load.{setting}")
