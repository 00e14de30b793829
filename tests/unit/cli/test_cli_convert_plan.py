"""Flags of ``runtime convert`` and its words on progress, without any conversion."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest

from frameworks.convert.formats import Status
from frameworks.convert.orders import Event
from runtime.cli import convert_plan
from runtime.cli.convert import convert
from runtime.cli.convert_output import Steps


def options(*arguments: str) -> dict[str, Any]:
    return convert.make_context("convert", ["m", *arguments]).params


def names(found: convert_plan.Targets) -> list[str]:
    return [str(variant) for variant in found.variants]


def test_without_to_everything_is_made_with_the_usual_precisions() -> None:
    found = convert_plan.targets("pytorch", options())
    assert names(found) == [
        "torchscript-script", "torchscript-trace", "torch-export", "torch-aoti", "torch-trt-fp32",
        "torch-trt-fp16", "onnx", "onnx-legacy", "trt-fp32", "trt-fp16",
    ]  # fmt: skip
    assert found.asked == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--to", "onnx"], ["onnx"]),
        (["--to", "ONNX_legacy,torchscript"], ["torchscript-script", "torchscript-trace", "onnx-legacy"]),
        (["--to", "torchscript", "--jit", "trace"], ["torchscript-trace"]),
        (["--to", "trt", "--precision", "int8,FP16"], ["trt-fp16", "trt-int8"]),
        (["--to", "trt-int8"], ["trt-int8"]),
        (["--to", "onnx", "--to", "torch-export"], ["torch-export", "onnx"]),
    ],
)
def test_a_word_of_to_is_a_variant_or_a_format(arguments: list[str], expected: list[str]) -> None:
    assert names(convert_plan.targets("pytorch", options(*arguments))) == expected


def test_a_format_means_those_variants_that_the_source_can_become() -> None:
    assert names(convert_plan.targets("torchscript", options("--to", "onnx"))) == ["onnx-legacy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onxx"], "did you mean 'onnx'?"),
        (["--precision", "fp8"], "fp8"),
        (["--jit", "guess"], "guess"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_what_there_is(arguments: list[str], message: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(message)):
        convert_plan.targets("pytorch", options(*arguments))


def test_measured_are_one_row_eight_and_the_most() -> None:
    assert convert_plan.measurement(64, options())["batch_sizes"] == [1, 8, 64]
    assert convert_plan.measurement(4, options())["batch_sizes"] == [1, 4]
    assert convert_plan.measurement(64, options("--batch-sizes", "32,2,32"))["batch_sizes"] == [2, 32]
    with pytest.raises(click.BadParameter, match="from 1 to 16"):
        convert_plan.measurement(16, options("--batch-sizes", "32"))


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 << 30), ("500MB", 500_000_000), ("1.5g", 1_500_000_000), ("77", 77)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert options("--memory-limit", text)["memory_limit"] == size


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def events() -> Iterator[Event]:
    yield Event(stage="verify", subject="onnx on CPU", done=2, total=9)
    yield Event(
        stage="verify", subject="onnx on CPU", status=Status.FAIL, message="off by far\nvery far",
        seconds=2.12, done=3, total=9,
    )  # fmt: skip


def test_a_step_is_one_line_at_its_end_where_nobody_watches() -> None:
    stream = io.StringIO()
    for event in events():
        Steps(stream)(event)
    assert stream.getvalue() == "[3/9] verify onnx on CPU … fail: off by far 2.1 s\n"


def test_on_a_terminal_a_step_is_written_over_when_it_ends() -> None:
    stream = Terminal()
    shown = Steps(stream)
    for event in events():
        shown(event)
    begun, ended = stream.getvalue().split("\r\x1b[2K")[1:]
    assert begun == "[3/9] verify onnx on CPU …"
    assert ended == "[3/9] verify onnx on CPU … fail: off by far 2.1 s\n"
