"""Tasks and batch keys that remember what became of them."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.batching.task import BatchKey, Buffer, Result, Task

KEY = BatchKey(b"rows", batchable=True, variable=(False,))


def key(name: str = "k", *, batchable: bool = True, inputs: int = 1) -> BatchKey:
    return BatchKey(name.encode(), batchable=batchable, variable=(False,) * inputs)


class RecordingTask(Task):
    """Keeps every answer it was given: more than one is a broken promise."""

    __slots__ = ("label", "outcomes")

    def __init__(
        self, of: BatchKey = KEY, rows: int = 1, *, size: int = 4, deadline_ns: int = 0, label: object = None,
        parts: Sequence[Buffer] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(of, rows, [bytes(size)] if parts is None else parts, deadline_ns)
        self.label = label
        self.outcomes: list[list[bytes] | Exception] = []

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
