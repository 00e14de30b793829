"""Records to plain values and back, by their type annotations; reading checks every field.

Serves the records of a conversion, which travel between processes and lie in ``status.yaml``. What is read
may come from elsewhere: an unknown key is passed over, a wrong value is an error that names its path.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from frameworks.convert.formats import Variant
from frameworks.errors import FrameworkError
from store import Signature, StoreError
from store.plain import Plain

_Record = TypeVar("_Record")

_MISSING: Final = object()


class InvalidRecord(FrameworkError):
    """A record that was read is not what it should be (FAILED_PRECONDITION)."""

    reason = "invalid_record"


def to_plain(value: Any) -> Plain:
    """Return the plain form of a record, or of what stands in one."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Variant | Signature):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Signature):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return _key(value) if isinstance(value, Enum | Variant) else value


def from_plain(kind: type[_Record], value: object, path: str = "") -> _Record:
    """Return the record that ``to_plain`` described.

    Args:
        kind: class of the record.
        value: what was read.
        path: where it stands, for messages.

    Raises:
        InvalidRecord: a field is missing or wrong; ``field`` is its path.
    """
    return _read(kind, value, path)  # type: ignore[no-any-return]


def _key(value: Any) -> str:
    return str(value.value) if isinstance(value, Enum) else str(value)


def _read(kind: Any, value: Any, path: str) -> Any:  # noqa: PLR0911 -- one line per kind of value
    """Read one value of an annotated kind.

    The cases, in this order: anything plain, or a choice with None; several of one kind; a table; a variant,
    an enumeration, a signature; a record; a number, which may be whole; everything else as it is.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None or len(arguments) > 2:
            return value  # ``Plain`` is a union of many
        return _read(next(one for one in arguments if one is not type(None)), value, path)
    if origin in (list, tuple):
        items = _typed(list, value, path)
        return origin(_read(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(items))
    if origin in (dict, Mapping):
        return _table(arguments, value, path)
    if kind is Signature:
        return _ours(Signature.parse, value, path)
    if kind is Variant:
        return _ours(Variant.parse, _typed(str, value, path), path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind, value, path)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _typed(kind, value, path)


def _table(arguments: tuple[Any, Any], value: Any, path: str) -> dict[Any, Any]:
    table = _typed(dict, value, path)
    if arguments[0] is int:  # a key is text in JSON
        table = {int(key) if str(key).isdecimal() else key: item for key, item in table.items()}
    return {
        _read(arguments[0], key, f"{path}.{key}"): _read(arguments[1], item, f"{path}.{key}")
        for key, item in table.items()
    }


def _record(kind: Any, value: Any, path: str) -> Any:
    given = _typed(dict, value, path)
    hints, found = _hints(kind), {}
    for field in dataclasses.fields(kind):
        where = f"{path}.{field.name}" if path else field.name
        item = given.get(field.name, _MISSING)
        if item is not _MISSING:
            found[field.name] = _read(hints[field.name], item, where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InvalidRecord(f"field {where!r} is missing", field=where)
    return kind(**found)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _enum(kind: type[Enum], value: Any, path: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise InvalidRecord(
            f"{path} is {value!r}; it must be one of {', '.join(_key(member) for member in kind)}", field=path
        ) from None


def _ours(read: Any, value: Any, path: str) -> Any:
    try:
        return read(value)
    except (FrameworkError, StoreError) as error:
        raise InvalidRecord(f"{path}: {error.message}", field=path) from None


def _typed(kind: type, value: Any, path: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidRecord(
            f"{path or 'the record'} must be a {kind.__name__}, not {type(value).__name__}", field=path
        )
    return value
