"""The process in which a converted model is saved: it loads the artifact once more and runs it on the sample.

Called by name, with plain values, through ``frameworks.convert.isolate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frameworks import registry, sample
from frameworks.arrays import Arrays
from store import Model, ModelStore, Signature
from store.plain import Plain
from store.signature import parse_signatures


def save(
    module: str,
    tag: str,
    store: str,
    artifact: str,
    source: Mapping[str, str],
    signatures: Mapping[str, Any],
    record: Mapping[str, Any],
) -> dict[str, Plain]:
    """Save one artifact; called in a process of its own, with plain values.

    Args:
        module: the adapter.
        tag: of the new model.
        store: root of the store that it goes to.
        artifact: file or folder.
        source: ``store`` and ``tag`` of the model that it was made of.
        signatures: the methods that the artifact has.
        record: further arguments of ``save_model``.
    """
    known = parse_signatures(signatures)
    origin = ModelStore(source["store"]).get(source["tag"])
    rows = record["options"].get("max_batch_size")
    registry.adapter(module).save_model(
        tag,
        Path(artifact),
        signatures=known,
        sample=_sample(origin, known, rows if isinstance(rows, int) else None),
        parent=source["tag"],
        store=ModelStore(store),
        **record,
    )
    return {"tag": tag}


def _sample(model: Model, signatures: Mapping[str, Signature], limit: int | None) -> Arrays | None:
    """Return the source's sample for the first method that takes it, cut to the rows that are accepted."""
    for name, signature in signatures.items():
        arrays = sample.load(model, name)
        if arrays is None:
            continue
        if not signature.batchable or limit is None:
            return arrays
        axis = signature.batch_dim[0]
        return {
            key: np.take(array, range(min(limit, array.shape[axis])), axis) for key, array in arrays.items()
        }
    return None
