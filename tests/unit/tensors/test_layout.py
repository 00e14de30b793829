"""Layouts and the table that keeps them."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.tensors import heads as heads_module
from runtime.tensors.layout import Layout, LayoutTable, TensorLayout
from store.datatypes import NAMES


def layout(*tensors: TensorLayout, axes: tuple[int, int] | None = (0, 0)) -> Layout:
    return Layout("predict", axes, tensors)


def test_bytes_of_a_row_leave_the_batch_axis_out() -> None:
    tensor = TensorLayout.of("x", "FP32", (3, -1, 2))
    assert (tensor.row_bytes, tensor.row_elements(), tensor.shape(5)) == (24, 6, (3, 5, 2))
    assert not tensor.variable
    assert tensor.dtype == np.float32


def test_without_a_batch_axis_a_row_is_the_whole_tensor() -> None:
    tensor = TensorLayout.of("x", "INT16", (3, 2))
    assert (tensor.row_bytes, tensor.row_elements(), tensor.shape(1)) == (12, 6, (3, 2))
    scalar = TensorLayout.of("x", "BOOL", ())
    assert (scalar.row_bytes, scalar.row_elements(), scalar.shape(1)) == (1, 1, ())


def test_bytes_tensors_have_no_size_of_a_row() -> None:
    tensor = TensorLayout.of("x", "BYTES", (-1, 4))
    assert tensor.variable
    assert (tensor.row_bytes, tensor.row_elements()) == (0, 4)
    assert tensor.dtype == object


@pytest.mark.parametrize("axes", [None, (0, 0), (1, 0)])
def test_a_head_decodes_to_what_was_encoded(axes: tuple[int, int] | None) -> None:
    tensors = [TensorLayout.of(f"t{i} ä\x00", name, (i, -1, 2)) for i, name in enumerate(NAMES)]
    sent = layout(*tensors, axes=axes)
    got = Layout.decode(sent.encode())
    assert (got.method, got.axes, got.tensors) == (sent.method, sent.axes, sent.tensors)
    assert got.encode() == sent.encode()


def test_equal_heads_give_the_identical_layout() -> None:
    table = LayoutTable()
    head = layout(TensorLayout.of("x", "FP32", (-1,))).encode()
    assert table[head] is table[bytes(bytearray(head))]


def test_the_table_starts_over_rather_than_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "HEADS_KEPT", 2)
    table = LayoutTable()
    heads = [layout(TensorLayout.of("x", "FP32", (-1, n))).encode() for n in range(3)]
    first = table[heads[0]]
    assert table[heads[1]] is table[heads[1]]
    assert table[heads[0]] is first
    table[heads[2]]
    assert table[heads[0]] is not first


def test_a_very_long_head_is_not_kept() -> None:
    table = LayoutTable()
    head = layout(TensorLayout.of("x" * heads_module.HEAD_BYTES_KEPT, "FP32", (-1,))).encode()
    assert table[head] is not table[head]
    assert table[head].encode() == head
