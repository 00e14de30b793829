"""What is known of a plan: how it was built, and for which library, card and driver.

A *plan* is TensorRT's compiled form of a graph. It runs where it was built and on machines that are the same
in library, card and driver; everywhere else it is built again from the ONNX graph, its source. The record
lies beside the plan, in ``plan.json``; it may come from elsewhere, so that reading it checks each field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from frameworks.convert.formats import TensorRTPrecision
from frameworks.errors import InvalidModel
from frameworks.gpu import Gpu
from frameworks.trt import module as tensorrt_module
from frameworks.trt.profile import Profile, as_profile
from store import InvalidSignature, TensorSpec

PLAN: Final = "model.plan"
INFO: Final = "plan.json"

_NO_CARD: Final = "any-card"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """How a plan is built.

    Args:
        precision: arithmetic that TensorRT may use; inputs and outputs keep their datatypes. ``int8`` needs a
            graph that is quantised already.
        profile: input to its least, usual and largest shape, for each input that has a dynamic axis.
        max_workspace_bytes: memory that may be used while looking for kernels; None is TensorRT's default.
        capabilities: compute capabilities such as ``8.9`` that ``tensorrt_rtx`` builds for; empty means all
            that it knows. The other library always builds for the card that it runs on.
        typed: the graph itself says the precision: its tensors are FP16, or it quantises them.

    Raises:
        InvalidModel: a value makes no sense.
    """

    precision: TensorRTPrecision = TensorRTPrecision.FP32
    profile: Profile = field(default_factory=dict)
    max_workspace_bytes: int | None = None
    capabilities: tuple[str, ...] = ()
    typed: bool = False

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "precision", TensorRTPrecision(self.precision))
        except ValueError as error:
            known = ", ".join(TensorRTPrecision)
            raise InvalidModel(
                f"precision cannot be {self.precision!r}; there are {known}", field="precision"
            ) from error
        object.__setattr__(self, "profile", as_profile(self.profile))
        size = self.max_workspace_bytes
        if size is not None and (not isinstance(size, int) or size < 1):
            raise InvalidModel(
                f"max_workspace_bytes must be at least 1, not {size!r}", field="max_workspace_bytes"
            )
        object.__setattr__(self, "capabilities", tuple(map(str, self.capabilities)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a plan is tied to.

    Args:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library.
        card: name of the card; empty where the plan was built without one.
        capability: its compute capability.
        driver: CUDA version of its driver.
    """

    library: str
    version: str
    card: str = ""
    capability: str = ""
    driver: str = ""

    @classmethod
    def here(cls, module: ModuleType, gpu: Gpu | None) -> Platform:
        """Return this process's platform with a library and a card."""
        library, version = tensorrt_module.library(module), str(module.__version__)
        if gpu is None:
            return cls(library=library, version=version)
        return cls(
            library=library,
            version=version,
            card=gpu.name,
            capability=gpu.capability,
            driver=gpu.driver,
        )

    def key(self) -> str:
        """Return the platform as a file name; equal keys mean that plans are exchangeable."""
        card = Gpu(self.card, self.capability, self.driver, 0).card_key() if self.card else _NO_CARD
        return f"{self.library}-{self.version}-{card}"

    def __str__(self) -> str:
        """Return the platform for people."""
        card = f"{self.card} (compute capability {self.capability}, driver for CUDA {self.driver})"
        return f"{self.library} {self.version} on {card if self.card else 'any card'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInfo:
    """The record of one plan, or of one that is still to be built.

    Args:
        settings: how it was, or is to be, built.
        platform: where it runs; None when there is no plan yet.
        plan_digest: of the plan's bytes; empty likewise.
        graph_digest: of the ONNX graph with the files beside it; empty where a plan is all there is.
        inputs: what the plan takes, by its own names.
        outputs: what it returns.
        methods: method to its answers to the plan's outputs; empty where each method answers all.
    """

    settings: BuildSettings
    platform: Platform | None = None
    plan_digest: str = ""
    graph_digest: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    methods: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def differences(self, here: Platform) -> str:
        """Return why the plan cannot run on a platform, for people; empty when it can.

        Plans of ``tensorrt_rtx`` are finished by the driver of the machine that runs them, so that only the
        card's capability counts.
        """
        built = self.platform
        if built is None:
            return "no plan has been built yet"
        if (built.library, built.version) != (here.library, here.version):
            return f"the plan was built for {built}, and here is {here}"
        if built.library == tensorrt_module.RTX:
            known = self.settings.capabilities
            if not known or here.capability in known:
                return ""
            return (
                f"the plan was built for cards of compute capability {', '.join(known)}, and here is {here}"
            )
        return "" if built == here else f"the plan was built for {built}, and here is {here}"

    def cache_digest(self) -> str:
        """Return what all plans of this graph with these settings have in common."""
        document = json.dumps([self.graph_digest, asdict(self.settings)], sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()[:32]

    def built(self, platform: Platform, plan: bytes) -> PlanInfo:
        """Return the record with a plan."""
        return replace(self, platform=platform, plan_digest=digest(plan))

    def to_json(self) -> bytes:
        """Return the record as ``read`` takes it."""
        document = asdict(self)
        for side in ("inputs", "outputs"):
            document[side] = [spec.to_dict() for spec in getattr(self, side)]
        return f"{json.dumps(document, indent=2)}\n".encode()

    @classmethod
    def read(cls, path: Path) -> PlanInfo:
        """Read a record.

        Raises:
            InvalidModel: the file cannot be read, or a field is missing or wrong.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return _parse(document)
        except InvalidModel as error:
            raise InvalidModel(f"{path} is wrong: {error.message}", field=error.field) from error
        except InvalidSignature as error:
            raise InvalidModel(f"{path} is wrong: {error.message}", field=error.field) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidModel(f"{path} cannot be read: {error!r}", field=INFO) from error


def digest(content: bytes) -> str:
    """Return ``sha256:<hex>``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _parse(document: Mapping[str, Any]) -> PlanInfo:
    settings, platform = document["settings"], document["platform"]
    texts = {name: str(document[name]) for name in ("plan_digest", "graph_digest")}
    return PlanInfo(
        settings=BuildSettings(**settings),
        platform=None if platform is None else Platform(**{k: str(v) for k, v in platform.items()}),
        inputs=tuple(TensorSpec.parse(spec) for spec in document["inputs"]),
        outputs=tuple(TensorSpec.parse(spec) for spec in document["outputs"]),
        methods={
            str(method): {str(answer): str(name) for answer, name in names.items()}
            for method, names in document["methods"].items()
        },
        **texts,
    )
