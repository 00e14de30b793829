"""Export of TensorFlow 2 models: ``runtime.convert.tensorflow.export``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from frameworks.arrays import Array, as_array
from frameworks.convert.isolate import Limits
from frameworks.convert.orders import Progress
from frameworks.objects import CALL
from runtime.convert import arguments
from runtime.convert import export as exporting
from runtime.convert.arguments import Formats, Precisions, Providers
from runtime.convert.descriptor import PackageDescriptor
from runtime.convert.profiler_config import ProfilerConfig
from runtime.convert.runner import threads
from runtime.convert.source import Source

if TYPE_CHECKING:
    from frameworks.tf.targets import Target

_MODULE: Final = "tensorflow"


def export(  # noqa: PLR0913, PLR0917 -- the arguments of the interface that it stands for
    model: Any,
    dataloader: object,
    target_precisions: Precisions = None,
    max_workspace_size: int | None = None,
    minimum_segment_size: int = 3,
    model_name: str | None = None,
    target_formats: Formats = None,
    workdir: str | Path | None = None,
    override_workdir: bool = False,
    sample_count: int | None = None,
    opset: int | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    disable_git_info: bool = False,
    batch_dim: int | None = 0,
    onnx_runtimes: Providers = None,
    run_profiling: bool = True,
    profiler_config: ProfilerConfig | None = None,
    *,
    limits: Limits | None = None,
    providers: Providers = None,
    progress: Progress | None = None,
) -> PackageDescriptor:
    """Export a Keras model, ``tf.Module`` or SavedModel to every format, verify and measure each.

    A format that cannot be made is a line in the report, not an error. Arguments other than ``model`` are
    those of ``runtime.convert.arguments.Given``. Items of the dataloader may lack the batch axis that a Keras
    model's inputs have: they are single rows then.

    Raises:
        InvalidArguments: arguments make no sense; all that is wrong is told.
        FrameworkError: see ``runtime.convert.export.export``.
    """
    asked = arguments.check(arguments.gather(locals()), _MODULE)
    target = _target(model)
    source = Source(
        module=_MODULE,
        model=model,
        convert=as_array,
        names=partial(_names, target),
        threads=threads(),
    )
    ranks = [len(spec.shape) for spec in target.specs or ()]
    rows = dataloader if asked.batch_dim is None or not ranks else _Rows(dataloader, ranks, asked.batch_dim)
    return exporting.export(source, rows, asked)


class _Rows:
    """A dataloader whose items get the batch axis that they lack; others pass as they are.

    Args:
        dataloader: the user's.
        ranks: of the model's inputs, by position; batch axis counted.
        axis: where the batch axis is.
    """

    def __init__(self, dataloader: Any, ranks: Sequence[int], axis: int) -> None:
        self._dataloader = dataloader
        self._ranks = ranks
        self._axis = axis

    def __len__(self) -> int:
        return len(self._dataloader)

    def __iter__(self) -> Iterator[object]:
        return map(self._row, self._dataloader)

    def _row(self, item: Any) -> object:
        if isinstance(item, Mapping):
            values = list(item.values())
        else:
            values = list(item) if isinstance(item, tuple | list) else [item]
        lacking = len(values) == len(self._ranks) and all(
            np.ndim(value) == rank - 1 for value, rank in zip(values, self._ranks, strict=True)
        )
        if not lacking:
            return item
        arrays: list[Array] = [np.expand_dims(as_array(value), self._axis) for value in values]
        return dict(zip(item, arrays, strict=True)) if isinstance(item, Mapping) else tuple(arrays)


def _target(model: Any) -> Target:
    """Return what is known of the call of a model, or of the SavedModel folder that it names.

    Raises:
        MissingFramework: TensorFlow is not installed.
        InvalidModel: it is no model of TensorFlow, or cannot be called.
    """
    from frameworks.tf.library import tf
    from frameworks.tf.targets import check_model, target_of

    loaded = tf.saved_model.load(str(model)) if isinstance(model, str | Path) else model
    check_model(loaded)
    return target_of(loaded, CALL)


def _names(target: Target, count: int) -> tuple[str, ...]:
    """Return the model's own names of its inputs, or ``input_0`` … when these are unknown."""
    known = target.parameters if target.specs is None else [spec.name for spec in target.specs]
    return tuple(known[:count]) if len(known) >= count else tuple(f"input_{i}" for i in range(count))
