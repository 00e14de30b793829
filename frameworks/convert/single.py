"""Makes one variant at a place of the caller's choice: the thin way to the graph, without a report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from frameworks.convert import graph
from frameworks.convert.formats import Variant
from frameworks.convert.isolate import Limits, isolated
from frameworks.convert.plainform import to_plain
from frameworks.convert.records import Outcome
from frameworks.convert.samples import Samples
from frameworks.convert.work import Settings
from store import Model, Signature
from store.plain import Plain


def convert_one(
    variant: Variant,
    target: Path,
    *,
    origin: Model | tuple[Variant, Path],
    signatures: Mapping[str, Signature],
    samples: Samples,
    settings: Settings | None = None,
    limits: Limits | None = None,
) -> Outcome:
    """Convert in a process of its own and say how it ended.

    Args:
        variant: what to make.
        target: file or folder to write; what is there is replaced, its parent is made.
        origin: the source model, or a variant to start from and where it lies.
        signatures: methods with all specs.
        samples: inputs of the first method.
        settings: of the conversion.
        limits: of the process.

    Raises:
        NotConvertible: such an origin cannot become that.
    """
    if isinstance(origin, Model):
        edge, model, start = graph.edge(origin.info.module, variant), origin, None
    else:
        edge, model, start = graph.edge_between(origin[0], variant), None, origin
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        inputs, log = Path(folder) / "samples", Path(folder) / "log"
        samples.save(inputs)
        work: dict[str, Plain] = {
            "variant": str(variant),
            "start": str(start[0]) if start else None,
            "model": {"store": str(model.path.parent.parent), "tag": str(model.tag)} if model else None,
            "artifact": str(start[1]) if start else None,
            "target": str(target),
            "signatures": to_plain(signatures),
            "samples": str(inputs),
            "settings": to_plain(settings or Settings()),
        }
        return isolated(
            "frameworks.convert.stages:make", {"step": edge.step, "work": work}, limits or Limits(), log
        )
