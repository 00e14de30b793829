"""Options as data: what a configuration class tells about each of its fields.

A section of the configuration is a frozen dataclass whose fields all have defaults and whose constructor
raises ``ConfigError`` for a value out of bounds, with the field's name. Bounds of our own sections stand in
the annotations (``Annotated[int, Between(0, 9)]``, ``Literal["a", "b"]``) and are checked by ``check``.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Final, Literal, Protocol, get_args, get_origin, get_type_hints

from runtime.errors import ConfigError

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_NOUNS: Final[Mapping[type, str]] = types.MappingProxyType(
    {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
)


class Bound(Protocol):
    """What a value must satisfy beyond its type."""

    def admits(self, value: Any) -> bool:
        """Return whether the value is allowed."""

    def describe(self, noun: str) -> str:
        """Say what is allowed; ``noun`` is the type in words."""


@dataclass(frozen=True, slots=True)
class Between:
    """A number from ``low`` to ``high``, both allowed."""

    low: int
    high: int

    def admits(self, value: Any) -> bool:
        """Return whether the number is allowed."""
        return bool(self.low <= value <= self.high)

    def describe(self, noun: str) -> str:
        """Say what is allowed."""
        return f"{noun} from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Matching:
    """Text that a regular expression matches as a whole; ``meaning`` says what that is."""

    pattern: str
    meaning: str

    def admits(self, value: Any) -> bool:
        """Return whether the text is allowed."""
        return re.fullmatch(self.pattern, value) is not None

    def describe(self, noun: str) -> str:
        """Say what is allowed."""
        return self.meaning


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few words; what ``Literal`` stands for."""

    words: tuple[str, ...]

    def admits(self, value: Any) -> bool:
        """Return whether the word is allowed."""
        return value in self.words

    def describe(self, noun: str) -> str:
        """Say what is allowed."""
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One field of a section.

    Attributes:
        name: of the field.
        kind: bool, int, float or str.
        default: used when no source names the option.
        bound: what else a value must satisfy; None where the class checks by itself.
    """

    name: str
    kind: type
    default: Any
    bound: Bound | None = None

    def problem(self, value: object) -> str | None:
        """Say what is wrong with a value; None when it may be used."""
        if self._is_of_kind(value) and (self.bound is None or self.bound.admits(value)):
            return None
        allowed = _NOUNS[self.kind] if self.bound is None else self.bound.describe(_NOUNS[self.kind])
        return f"{self.name} must be {allowed}, not {value!r}"

    def parse(self, text: str) -> object:
        """Read a value from text, as from the environment; text that cannot be read is returned as it is."""
        try:
            return _PARSERS[self.kind](text)
        except ValueError:
            return text

    def _is_of_kind(self, value: object) -> bool:
        if self.kind is float:
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return type(value) is self.kind


@functools.cache
def options(section: type) -> Mapping[str, Option]:
    """Return the options of a section by name, in the order of its fields."""
    hints = get_type_hints(section, include_extras=True)
    return types.MappingProxyType(
        {field.name: _option(field.name, field.default, hints[field.name]) for field in fields(section)}
    )


def check(section: Any) -> None:
    """Check every field of a section against its annotation; for ``__post_init__``.

    Raises:
        ConfigError: one or more values are wrong; the message names each, ``field`` the first.
    """
    kind: type = type(section)
    found = {
        option.name: problem
        for option in options(kind).values()
        if (problem := option.problem(getattr(section, option.name)))
    }
    if found:
        raise ConfigError("; ".join(found.values()), field=next(iter(found)))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a name that nobody knows: the most similar known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"


def _option(name: str, default: object, hint: Any) -> Option:
    if default is MISSING:
        raise TypeError(f"option {name} has no default")
    bound: Bound | None = None
    if get_origin(hint) is Annotated:
        hint, bound = get_args(hint)
    if get_origin(hint) is Literal:
        hint, bound = str, OneOf(get_args(hint))
    if hint not in _NOUNS:
        raise TypeError(f"option {name} is a {hint}, which no source can express")
    return Option(name=name, kind=hint, default=default, bound=bound)


def _parse_bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(word)
    return word in _TRUE


_PARSERS: Final[Mapping[type, Callable[[str], object]]] = types.MappingProxyType(
    {bool: _parse_bool, int: int, float: float, str: str}
)
