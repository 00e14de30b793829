"""A saved model by itself: its static facts, and its batching curve from measured points.

The facts need the model's framework, which is imported in a child process only: ``python -m
runtime.profiling.model STORE TAG`` prints them as JSON. What a framework does not tell is left out; a model
that cannot be loaded there has its size and the cause, and is measured nevertheless.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from frameworks import FrameworkError, registry, sample
from runtime.clock import MILLISECOND
from runtime.profiling.records import Run
from store import Model, ModelStore, StoreError

FACTS_S: Final = 120.0
"""Patience with the child: importing a large framework takes seconds, counting a large model's flops more."""

_FITTED: Final = ("coef_", "intercept_", "coefs_", "intercepts_")


def row_counts(limit: int) -> list[int]:
    """Return the batch sizes of a curve: 1, 2, 4 … and the limit itself."""
    counts = [1 << power for power in range(limit.bit_length()) if 1 << power < limit]
    return [*counts, max(1, limit)]


def curve(points: Iterable[Run]) -> dict[str, float]:
    """Return rows of a batch to milliseconds of one execution, from points with one call in flight.

    Alone in flight, a request's rows are the batch. The server's own execution time is taken where it tells;
    elsewhere the median service time, which contains the way there and back. Keys are text, as in JSON.
    """
    found: dict[str, float] = {}
    for run in points:
        rows = str(run.labels.get("rows", 1))
        told = (run.server or {}).get("batch_ms", {}).get(rows)
        service = run.total.service
        if told is not None or len(service):
            found[rows] = told if told is not None else service.percentile(50) / MILLISECOND
    return found


def facts(model: Model, store: ModelStore) -> dict[str, Any]:
    """Return what is known of a model without serving it.

    Returns:
        ``module`` and ``artifact_bytes``; ``parameters``, ``buffers`` and ``flops_per_row`` where the
        framework tells; ``error`` instead of these when the model cannot be examined.
    """
    known: dict[str, Any] = {"module": model.info.module, "artifact_bytes": model.size_bytes}
    command = [sys.executable, "-m", "runtime.profiling.model", str(store.root), str(model.tag)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FACTS_S,
            check=False,
            env=_environment(),
        )
        found = json.loads(done.stdout) if not done.returncode else {"error": _last_line(done.stderr)}
    except (subprocess.TimeoutExpired, ValueError) as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    return known | found


def main(arguments: Sequence[str]) -> int:
    """Print the facts of one model; what the model's own code prints goes to stderr."""
    answer = os.dup(1)
    os.dup2(2, 1)
    root, tag = arguments
    model = ModelStore(Path(root)).get(tag)
    try:
        found = _examine(model)
    except (FrameworkError, StoreError) as error:
        found = {"error": str(error)}
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        json.dump(found, file)
    return 0


def _examine(model: Model) -> dict[str, Any]:
    match model.info.module:
        case "pytorch" | "torchscript":
            return _torch(model)
        case "onnx":
            return _onnx(model)
        case "sklearn":
            return _sklearn(registry.adapter("sklearn").load_model(model))
        case _:
            return {}


def _torch(model: Model) -> dict[str, Any]:
    loaded = registry.adapter(model.info.module).load_model(model)
    found: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in loaded.parameters()),
        "buffers": sum(buffer.numel() for buffer in loaded.buffers()),
    }
    method, signature = next(iter(model.info.signatures.items()))
    arrays = sample.load(model, method)
    if model.info.module == "pytorch" and arrays and signature.batchable:
        rows = next(iter(arrays.values())).shape[signature.batch_dim[0]]
        counted = _flops(loaded, method, list(arrays.values()))
        if rows and counted:
            found["flops_per_row"] = counted / rows
    return found


def _flops(loaded: Any, method: str, arrays: list[Any]) -> int:
    """Return the operations of one call, as torch counts them: those of matrix products and convolutions."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    function = loaded if method == "__call__" else getattr(loaded, method)
    with torch.inference_mode(), counter:
        function(*(torch.from_numpy(array) for array in arrays))
    return int(counter.get_total_flops())


def _onnx(model: Model) -> dict[str, Any]:
    try:
        import onnx
    except ModuleNotFoundError:
        return {}
    from frameworks.ort.files import GRAPH

    graph = onnx.load(model.path / GRAPH, load_external_data=False).graph
    return {
        "parameters": sum(math.prod(tensor.dims) for tensor in graph.initializer),
        "nodes": len(graph.node),
    }


def _sklearn(estimator: Any) -> dict[str, Any]:
    """Count the fitted weights of linear models and perceptrons; others have no such notion."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    values = [getattr(last, name) for name in _FITTED if hasattr(last, name)]
    arrays = [array for value in values for array in (value if isinstance(value, list) else [value])]
    return {"parameters": sum(int(getattr(array, "size", 1)) for array in arrays)} if arrays else {}


def _environment() -> dict[str, str]:
    """Return our environment with this very package importable."""
    here = str(Path(__file__).resolve().parents[2])
    paths = [here, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "the child ended without a word"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
