"""How a worker's named arrays become a Python call, and its result named arrays again.

Inputs go by keyword when every name is a parameter of the callable, else by position in their order.
Results are named, in this order of cases:

1. a mapping names its own values;
2. a tuple, or a list whose items are arrays, has several values: named by the output specs, else by the
   tuple's own field names, else ``output_0``, ``output_1`` …;
3. a list, where the signature names several outputs, likewise;
4. anything else is one value: named by the only output spec, else ``output_0``.

With exactly one output spec a list is always one value, so that a list of one row means the same as a list
of five. The outputs of ``RowErrors`` are named like those of a plain result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from frameworks.arrays import Array, Arrays, as_array
from frameworks.errors import InvalidOutput
from frameworks.row_errors import Answer, RowErrors
from store import Signature

_ONLY: Final = "output_0"


class Opened(Protocol):
    """One method of a loaded model, as the worker calls it.

    Concurrency: one call at a time.
    """

    def __call__(self, inputs: Arrays, /) -> Answer:
        """Execute on named, ordered, C-contiguous, writable arrays; outputs may share their memory."""

    def input_names(self, count: int) -> tuple[str, ...]:
        """Return names for ``count`` positional inputs, for a sample that has none."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a callable can be given by keyword.

    Args:
        names: parameters that take a keyword, in order.
        required: those of them without a default.
        open_ended: any other keyword is taken too, and positions are not.
        keywords_suffice: no required parameter is positional-only.
    """

    names: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    open_ended: bool = False
    keywords_suffice: bool = True

    @classmethod
    def of(cls, function: Callable[..., object]) -> Parameters:
        """Read the parameters; a callable without a readable signature has none."""
        try:
            found = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return cls()
        kinds = {parameter.kind for parameter in found}
        named = [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return cls(
            names=tuple(p.name for p in named),
            required=frozenset(p.name for p in named if p.default is p.empty),
            open_ended=inspect.Parameter.VAR_KEYWORD in kinds
            and inspect.Parameter.VAR_POSITIONAL not in kinds,
            keywords_suffice=not any(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in found),
        )

    def take(self, names: Iterable[str]) -> bool:
        """Return whether inputs of these names are to be given by keyword."""
        if not self.keywords_suffice:
            return False
        given = frozenset(names)
        return given.issubset(self.names) or (self.open_ended and self.required <= given)


class Caller:
    """Calls a function of a framework's own values; an ``Opened``.

    Args:
        function: what to call.
        signature: contract of the method; its output specs name the results.
        parameters: of the function, or of what it stands for; read from the function when left out.
        into: array to the framework's value.
        out: the framework's value to an array.
    """

    def __init__(
        self,
        function: Callable[..., object],
        signature: Signature,
        *,
        parameters: Parameters | None = None,
        into: Callable[[Array], object] = lambda array: array,
        out: Callable[[object], Array] = as_array,
    ) -> None:
        self._function = function
        self._outputs = tuple(spec.name for spec in signature.outputs or ())
        self._parameters = Parameters.of(function) if parameters is None else parameters
        self._into = into
        self._out = out
        # What the last call has shown: calls of one method are alike, and finding it out takes long.
        self._given: tuple[str, ...] | None = None
        self._by_keyword = False
        self._single: type | None = None

    def __call__(self, inputs: Arrays, /) -> Answer:
        """Execute the method.

        Raises:
            InvalidOutput: the result cannot be named or is no tensor. What the function raises passes.
        """
        names, into = tuple(inputs), self._into
        if names != self._given:
            self._given, self._by_keyword = names, self._parameters.take(names)
        if self._by_keyword:
            result = self._function(**{name: into(array) for name, array in inputs.items()})
        else:
            result = self._function(*[into(array) for array in inputs.values()])
        if isinstance(result, RowErrors):
            return RowErrors({} if result.outputs is None else self._named(result.outputs), result.errors)
        return self._named(result)

    def input_names(self, count: int) -> tuple[str, ...]:
        """Return the first parameters' names, or ``input_0`` … when there are too few."""
        names = self._parameters.names
        return names[:count] if len(names) >= count else tuple(f"input_{index}" for index in range(count))

    def _named(self, result: object) -> Arrays:
        if type(result) is self._single:
            name = self._outputs[0] if self._outputs else _ONLY
            return {name: self._convert(name, result)}
        values = name_results(result, self._outputs)
        if not isinstance(result, Mapping | tuple | list):
            self._single = type(result)
        return {name: self._convert(name, value) for name, value in values.items()}

    def _convert(self, name: str, value: object) -> Array:
        try:
            return self._out(value)
        except InvalidOutput as error:
            raise InvalidOutput(f"output {name!r}: {error.message}", field=name) from error


def name_results(result: object, names: Sequence[str]) -> dict[str, Any]:
    """Return a call's values by name; the module's text has the cases.

    Args:
        result: what the function returned.
        names: the output specs' names; empty when there are none.

    Raises:
        InvalidOutput: the number of values differs from the number of names.
    """
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items()}
    several = isinstance(result, tuple) or (
        isinstance(result, list) and len(names) != 1 and (bool(names) or _holds_arrays(result))
    )
    values: Sequence[Any] = result if several else [result]  # type: ignore[assignment]
    if names and len(names) != len(values):
        raise InvalidOutput(
            f"the model returned {len(values)} outputs; its signature names {', '.join(names)}"
        )
    own = getattr(result, "_fields", None) if several else None
    return dict(zip(names or own or [f"output_{index}" for index in range(len(values))], values, strict=True))


def _holds_arrays(items: Sequence[object]) -> bool:
    return bool(items) and all(
        hasattr(item, "shape") and hasattr(item, "dtype") and not isinstance(item, np.generic)
        for item in items
    )
