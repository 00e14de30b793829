"""Keeps what a conversion has made: each good variant as a model of its own, beside its source.

A converted model is called ``<source>-<variant>``, has the source's version and names it as its parent; what
was found out about it stands in its manifest under ``checks.conversion``. It is saved in a process of its own
(``saving``), since that loads it once more. What was measured becomes a profile of the model, so that a
server knows the times of its batches from the start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from frameworks.convert.best import right, speed_ups
from frameworks.convert.formats import Format, RuntimeProvider, Status, Variant
from frameworks.convert.isolate import Limits, isolated
from frameworks.convert.plainform import to_plain
from frameworks.convert.records import Conversion, Performance, Report
from frameworks.convert.work import ADAPTERS
from frameworks.convert.workspace import Workspace
from runtime.config import ModelConfig
from runtime.convert.profiles import Profiles
from store import CorruptArtifact, Model, ModelMissing, ModelStore, StoreError, Tag
from store.plain import Plain
from store.profiles import ProfileStore

CHECKS: Final = "conversion"
"""Where the record of a conversion stands among the checks of a manifest."""

_SAVE: Final = "runtime.convert.saving:save"
_OTHER: Final = "the one that is there is of another run; overwrite to replace it"
_GPU_ONLY: Final = frozenset({Format.TENSORRT, Format.TORCH_TRT, Format.TF_TRT})


class Fate(StrEnum):
    """What became of a variant that was to be stored."""

    STORED = "stored"
    KEPT = "already stored"
    FAILED = "not stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One variant and the store.

    Args:
        variant: what it is.
        tag: of the model that it is now, or would be.
        fate: see ``Fate``.
        message: why it failed, or what is to be known of the one that was there; else empty.
    """

    variant: Variant
    tag: str
    fate: Fate
    message: str = ""


def is_good(conversion: Conversion, *, unverified: bool = False) -> bool:
    """Return whether a variant was made and answers rightly on at least one runtime.

    Args:
        conversion: of the variant.
        unverified: it suffices that no runtime has answered wrongly.
    """
    if right(conversion, unverified=unverified):
        return True
    return unverified and conversion.outcome.status is Status.OK and not conversion.executions


def store_results(
    report: Report,
    workspace: Workspace,
    source: Model,
    store: ModelStore,
    *,
    targets: Collection[Variant] = (),
    overwrite: bool = False,
    unverified: bool = False,
    limits: Limits | None = None,
) -> list[Stored]:
    """Save every good variant of a report into a store, and what was measured of it and of the source.

    Args:
        report: of the conversion.
        workspace: with its artifacts.
        source: the model that was converted.
        store: where to.
        targets: what is to be stored; none for everything in the report.
        overwrite: delete a model that has the tag already; else it is kept as it is.
        unverified: variants whose answers nobody has compared are good enough.
        limits: of the process that saves one of them.

    Returns:
        One record for each good variant, in report order. Nothing is raised for one that cannot be saved.
    """
    profiles = Profiles(ProfileStore.beside(store.root), source.tag)
    profiles.keep(source.tag, report.source.performance, {"provider": report.source.provider.value})
    keeper = _Keeper(report, workspace, source, store, limits or Limits())
    stored = []
    for variant, conversion in report.conversions.items():
        if (targets and variant not in targets) or not is_good(conversion, unverified=unverified):
            continue
        done = keeper.keep(conversion, overwrite=overwrite)
        stored.append(done)
        if done.fate is Fate.STORED or (done.fate is Fate.KEPT and not done.message):
            performance, facts = _served(conversion, unverified)
            profiles.keep(Tag.parse(done.tag), performance, {"variant": str(variant), **facts})
    return stored


def record(report: Report, conversion: Conversion) -> dict[str, Plain]:
    """Return what stands in the manifest about a conversion: plain values only."""
    faster = speed_ups(report)
    providers: dict[str, Plain] = {}
    for provider, execution in conversion.executions.items():
        ratios = faster.get((conversion.variant, provider), {})
        providers[provider.value] = {
            "status": execution.outcome.status.value,
            "verified": execution.verified,
            "outputs": to_plain(execution.outputs),
            "invariance": to_plain(execution.invariance),
            "performance": to_plain(execution.performance),
            "speed_up": {str(rows): ratio for rows, ratio in ratios.items()},
        }
    return {
        "variant": str(conversion.variant),
        "start": str(conversion.start) if conversion.start else "",
        "key": conversion.key,
        "methods": list(conversion.methods),
        "facts": to_plain(conversion.outcome.facts),
        "providers": providers,
    }


def serving_options(options: Mapping[str, Plain], report: Report, conversion: Conversion) -> dict[str, Plain]:
    """Return how to serve a variant: as its source, within what the artifact accepts.

    The source's own load settings are left out, since another adapter knows others.
    """
    found = {name: value for name, value in options.items() if name != "load"}
    if conversion.variant.format in _GPU_ONLY:
        found.setdefault("device", "cuda")
    limit = _row_limit(report, conversion)
    if limit is None:
        return found
    usual = found.get("max_batch_size", ModelConfig().max_batch_size)
    if not isinstance(usual, int) or usual > limit:
        found["max_batch_size"] = limit
    sizes = [int(size) for size in str(found.get("allowed_batch_sizes") or "").split(",") if size.strip()]
    if sizes and sizes[-1] > limit:
        fitting = [size for size in sizes if size <= limit] or [limit]
        found["allowed_batch_sizes"] = ",".join(map(str, fitting))
    return found


def _row_limit(report: Report, conversion: Conversion) -> int | None:
    """Return the most rows that an artifact takes, as far as its maker has told; None for no limit.

    Told as ``max_batch_size``, or for TensorRT as its profile: by input the least, usual and largest shapes.
    """
    facts = conversion.outcome.facts
    limits = [facts.get("max_batch_size")]
    profile = facts.get("profile")
    if isinstance(profile, Mapping) and conversion.methods:
        signature = report.signatures[conversion.methods[0]]
        axis = signature.batch_dim[0]
        shapes = [one[-1] for one in profile.values() if isinstance(one, list) and one]
        limits += [
            shape[axis]
            for shape in shapes
            if signature.batchable and isinstance(shape, list) and axis < len(shape)
        ]
    known = [limit for limit in limits if isinstance(limit, int) and not isinstance(limit, bool)]
    return min(known, default=None)


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Saves the variants of one report."""

    report: Report
    workspace: Workspace
    source: Model
    store: ModelStore
    limits: Limits

    def keep(self, conversion: Conversion, *, overwrite: bool) -> Stored:
        """Save one variant, unless it is there."""
        variant = conversion.variant
        text = f"{self.source.tag.name}-{variant}:{self.source.tag.version}"
        try:
            tag = Tag.parse(text)
            if _present(self.store, tag):
                if not overwrite:
                    message = "" if _is_same(self.store, tag, conversion) else _OTHER
                    return Stored(variant=variant, tag=text, fate=Fate.KEPT, message=message)
                self.store.delete(tag)
        except StoreError as error:
            return Stored(variant=variant, tag=text, fate=Fate.FAILED, message=error.message)
        outcome = isolated(_SAVE, self._arguments(conversion, text), self.limits, self.workspace.log)
        fate = Fate.STORED if outcome.status is Status.OK else Fate.FAILED
        return Stored(variant=variant, tag=text, fate=fate, message=outcome.message)

    def _arguments(self, conversion: Conversion, tag: str) -> dict[str, Plain]:
        variant, info = conversion.variant, self.source.info
        return {
            "module": ADAPTERS[variant.format],
            "tag": tag,
            "store": str(self.store.root),
            "artifact": str(self.workspace.artifact(variant)),
            "source": {"store": str(self.source.path.parent.parent), "tag": str(self.source.tag)},
            "signatures": {name: self.report.signatures[name].to_dict() for name in conversion.methods},
            "record": {
                "labels": dict(info.labels),
                "options": serving_options(info.options, self.report, conversion),
                "checks": {CHECKS: record(self.report, conversion)},
            },
        }


def _present(store: ModelStore, tag: Tag) -> bool:
    try:
        store.get(tag)
    except ModelMissing:
        return False
    except CorruptArtifact:
        return True
    return True


def _is_same(store: ModelStore, tag: Tag, conversion: Conversion) -> bool:
    """Whether a stored model is what this very conversion has made."""
    try:
        found = store.get(tag).info.checks.get(CHECKS)
    except StoreError:
        return False
    return isinstance(found, dict) and bool(conversion.key) and found.get("key") == conversion.key


def _served(conversion: Conversion, unverified: bool) -> tuple[Sequence[Performance], dict[str, Any]]:
    """Return the figures of the runtime that serves the variant, and which one that is."""
    measured = [one for one in right(conversion, unverified=unverified) if one.performance]
    if not measured:
        return (), {}
    gpu_only = conversion.variant.format in _GPU_ONLY
    on_gpu = (RuntimeProvider.TRT, RuntimeProvider.CUDA)
    chosen = min(measured, key=lambda one: (one.provider in on_gpu) is not gpu_only)
    return chosen.performance, {"provider": chosen.provider.value}
