"""What is around an executor: arrays into frames' payloads and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from frameworks import RowErrors
from runtime.batching.task import Result
from runtime.errors import RuntimeServingError
from runtime.runner.executor import Executor
from runtime.runner.merging import Group
from runtime.runner.splitting import Share
from runtime.tensors import strings
from runtime.tensors.layout import Array, Layout, TensorLayout
from store import Signature
from store.datatypes import from_numpy

Inputs = dict[str, Array]
Method = Callable[[Inputs], Inputs | RowErrors]
Outcome = Inputs | RuntimeServingError


def raw(array: Array) -> bytes:
    """An array in wire form."""
    return (
        strings.encode(array) if from_numpy(array.dtype) == "BYTES" else np.ascontiguousarray(array).tobytes()
    )


def array_of(tensor: TensorLayout, data: bytes, rows: int) -> Array:
    """The array that a task's part of a tensor holds."""
    shape = tensor.shape(rows)
    if tensor.variable:
        flat, used = strings.decode(data, int(np.prod(shape)))
        assert used == len(data)
        return flat.reshape(shape)
    return np.frombuffer(data, dtype=tensor.dtype).reshape(shape)


def head_of(task: Inputs, axes: tuple[int, int] | None, method: str = "f") -> bytes:
    """The frame head under which a task's inputs are sent."""
    tensors = []
    for name, array in task.items():
        dims = list(array.shape)
        if axes:
            dims[axes[0]] = -1
        tensors.append(TensorLayout.of(name, from_numpy(array.dtype), dims))
    return Layout(method, axes, tuple(tensors)).encode()


def group_of(tasks: Sequence[Inputs], axes: tuple[int, int] | None, skip: Collection[int] = ()) -> Group:
    """The tasks of one service's batch."""
    payload = bytearray()
    sizes: list[int] = []
    for name in tasks[0]:
        for task in tasks:
            part = raw(task[name])
            payload += part
            if task[name].dtype.kind in "OSU":
                sizes.append(len(part))
    rows = [next(iter(task.values())).shape[axes[0]] if axes else 1 for task in tasks]
    return Group(rows, sizes, payload, frozenset(skip))


def executor(
    method: Method, signature: Signature | None = None, *, allowed_batch_sizes: Sequence[int] = ()
) -> Executor:
    return Executor(
        {"f": method}, {"f": signature or Signature(batchable=True)}, allowed_batch_sizes=allowed_batch_sizes
    )


def run(
    method: Method,
    groups: Sequence[Sequence[Inputs]],
    axes: tuple[int, int] | None = (0, 0),
    signature: Signature | None = None,
) -> list[list[Inputs]]:
    """Execute groups of tasks as one batch; what each task of each group gets."""
    ran = executor(method, signature)
    framed = [group_of(tasks, axes) for tasks in groups]
    execution = ran.execute(head_of(groups[0][0], axes), framed)
    assert execution.rows == sum(sum(group.rows) for group in framed)
    return [outputs_of(share, group) for share, group in zip(execution.shares, framed, strict=True)]


def outcomes_of(share: Share, group: Group) -> list[Outcome]:
    """What each task of a group gets: its outputs, or why it has none."""
    rows = [count for index, count in enumerate(group.rows) if index not in share.refused]
    answered = iter(outputs_of(share, group._replace(rows=rows)))
    return [share.refused.get(index) or next(answered) for index in range(len(group.rows))]


def outputs_of(share: Share, group: Group) -> list[Inputs]:
    """A share's outputs, task by task, as a service takes it apart."""
    layout = Layout.decode(share.head)
    result = Result(
        layout,
        b"".join(share.parts),
        share.sizes,
        tasks=len(group.rows),
        rows=sum(group.rows),
    )
    taken = []
    for rows in group.rows:
        parts = result.take(rows)
        taken.append(
            {
                tensor.name: array_of(tensor, bytes(part), rows)
                for tensor, part in zip(layout.tensors, parts, strict=True)
            }
        )
    return taken


def assert_equal(got: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        assert got[name].tolist() == array.tolist()
