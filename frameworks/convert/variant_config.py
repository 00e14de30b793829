"""``config.yaml`` beside each artifact: what another tool has to know to use the artifact by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from frameworks.convert.formats import Status
from frameworks.convert.records import Conversion, Report
from frameworks.convert.work import ARTIFACTS
from frameworks.convert.workspace import Workspace
from store import Signature, TensorSpec, datatypes
from store.signature import DYNAMIC

FILE_NAME: Final = "config.yaml"


def write_all(workspace: Workspace, report: Report) -> None:
    """Write the file of every variant that was made; a run that makes a variant again writes it again."""
    for variant, conversion in report.conversions.items():
        if conversion.outcome.status is not Status.OK or not workspace.folder(variant).is_dir():
            continue
        target = workspace.folder(variant) / FILE_NAME
        unfinished = target.with_name(f".{FILE_NAME}.unfinished")
        with unfinished.open("w", encoding="utf-8") as file:
            yaml.safe_dump(describe(report, conversion), file, sort_keys=False, allow_unicode=True)
        unfinished.rename(target)


def describe(report: Report, conversion: Conversion) -> dict[str, Any]:
    """Return the content of a variant's file; tensors are those of its first method."""
    variant = conversion.variant
    known = report.signatures
    signature = next((known[name] for name in conversion.methods if name in known), None)
    signature = signature or next(iter(known.values()))
    inputs, outputs = signature.inputs or (), signature.outputs or ()
    return {
        "model_name": report.model_name,
        "model_path": ARTIFACTS[variant.format],
        "model_format": variant.format.value,
        "variant": str(variant),
        "jit_type": variant.jit.value if variant.jit else None,
        "precision": variant.precision.value if variant.precision else None,
        "methods": list(conversion.methods),
        "batch_dim": signature.batch_dim[0] if signature.batchable else None,
        "max_batch_size": _max_batch_size(report, conversion, signature),
        "inputs": [_tensor(spec) for spec in inputs],
        "outputs": [_tensor(spec) for spec in outputs],
        "dynamic_axes": {
            spec.name: [axis for axis, size in enumerate(spec.shape) if size == DYNAMIC]
            for spec in (*inputs, *outputs)
            if DYNAMIC in spec.shape
        },
        "tolerances": _tolerances(conversion),
        "runtimes": [
            provider.value
            for provider, execution in conversion.executions.items()
            if execution.outcome.status is Status.OK
        ],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    dtype = datatypes.numpy_dtype(spec.datatype).name
    return {"name": spec.name, "shape": list(spec.shape), "dtype": dtype, "datatype": spec.datatype}


def _max_batch_size(report: Report, conversion: Conversion, signature: Signature) -> Any:
    if not signature.batchable:
        return None
    settings = report.settings.get("conversion")
    asked = settings.get("max_batch_size") if isinstance(settings, Mapping) else None
    return conversion.outcome.facts.get("max_batch_size", asked)


def _tolerances(conversion: Conversion) -> dict[str, dict[str, float]]:
    """Return the widest tolerances that were applied to each output."""
    found: dict[str, dict[str, float]] = {}
    for execution in conversion.executions.values():
        for name, difference in execution.outputs.items():
            widest = found.setdefault(name, {"atol": 0.0, "rtol": 0.0})
            widest["atol"] = max(widest["atol"], difference.atol)
            widest["rtol"] = max(widest["rtol"], difference.rtol)
    return found
