"""How a TensorRT model is opened on this machine: by its plan, by another plan of it, or by ONNX Runtime.

Cases, in this order:

1. the device is a card, the library is there, and the plan was built for such a machine: the plan is run;
2. the same, with a plan that was built here earlier and lies in the cache;
3. something of it is missing or differs, and there is the graph: as the load setting ``on_mismatch`` says.
   ``fallback`` (default): ONNX Runtime answers, with a warning; where a plan can be built, that is done
   aside, so that the next start has it. ``build``: the plan is built first, which takes up to minutes; what
   cannot be built falls back. ``fail``: the model is not loaded;
4. likewise without a graph: the model is not loaded.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Final

from frameworks.base import LoadOptions
from frameworks.calling import Opened
from frameworks.errors import FrameworkError, InvalidModel, MissingFramework
from frameworks.gpu import NO_GPU, Gpu, find_gpu
from frameworks.trt import cache as tensorrt_cache
from frameworks.trt import cuda as tensorrt_cuda
from frameworks.trt import fallback as tensorrt_fallback
from frameworks.trt import module as tensorrt_module
from frameworks.trt import rebuild as tensorrt_rebuild
from frameworks.trt import specs as tensorrt_specs
from frameworks.trt.cuda import Cuda
from frameworks.trt.engine import Engine, EngineMethod
from frameworks.trt.files import Contents
from frameworks.trt.plan import Platform
from store import Signature

SETTINGS: Final[Mapping[str, type]] = {"on_mismatch": str}
"""The adapter's load settings and their types."""

FALLBACK: Final = "fallback"
BUILD: Final = "build"
FAIL: Final = "fail"

_logger = logging.getLogger(__name__)


class NotRunnable(Exception):
    """No plan of the model can be run here; never leaves the adapter.

    Args:
        reason: for people.
        here: key of this machine's platform, where it has all that plans need.
    """

    def __init__(self, reason: str, here: str = "none") -> None:
        super().__init__(reason)
        self.reason = reason
        self.here = here


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine has to run plans with.

    Args:
        module: the library.
        gpu: the card.
        cuda: the same, for its memory.
    """

    module: ModuleType
    gpu: Gpu
    cuda: Cuda

    @property
    def platform(self) -> Platform:
        """What plans have to be built for."""
        return Platform.here(self.module, self.gpu)


def open_contents(
    contents: Contents, signatures: Mapping[str, Signature], options: LoadOptions, name: str
) -> dict[str, Opened]:
    """Open a model and return one callable per method.

    Args:
        contents: its folder.
        signatures: its methods.
        options: the device and ``on_mismatch``.
        name: of the model, for messages.

    Raises:
        InvalidModel: it cannot be run here, or not as ``on_mismatch`` demands; the message says why.
    """
    policy = policy_of(options)
    try:
        engine = open_engine(contents, options.device, policy, name)
    except NotRunnable as error:
        _check_may_fall_back(contents, name, policy, error.reason)
        return _fall_back(contents, signatures, options, name, error)
    info = contents.info
    return {
        method: EngineMethod(engine, tensorrt_specs.answers(info, engine, method, signature))
        for method, signature in signatures.items()
    }


def open_engine(contents: Contents, device: str, policy: str, name: str) -> Engine:
    """Open the plan of this machine; build it, here and now or aside, as the policy says.

    Raises:
        NotRunnable: there is none; it says why.
        InvalidModel: the device is none.
    """
    built = contents.info.platform
    here = find_here(device, built.library if built is not None else "")
    difference = contents.info.differences(here.platform)
    reasons = [difference] if difference else []
    for plan in _plans(contents, here, difference, policy):
        try:
            return Engine(here.module, here.cuda, plan())
        except (FrameworkError, RuntimeError) as error:
            reasons.append(str(error))
    if policy == FALLBACK and contents.graph_path is not None:
        tensorrt_rebuild.start(contents, here.gpu, tensorrt_module.library(here.module), name)
    raise NotRunnable("; ".join(reasons), here.platform.key())


def find_here(device: str, library: str = "") -> Here:
    """Return what this machine has for a device.

    Args:
        device: ``cuda`` or ``cuda:N``.
        library: the one that is preferred, where it is installed.

    Raises:
        NotRunnable: the device is the CPU, or a card or a library is missing.
        InvalidModel: it is no device.
    """
    index = card_index(device)
    if index is None:
        raise NotRunnable("it was asked to run on the cpu, and TensorRT runs on cuda devices only")
    gpu = find_gpu(index)
    if gpu is None:
        raise NotRunnable(NO_GPU)
    if library and importlib.util.find_spec(library) is None:
        library = ""  # the other one can build the plan again
    try:
        return Here(tensorrt_module.find(library), gpu, Cuda(tensorrt_cuda.runtime(), index))
    except (MissingFramework, RuntimeError) as error:
        raise NotRunnable(str(error)) from error


def policy_of(options: LoadOptions) -> str:
    """Return the load setting ``on_mismatch``.

    Raises:
        InvalidModel: it has no such value.
    """
    policy = options.settings.get("on_mismatch", FALLBACK)
    if policy not in (FALLBACK, BUILD, FAIL):
        raise InvalidModel(
            f"load option 'on_mismatch' must be {FALLBACK}, {BUILD} or {FAIL}, not {policy!r}",
            field="load.on_mismatch",
        )
    return str(policy)


def card_index(device: str) -> int | None:
    """Return the number of a device's card; None for the CPU.

    Raises:
        InvalidModel: it is no device.
    """
    kind, colon, index = device.partition(":")
    if kind == "cpu" and not colon:
        return None
    if kind == "cuda" and (not colon or index.isdecimal()):
        return int(index or 0)
    raise InvalidModel(f"TensorRT knows no device {device!r}; use 'cuda', 'cuda:N' or 'cpu'", field="device")


def _plans(contents: Contents, here: Here, difference: str, policy: str) -> Iterator[Callable[[], bytes]]:
    """Yield ways to get a plan for this machine, the quickest first."""
    if not difference:
        yield contents.plan
    if contents.graph_path is None:
        return
    cached = tensorrt_cache.look_up(contents.info, here.platform)
    if cached is not None:
        found = cached
        yield lambda: found
    if policy == BUILD:
        yield partial(tensorrt_rebuild.build_here, contents, here.module, here.gpu)


def _check_may_fall_back(contents: Contents, name: str, policy: str, reason: str) -> None:
    said = f"the TensorRT plan of {name} cannot run here: {reason}"
    if policy == FAIL:
        raise InvalidModel(said, field="device")
    if contents.graph_path is None:
        built = contents.info.platform
        if built is not None and str(built) not in reason:
            said += f"; it was built for {built}"
        raise InvalidModel(
            f"{said}. There is no ONNX graph beside it to run instead: build the plan again from the ONNX "
            "model on this machine",
            field="device",
        )


def _fall_back(
    contents: Contents,
    signatures: Mapping[str, Signature],
    options: LoadOptions,
    name: str,
    error: NotRunnable,
) -> dict[str, Opened]:
    session = tensorrt_fallback.open_session(contents, options)
    methods = tensorrt_fallback.session_methods(session, signatures)
    built = contents.info.platform
    _logger.warning(
        "tensorrt_fallback model=%s provider=%s plan=%s here=%s reason=%s",
        name,
        session.get_providers()[0],
        "none" if built is None else built.key(),
        error.here,
        error.reason,
    )
    return methods
