"""Conversion steps that go wrong in every way, and helpers that run in the isolated process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from frameworks.convert.work import Made, MissingTool, NotConvertible, Work


def echo(**arguments: Any) -> dict[str, Any]:
    return arguments


def crash(*_: Any, **__: Any) -> Made:
    os.write(1, b"about to touch address zero\n")
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hang(*_: Any, **__: Any) -> Made:
    time.sleep(3600)
    raise AssertionError


def hang_with_child(pid_file: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(f"{pid_file}.new").write_text(f"{os.getpid()} {child.pid}")
    Path(f"{pid_file}.new").rename(pid_file)
    time.sleep(3600)


def eat_memory(*_: Any, **__: Any) -> Made:
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20) * 16))


def exit_quietly(*_: Any, **__: Any) -> Made:
    os._exit(7)


def refuse(*_: Any, **__: Any) -> Made:
    raise NotConvertible("this model has no such form", field="model")


def lack(*_: Any, **__: Any) -> Made:
    raise MissingTool("the tool is not here; install it")


def raise_long(*_: Any, **__: Any) -> Made:
    raise ValueError("first line\n\nsecond line\n" + "x" * 10_000)


def half_write_and_crash(work: Work) -> Made:
    work.target.write_bytes(b"half")
    return crash()


def disturbed_onnx(work: Work) -> Made:
    """Convert as usual, then scale every weight by one per cent."""
    import onnx
    from onnx import numpy_helper

    from frameworks.convert.steps.torch import onnx_legacy

    made = onnx_legacy(work)
    model = onnx.load(work.target)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(weights * weights.dtype.type(1.01), tensor.name))
    onnx.save(model, work.target)
    return made


def row_mixing_script(work: Work) -> Made:
    """Convert to a module that subtracts the mean of the other rows."""
    import torch

    from frameworks import registry

    assert work.model is not None
    source = registry.adapter("pytorch").load_model(work.model)

    class Mixing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = source

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.inner(x)
            return y + (y.mean(0, keepdim=True) - y[:1]) if x.shape[0] > 1 else y

    torch.jit.script(Mixing()).save(str(work.target))
    return Made(methods=("__call__",))
