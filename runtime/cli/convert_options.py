"""The flags of ``runtime convert``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from runtime.cli.common import PATH, store_option

_EXISTING: Final = click.Path(path_type=Path, exists=True)
_POSITIVE: Final = click.FloatRange(min=0, min_open=True)
_NOT_NEGATIVE: Final = click.FloatRange(min=0)
_COUNT: Final = click.IntRange(min=1)
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _bytes(_: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return the bytes of a size such as ``4GiB`` or ``500MB``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(|k|m|g|ki|mi|gi)b?", value.strip().lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise click.BadParameter(f"{value!r} is no size; for example 4GiB or 500MB", param=parameter)
    return size


def _device(_: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", value):
        raise click.BadParameter(f"{value!r} is neither cpu nor cuda nor cuda:N", param=parameter)
    return value


_WHAT_OPTIONS: Final = (
    click.option("--to", metavar="FORMAT,...", multiple=True,
                 help="Variants (onnx, onnx-legacy, trt-fp16 ...), or formats with all of theirs "
                      "(torchscript, trt ...).  [all that the model can become]"),
    click.option("--method", metavar="NAME", multiple=True,
                 help="Method to convert; may be repeated.  [all with known tensors]"),
    click.option("--max-batch", type=_COUNT, metavar="N",
                 help="Most rows that a variant must take.  [the model's max_batch_size, else the server's]"),
    click.option("--precision", metavar="fp32,fp16,tf32,int8", multiple=True,
                 help="Of TensorRT variants, where --to names only the format.  [fp32,fp16]"),
    click.option("--jit", metavar="script,trace", multiple=True, help="Of TorchScript variants.  [both]"),
    click.option("--opset", type=_COUNT, metavar="N", help="Of ONNX.  [the exporter's]"),
)  # fmt: skip

_CHECK_OPTIONS: Final = (
    click.option("--verify/--no-verify", default=True, show_default=True,
                 help="Compare answers with the model's own."),
    click.option("--samples", type=_EXISTING, metavar="FILE|DIR", multiple=True,
                 help=".npz (arrays by name) or .npy to compare answers on; may be repeated.  "
                      "[the sample saved with the model]"),
    click.option("--atol", type=_NOT_NEGATIVE, metavar="X", help="Absolute tolerance.  [by precision]"),
    click.option("--rtol", type=_NOT_NEGATIVE, metavar="Y", help="Relative tolerance.  [by precision]"),
    click.option("--profile/--no-profile", default=True, show_default=True, help="Measure the speed."),
    click.option("--batch-sizes", metavar="N,...", multiple=True,
                 help="Rows of a call to measure with.  [1, 8 and --max-batch]"),
    click.option("--window-ms", type=_POSITIVE, default=500.0, show_default=True, metavar="MS",
                 help="Length of a window; the last three of at most ten must agree within 10 %. Short, so "
                      "that six variants take about a minute; 5000 is more certain."),
    click.option("--slo-ms", type=_POSITIVE, metavar="X",
                 help="Choose the best among those whose 99th percentile keeps this."),
)  # fmt: skip

_WHERE_OPTIONS: Final = (
    click.option("--providers", metavar="cpu,cuda,trt", multiple=True,
                 help="What executes ONNX.  [all that this machine has]"),
    click.option("--device", metavar="cpu|cuda:N", default="cpu", show_default=True, callback=_device,
                 help="Where the model itself runs."),
    click.option("--timeout", type=_POSITIVE, default=900.0, show_default=True, metavar="SECONDS",
                 help="Of one step."),
    click.option("--memory-limit", callback=_bytes, metavar="4GiB",
                 help="Of one step.  [80 % of the machine's memory]"),
)  # fmt: skip

_RESULT_OPTIONS: Final = (
    click.option("--workdir", type=PATH, metavar="DIR",
                 help="Keep the work in DIR/NAME.nav.workspace; a second run does only what is missing."),
    click.option("--overwrite", is_flag=True, help="Replace converted models, and the package, that exist."),
    click.option("--no-store", is_flag=True, help="Do not save converted models into the store."),
    click.option("--package", type=PATH, metavar="FILE.nav", help="Pack everything into a file."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    store_option,
)  # fmt: skip


def with_options(command: _Command) -> _Command:
    """Add the flags to the command; help shows them in this order."""
    groups = (_WHAT_OPTIONS, _CHECK_OPTIONS, _WHERE_OPTIONS, _RESULT_OPTIONS)
    for option in reversed([option for group in groups for option in group]):
        command = option(command)
    return command
