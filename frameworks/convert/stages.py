"""What the isolated processes do: convert, answer the samples, verify, measure.

Each function takes and returns plain values, since it runs in a process of its own (``isolate``). A *subject*
is what is executed: ``{"store": root, "tag": tag}`` for a saved model, or ``{"variant": name, "path": path}``
for an artifact in a workspace.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from frameworks import registry
from frameworks.arrays import Arrays
from frameworks.calling import Opened
from frameworks.convert import extents, npz
from frameworks.convert.formats import TensorRTPrecision, Variant
from frameworks.convert.opening import open_variant
from frameworks.convert.place import Place
from frameworks.convert.plainform import from_plain, to_plain
from frameworks.convert.samples import EXTENTS, KINDS, Samples, stack
from frameworks.convert.verify import arrange, outputs_of, verify
from frameworks.convert.work import Made, Settings, Work
from store import Model, ModelStore, Signature
from store.plain import Plain
from store.signature import parse_signatures

Document = dict[str, Any]


def make(step: str, work: Document) -> dict[str, Plain]:
    """Run one conversion step; what it wrote is thrown away when it fails.

    Args:
        step: ``module:function``.
        work: fields of ``Work``; ``model`` is a subject, ``samples`` the folder that ``Samples`` were saved
            to.
    """
    model, start = work["model"], work["start"]
    samples = Samples.load(Path(work["samples"]))
    task = Work(
        variant=Variant.parse(work["variant"]),
        start=Variant.parse(start) if start else None,
        model=_model(model) if model else None,
        artifact=Path(work["artifact"]) if work["artifact"] else None,
        target=Path(work["target"]),
        signatures=parse_signatures(work["signatures"]),
        samples=samples.conversion,
        extents=samples.extents,
        settings=from_plain(Settings, work["settings"], "settings"),
    )
    _remove(task.target)
    made = _function(step)(task)
    if not isinstance(made, Made) or not task.target.exists():
        raise TypeError(f"step {step} has made nothing")
    return {"methods": list(made.methods), "facts": dict(made.facts)}


def answer(
    subject: Document, signatures: Document, place: Document, inputs: str, outputs: str, settings: Document
) -> Document:
    """Keep a model's answers to the samples, by kind; of methods after the first in folders of their own.

    Samples at extents that the others do not have are added to them; see ``frameworks.convert.extents``.
    """
    known = parse_signatures(signatures)
    samples = Samples.load(Path(inputs))
    methods = _open(subject, known, from_plain(Place, place, "place"))
    first = next(iter(known))
    taking = {
        name: signature
        for name, signature in known.items()
        if name == first or arrange(samples.correctness, signature) is not None  # they are for the first
    }
    for name, signature in taking.items():
        for kind in KINDS:
            answers = outputs_of(methods[name], signature, getattr(samples, kind))
            npz.write_kind(_answers(Path(outputs), name, first) / kind, answers)
    added = extents.find(samples, methods, taking, from_plain(Settings, settings, "settings"))
    for name in taking:
        extents.write([found[name] for _, found in added], _answers(Path(outputs), name, first) / EXTENTS)
    extents.write([given for given, _ in added], Path(inputs) / EXTENTS)
    return {}


def check(
    subject: Document,
    signatures: Document,
    place: Document,
    inputs: str,
    outputs: str,
    first: str,
    precision: str | None,
    settings: Document,
) -> dict[str, Plain]:
    """Compare a subject's answers with those that were kept, alone and in batches.

    Args:
        subject: what is executed.
        signatures: its methods.
        place: where it is executed.
        inputs: folder of the samples.
        outputs: folder of the answers that ``answer`` kept.
        first: method that the samples are for.
        precision: of the variant, where it has one.
        settings: tolerances and the largest batch.

    Returns:
        ``passed``, ``message``, ``outputs`` and ``invariance`` as in ``verify.Verified``.
    """
    known = parse_signatures(signatures)
    given = from_plain(Settings, settings, "settings")
    samples = Samples.load(Path(inputs))
    found = verify(
        _open(subject, known, from_plain(Place, place, "place")),
        known,
        samples,
        reference(known, Path(outputs), first),
        precision=TensorRTPrecision(precision) if precision else None,
        atol=given.atol,
        rtol=given.rtol,
        max_batch_size=given.max_batch_size,
    )
    return cast("dict[str, Plain]", to_plain(found))


def measure(
    subject: Document, signatures: Document, place: Document, inputs: str, function: str, settings: Document
) -> dict[str, Plain]:
    """Measure the first method of a subject with the function that the caller of the run has named."""
    known = parse_signatures(signatures)
    name, signature = next(iter(known.items()))
    samples = Samples.load(Path(inputs)).profiling
    axis = signature.batch_dim[0] if signature.batchable else None
    method = _open(subject, known, from_plain(Place, place, "place"))[name]

    def batch(rows: int) -> Arrays:
        return samples[0] if axis is None else stack(samples, rows, axis)

    if axis is None:
        settings = {**settings, "batch_sizes": [1]}
    return {"performance": to_plain(_function(function)(method, batch, settings))}


def reference(
    signatures: Mapping[str, Signature], outputs: Path, first: str
) -> dict[str, dict[str, list[Arrays]]]:
    """Return the answers that ``answer`` kept, by method and kind; methods without any are left out."""
    found: dict[str, dict[str, list[Arrays]]] = {}
    for name in signatures:
        folder = _answers(outputs, name, first)
        there = [kind for kind in (*KINDS, EXTENTS) if (folder / kind).is_dir()]
        kinds = {kind: npz.read_kind(folder / kind) for kind in there}
        if kinds:
            found[name] = kinds
    return found


def _answers(outputs: Path, method: str, first: str) -> Path:
    return outputs if method == first else outputs / method


def _open(subject: Document, signatures: Mapping[str, Signature], place: Place) -> Mapping[str, Opened]:
    if "variant" not in subject:
        model = _model(subject)
        opened = registry.adapter(model.info.module).open_methods(model, replace(place.options, settings={}))
        return cast("Mapping[str, Opened]", opened)
    return open_variant(Variant.parse(subject["variant"]), Path(subject["path"]), signatures, place)


def _model(subject: Document) -> Model:
    return ModelStore(Path(subject["store"])).get(subject["tag"])


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
