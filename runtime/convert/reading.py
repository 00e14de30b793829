"""Reading single values that users give: strings for enumerations, one value for several, tables of axes."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

from frameworks.errors import FrameworkError
from store.fields import is_int

_Enum = TypeVar("_Enum", bound=Enum)


class InvalidArguments(FrameworkError):
    """A call's arguments make no sense; all that is wrong is told (FAILED_PRECONDITION)."""

    reason = "invalid_arguments"


def enum(kind: type[_Enum], value: object) -> _Enum:
    """Return the member that a value or its name stands for, in any case.

    Raises:
        InvalidArguments: there is none; the nearest is proposed.
    """
    try:
        return kind(value)
    except ValueError:
        known = [str(member.value) for member in kind] + [member.name.lower() for member in kind]
        near = difflib.get_close_matches(str(value).lower(), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[: len(kind)])}"
        raise InvalidArguments(
            f"there is no {kind.__name__} {value!r}; {hint}", field=kind.__name__
        ) from None


def enums(kind: type[_Enum], given: object) -> tuple[_Enum, ...] | None:
    """Return the members of one value or of several; None for None.

    Raises:
        InvalidArguments: one is unknown; the nearest is proposed.
    """
    values = several(given)
    return None if values is None else tuple(dict.fromkeys(enum(kind, value) for value in values))


def several(given: Any) -> tuple[Any, ...] | None:
    """Return one value, or several, as several; None for None."""
    if given is None:
        return None
    return (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)


def tolerance(name: str, value: object) -> float | None:
    """Return a number, or None.

    Raises:
        InvalidArguments: it is something else.
    """
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise InvalidArguments(f"{name} must be a number from 0 up, not {value!r}")


def whole(value: object, least: int) -> int | None:
    """Return a whole number from ``least`` up, or None.

    Raises:
        InvalidArguments: it is something else.
    """
    if value is None or (is_int(value) and isinstance(value, int) and value >= least):
        return value
    raise InvalidArguments(f"it must be a whole number from {least} up, not {value!r}")


def names(value: object) -> tuple[str, ...] | None:
    """Return several different names, or None.

    Raises:
        InvalidArguments: it is something else, or a name is there twice.
    """
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Collection):
        raise InvalidArguments(f"it must be a tuple of names, such as ('input',), not {value!r}")
    found = tuple(value)
    if not all(isinstance(name, str) and name for name in found) or len(set(found)) != len(found):
        raise InvalidArguments(f"names must be texts that differ, not {found!r}")
    return found


def axes(value: object) -> dict[str, frozenset[int]]:
    """Read ``{"input": {0: "batch"}}`` or ``{"input": [0]}``; the names of axes are not kept.

    Raises:
        InvalidArguments: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArguments(f"it must be a mapping from tensor name to axes, not {value!r}")
    found = {}
    for name, axes in value.items():
        if isinstance(axes, str) or not isinstance(axes, Collection):
            raise InvalidArguments(f"the axes of {name!r} must be a mapping or a list, not {axes!r}")
        if not all(is_int(axis) and axis >= 0 for axis in axes):
            raise InvalidArguments(
                f"the axes of {name!r} must be whole numbers from 0 up, not {list(axes)!r}"
            )
        found[str(name)] = frozenset(axes)
    return found


def trt_axes(value: object) -> dict[str, dict[int, tuple[int, int, int]]]:
    """Read ``{"input": {0: (least, usual, most)}}``.

    Raises:
        InvalidArguments: it is something else, or extents do not ascend.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(one, Mapping) for one in value.values()):
        raise InvalidArguments(f"trt_dynamic_axes must map tensor name to axis to extents, not {value!r}")
    found: dict[str, dict[int, tuple[int, int, int]]] = {}
    for name, given in value.items():
        for axis, extents in given.items():
            good = isinstance(extents, tuple | list) and len(extents) == 3 and all(map(is_int, extents))
            if not (is_int(axis) and good and 0 < extents[0] <= extents[1] <= extents[2]):
                raise InvalidArguments(
                    f"trt_dynamic_axes of {name!r}: axis {axis!r} needs (least, usual, most) extents "
                    f"in ascending order from 1 up, not {extents!r}"
                )
            found.setdefault(str(name), {})[axis] = tuple(extents)
    return found
