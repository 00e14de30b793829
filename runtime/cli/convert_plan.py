"""What ``runtime convert`` is told, turned into what a conversion is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from frameworks.convert import graph
from frameworks.convert.formats import (
    JitType,
    RuntimeProvider,
    TensorRTPrecision,
    UnknownVariant,
    Variant,
    select,
)
from frameworks.convert.isolate import Limits
from frameworks.convert.work import NotConvertible, Settings
from store import Signature
from store.plain import Plain
from store.signature import default_method

if TYPE_CHECKING:
    from enum import StrEnum

    from store import Model

USUAL_BATCH_SIZE: Final = 8
"""Measured between one row and the most: where batching begins to pay, or not."""

USUAL_PRECISIONS: Final = (TensorRTPrecision.FP32, TensorRTPrecision.FP16)
"""Of the TensorRT variants when none are named; the others change answers more or need calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Which variants are wanted.

    Args:
        asked: what was named with ``--to``, with the variants that it means; empty when nothing was.
        variants: all of them, in report order.
    """

    asked: Mapping[str, tuple[Variant, ...]]
    variants: tuple[Variant, ...]


def words(given: Sequence[str]) -> list[str]:
    """Return the words of an option that takes a list with commas and may be repeated."""
    return list(dict.fromkeys(word for text in given for word in text.replace(",", " ").split()))


def signatures(model: Model, wanted: Sequence[str]) -> dict[str, Signature]:
    """Return the methods to convert: those that were named, or all with specs, the default one first.

    Raises:
        BadParameter: the model has no such method.
        NotConvertible: a method's tensors are not known.
    """
    known = model.info.signatures
    for name in wanted:
        if name not in known:
            raise click.BadParameter(
                f"{model.tag} has no method {name!r}; it has {', '.join(known) or 'none'}",
                param_hint="--method",
            )
    first = default_method(known)
    order = list(wanted) or [*([first] if first else []), *(name for name in known if name != first)]
    found = {name: known[name] for name in order if known[name].inputs and known[name].outputs}
    lacking = [name for name in order if name not in found]
    if not found or (wanted and lacking):
        raise NotConvertible(
            f"the tensors of {', '.join(lacking) or 'every method'} of {model.tag} are not known: "
            "save the model again with sample=..., or with inputs and outputs in its signatures",
            field="signatures",
        )
    return found


def targets(module: str, options: Mapping[str, Any]) -> Targets:
    """Return the variants to make of a source.

    A word of ``--to`` is the variant of that name where the source can become it, else all variants of the
    format of that name: ``onnx`` is one variant, ``torchscript`` and ``trt`` are several.

    Args:
        module: adapter of the source.
        options: ``to``, ``precision`` and ``jit``, as lists with commas.

    Raises:
        BadParameter: a word is no format, no precision or no kind of TorchScript.
        UsageError: two options exclude each other.
        NotConvertible: the source cannot become it; what it can become is listed.
    """
    known = graph.edges(module)
    precisions = _members(TensorRTPrecision, options["precision"], "--precision") or USUAL_PRECISIONS
    jits = _members(JitType, options["jit"], "--jit") or tuple(JitType)

    def fits(variant: Variant) -> bool:
        return variant.precision in (None, *precisions) and variant.jit in (None, *jits)

    asked: dict[str, tuple[Variant, ...]] = {}
    for word in words(options["to"]):
        meant = _meant(word, known)
        possible = tuple(variant for variant in meant if variant in known)
        if not possible:
            graph.edge(module, meant[0])  # says what is possible
        asked[word] = possible if len(meant) == 1 else tuple(filter(fits, possible))
        if not asked[word]:
            raise click.UsageError(f"--precision or --jit leaves nothing of --to {word}")
    chosen = {variant for group in asked.values() for variant in group} or set(filter(fits, known))
    return Targets(asked=asked, variants=select(chosen))


def providers(given: Sequence[str]) -> tuple[RuntimeProvider, ...]:
    """Return the runtimes that were named; none when all are wanted.

    Raises:
        BadParameter: there is no such runtime.
    """
    return _members(RuntimeProvider, given, "--providers")


def settings(model: Model, options: Mapping[str, Any]) -> Settings:
    """Return the settings of the conversions."""
    return Settings(
        opset=options["opset"],
        max_batch_size=options["max_batch"] or served_batch_size(model),
        device=options["device"],
        atol=options["atol"],
        rtol=options["rtol"],
    )


def limits(options: Mapping[str, Any]) -> Limits:
    """Return what each step may use."""
    return Limits(seconds=options["timeout"], memory_bytes=options["memory_limit"])


def measurement(limit: int, options: Mapping[str, Any]) -> dict[str, Plain]:
    """Return the settings of the profiler.

    Args:
        limit: most rows that a variant has to take.
        options: ``batch_sizes`` and ``window_ms``.

    Raises:
        BadParameter: a batch size is no number within the limit.
    """
    given = words(options["batch_sizes"])
    sizes = sorted({1, min(USUAL_BATCH_SIZE, limit), limit})
    if given:
        if not all(word.isdecimal() and 0 < int(word) <= limit for word in given):
            raise click.BadParameter(
                f"{', '.join(given)}: give whole numbers from 1 to {limit}, which --max-batch sets",
                param_hint="--batch-sizes",
            )
        sizes = sorted({int(word) for word in given})
    return {"batch_sizes": [*sizes], "measurement_interval": options["window_ms"]}


def served_batch_size(model: Model) -> int:
    """Return how many rows a server would execute together: the model's own limit, or the server's."""
    from runtime.config import ModelConfig

    own = model.info.options.get("max_batch_size")
    return own if isinstance(own, int) and not isinstance(own, bool) else ModelConfig().max_batch_size


def _members(kind: type[StrEnum], given: Sequence[str], option: str) -> tuple[Any, ...]:
    found = []
    for word in words(given):
        try:
            found.append(kind(word))
        except ValueError:
            known = ", ".join(member.name.lower() for member in kind)
            raise click.BadParameter(f"{word!r} is none of {known}", param_hint=option) from None
    return tuple(found)


def _meant(word: str, known: Collection[Variant]) -> tuple[Variant, ...]:
    """Return what a word of ``--to`` means, whether the source can become it or not."""
    for variant in known:
        if str(variant) == word.lower().replace("_", "-"):
            return (variant,)
    try:
        return select([word])
    except UnknownVariant as error:
        raise click.BadParameter(error.message, param_hint="--to") from error
