"""The family of a saved model: what it was made of, and what was made of it, as its manifests tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from store import Model, ModelStore

_CONVERSION: Final = "conversion"
"""Where the record of a conversion stands among the checks of a manifest."""


def family(store: ModelStore, model: Model) -> dict[str, Any]:
    """Return a model's parent and children.

    Args:
        store: where both are looked for.
        model: of the store.

    Returns:
        ``parent``, a tag or None; ``children``, the newest last: ``tag``, ``module`` and, of converted ones,
        what ``converted`` says.

    Complexity: reads every manifest of the store.
    """
    return {
        "parent": model.info.parent or None,
        "children": [
            {"tag": str(child.tag), "module": child.info.module, **converted(child)}
            for child in children(store, str(model.tag))
        ],
    }


def children(store: ModelStore, tag: str) -> list[Model]:
    """Return the models that were made of another, the newest last."""
    return [model for model in reversed(store.list()) if model.info.parent == tag]


def converted(model: Model) -> dict[str, Any]:
    """Return what a conversion has recorded of its result, for people; empty when none has made it.

    Returns:
        ``variant``; by runtime ``max_abs``, the largest difference to the source, and ``median_ms`` and
        ``speed_up`` by batch size.
    """
    found = _table(model.info.checks, _CONVERSION)
    if not found:
        return {}
    runs = _table(found, "providers")
    return {"variant": found.get("variant"), "runtimes": {name: _run(_table(runs, name)) for name in runs}}


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    outputs = [_table(_table(run, "outputs"), name).get("max_abs") for name in _table(run, "outputs")]
    points = run.get("performance")
    known = [one for one in points if isinstance(one, Mapping)] if isinstance(points, list) else []
    return {
        "max_abs": max((one for one in outputs if isinstance(one, int | float)), default=None),
        "median_ms": {str(one.get("batch_size")): _rounded(one.get("median_ms")) for one in known},
        "speed_up": {size: _rounded(ratio) for size, ratio in _table(run, "speed_up").items()},
    }


def _rounded(value: object) -> object:
    """Return a number with four digits, which is more than a measurement is worth."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.4g}")
    return value


def _table(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a table in a record that may come from elsewhere; empty when it is none."""
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}
