"""What a method returns when it cannot answer some of its rows: one bad row does not fail its neighbours."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

from frameworks.arrays import Arrays
from frameworks.errors import InvalidOutput


class RowErrors:
    """A method's outputs together with what to tell the callers of the rows that have none.

    A request fails when one of its rows does, with the words for the first; all others are answered::

        return RowErrors(scores, {3: "not a sentence", 7: error})

    Args:
        outputs: what the method would return otherwise, with anything at all in the place of a failed row;
            None if every row failed.
        errors: text for the caller, or an exception that has one, by row of the batch, counted from 0.
    """

    __slots__ = ("errors", "outputs")

    def __init__(self, outputs: Any, errors: Mapping[int, str | BaseException]) -> None:
        self.outputs = outputs
        # texts only: an exception would keep alive what its frames refer to
        self.errors = {
            operator.index(row): str(error) or type(error).__name__ for row, error in errors.items()
        }

    def __repr__(self) -> str:
        return f"RowErrors(outputs={self.outputs!r}, errors={self.errors!r})"


Answer: TypeAlias = Arrays | RowErrors
"""What a method of a loaded model returns: named arrays, which ``RowErrors`` has as its outputs."""


def complete(answer: Answer) -> Arrays:
    """Return the outputs of a method that must answer every row.

    Raises:
        InvalidOutput: it has not.
    """
    if not isinstance(answer, RowErrors):
        return answer
    for row, message in answer.errors.items():
        raise InvalidOutput(f"row {row} failed: {message}")
    outputs: Arrays = answer.outputs
    return outputs
