"""Tasks and batch keys that remember what became of them."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.batching.task import BatchKey, Buffer, Result, Task
from runtime.tensors.layout import Layout, TensorLayout

KEY = BatchKey(b"rows", batchable=True, variable=(False,))


def key(name: str = "k", *, batchable: bool = True, inputs: int = 1) -> BatchKey:
    return BatchKey(name.encode(), batchable=batchable, variable=(False,) * inputs)


def real_key(method: str = "f", *, batchable: bool = True) -> BatchKey:
    """A key with a head that can be read: one byte per row."""
    axes, shape = ((0, 0), (-1,)) if batchable else (None, (1,))
    head = Layout(method, axes, (TensorLayout.of("x", "UINT8", shape),)).encode()
    return BatchKey(head, batchable=batchable, variable=(False,))


class RecordingTask(Task):
    """Keeps every answer it was given: more than one is a broken promise."""

    __slots__ = ("label", "outcomes")

    def __init__(
        self, of: BatchKey = KEY, rows: int = 1, *, size: int = 4, deadline_ns: int = 0, label: object = None,
        parts: Sequence[Buffer] | None = None, priority: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(of, rows, [bytes(size)] if parts is None else parts, deadline_ns, priority)
        self.label = label
        self.outcomes: list[list[bytes] | Exception] = []

    def __repr__(self) -> str:
        return f"<{self.label or hex(id(self))}: {self.rows} rows, {self.state.name}>"

    def succeed(self, result: Result) -> None:
        self.outcomes.append([bytes(part) for part in result.take(self.rows)])

    def fail(self, error: Exception) -> None:
        self.outcomes.append(error)

    @property
    def error(self) -> Exception:
        (outcome,) = self.outcomes
        assert isinstance(outcome, Exception)
        return outcome

    @property
    def outputs(self) -> list[bytes]:
        (outcome,) = self.outcomes
        assert isinstance(outcome, list), outcome
        return outcome


class WeaklyKnown(RecordingTask):
    """Can be referred to weakly, to see whether anybody keeps it."""
