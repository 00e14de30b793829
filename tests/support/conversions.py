"""Conversion steps that need no framework: a source that doubles its rows, and what it becomes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto, helper

from frameworks.convert import graph
from frameworks.convert.formats import Variant
from frameworks.convert.work import Made, Work

PID_VARIABLE: Final = "TEST_PID_FILE"
"""Names the file in which a step that hangs writes its process id."""

EDGES: Final = {
    "onnx": "tests.support.conversions:doubles",
    "onnx-legacy": "tests.support.conversions:nearly_doubles",
    "torchscript-script": "tests.support.converters:refuse",
    "torchscript-trace": "tests.support.converters:crash",
    "trt-fp16": "tests.support.converters:lack",
    "trt-fp32": "tests.support.converters:lack",
}
"""Variant to its step: one is right, one is wrong, the others are not made at all."""


def double(x: Any) -> Any:
    """The source."""
    return {"y": x * 2}


class Two:
    """A source with a method that the steps do not know."""

    def __call__(self, x: Any) -> Any:
        return double(x)

    def again(self, x: Any) -> Any:
        return {"y": x}


def refuse(x: Any) -> Any:
    """A source that is broken."""
    raise ValueError("this model answers nothing")


def edges(steps: dict[str, str] = EDGES) -> dict[str, tuple[graph.Edge, ...]]:
    """A conversion graph for sources of the adapter ``python``."""
    return {
        "python": tuple(graph.Edge(Variant.parse(name), (None,), step) for name, step in steps.items()),
    }


def doubles(work: Work) -> Made:
    """Make a graph that does what the source does, for at most 16 rows."""
    _write(work.target, 2.0)
    return Made(methods=("__call__",), facts={"opset": 17, "max_batch_size": 16})


def nearly_doubles(work: Work) -> Made:
    """Make a graph whose answers are off by a hundredth."""
    _write(work.target, 2.02)
    return Made(methods=("__call__",))


def hangs(_: Work) -> Made:
    """Tell the process id and hang."""
    file = Path(os.environ[PID_VARIABLE])
    unfinished = file.with_suffix(".new")
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(file)
    time.sleep(3600)
    raise AssertionError


def _write(target: Path, factor: float) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    weight = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    made = helper.make_graph([node], "double", [x], [y], [weight])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), target)
