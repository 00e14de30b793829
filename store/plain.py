"""Values that survive YAML: copy them, or name the key that does not.

Used for everything free-form in a manifest. The copy shares nothing with the source, so that later changes
by the caller do not reach the record and the YAML has no aliases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from store.errors import InvalidManifest

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 100_000
"""Bound on values in one record: a hostile file can name one list a billion times in a few lines."""


def to_plain(value: object, field: str, *, extra_depth: int = 0) -> Plain:
    """Return a deep copy made of plain types only; tuples become lists.

    Args:
        value: what the user gave.
        field: where it stands, for messages (``metadata``).
        extra_depth: levels allowed above ``MAX_DEPTH``, for a record made of several such values; the bound
            on values is then that of ten.

    Raises:
        InvalidManifest: some value is of another type, too deep, or there are too many; the key is named.
    """
    return _Copier(extra_depth).copy(value, field, 0)


def to_plain_dict(value: object, field: str) -> dict[str, Plain]:
    """Return a plain copy of a mapping; None counts as empty.

    Raises:
        InvalidManifest: it is no mapping, or ``to_plain`` refuses a value.
    """
    plain = to_plain({} if value is None else value, field)
    if not isinstance(plain, dict):
        raise InvalidManifest(f"{field} must be a mapping, not {type(value).__name__}", field=field)
    return plain


def to_text_dict(value: object, field: str) -> dict[str, str]:
    """Return a copy of a mapping from text to text; None counts as empty.

    Raises:
        InvalidManifest: a key or value is no text.
    """
    texts: dict[str, str] = {}
    for key, item in to_plain_dict(value, field).items():
        if not isinstance(item, str):
            raise InvalidManifest(
                f"{field}.{key} must be text, not {type(item).__name__}", field=f"{field}.{key}"
            )
        texts[key] = item
    return texts


class _Copier:
    """One copy run; counts values against the bound."""

    def __init__(self, extra_depth: int) -> None:
        self._max_depth = MAX_DEPTH + extra_depth
        self._left = MAX_VALUES * 10 if extra_depth else MAX_VALUES

    def copy(self, value: object, field: str, depth: int) -> Plain:
        self._left -= 1
        if self._left < 0 or depth > self._max_depth:
            raise InvalidManifest(
                f"{field}: more than {MAX_VALUES} values or {MAX_DEPTH} levels; keep large data in a file",
                field=field,
            )
        if value is None or isinstance(value, bool):
            return value
        # Subclasses (enumerations, numpy's float64) become their base type: YAML knows exact types only.
        if isinstance(value, str):
            return self._text(value, field)
        for kind in (int, float):
            if isinstance(value, kind):
                return kind(value)
        if isinstance(value, list | tuple):
            return [self.copy(item, f"{field}[{index}]", depth + 1) for index, item in enumerate(value)]
        if isinstance(value, Mapping):
            return {
                self._key(key, field): self.copy(item, f"{field}.{key}", depth + 1)
                for key, item in value.items()
            }
        raise InvalidManifest(
            f"{field} is a {type(value).__name__}; only None, bool, int, float, str, lists and dicts of them "
            "can be stored (convert it, or use custom_objects)",
            field=field,
        )

    @staticmethod
    def _key(key: object, field: str) -> str:
        if not isinstance(key, str):
            raise InvalidManifest(f"{field} has the key {key!r}; keys must be text", field=field)
        return _Copier._text(key, field)

    @staticmethod
    def _text(text: str, field: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidManifest(f"{field}: text without a UTF-8 form: {error}", field=field) from None
        return str.__str__(text)
