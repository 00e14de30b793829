"""Identity of a saved model: ``name:version``, where the version ``latest`` is a pointer.

Names and versions become folder names, so the rules are strict: lower-case letters, digits, ``-``, ``_``
and ``.``, with a letter or digit at both ends, at most 63 characters.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from store.errors import InvalidTag

LATEST: Final = "latest"
MAX_LENGTH: Final = 63

_ALLOWED: Final = re.compile(r"[a-z0-9]([-._a-z0-9]*[a-z0-9])?")
_ALPHABET: Final = "234567abcdefghijklmnopqrstuvwxyz"
"""Base 32 in ASCII order, so that text order is number order."""

_RANDOM_BITS: Final = 26
_VERSION_LENGTH: Final = 16


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A valid model name and version; immutable, ordered by name, then version.

    Raises:
        InvalidTag: a part breaks the naming rules.
    """

    name: str
    version: str = LATEST

    def __post_init__(self) -> None:
        _check("name", self.name)
        _check("version", self.version)

    @classmethod
    def parse(cls, value: str | Tag) -> Tag:
        """Read ``name``, ``name:version`` or ``name:latest``; a bare name means the latest version.

        Raises:
            InvalidTag: the text is not a tag.
        """
        if isinstance(value, Tag):
            return value
        name, colon, version = value.partition(":")
        return cls(name, version if colon else LATEST)

    @property
    def is_latest(self) -> bool:
        """Whether the version is the pointer and not a version of its own."""
        return self.version == LATEST

    @staticmethod
    def new_version() -> str:
        """Return a fresh version: 16 lower-case base-32 characters, later ones sort after earlier ones.

        Within a process the order is strict; between processes it follows their clocks.

        Concurrency: any thread.
        """
        return _versions.new()

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


class VersionSource:
    """Makes versions of 54 bits of microseconds and 26 random bits.

    Args:
        clock: nanoseconds since the epoch; a step backwards does not disturb the order.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0

    def new(self) -> str:
        """Return the next version."""
        with self._lock:
            self._last = max(self._clock() // 1000, self._last + 1)
            number = self._last << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        digits = (number >> shift & 31 for shift in range(5 * (_VERSION_LENGTH - 1), -1, -5))
        return "".join(_ALPHABET[digit] for digit in digits)


_versions: Final = VersionSource(time.time_ns)


def _check(field: str, value: str) -> None:
    if len(value) <= MAX_LENGTH and _ALLOWED.fullmatch(value):
        return
    if value != value.lower():
        raise InvalidTag(
            f"model {field} {value!r} has upper-case letters; use {value.lower()!r}", field=field
        )
    if len(value) > MAX_LENGTH:
        raise InvalidTag(f"model {field} has {len(value)} characters; at most {MAX_LENGTH} fit", field=field)
    raise InvalidTag(
        f"model {field} {value!r} is not allowed; use lower-case letters, digits, '-', '_' and '.', "
        "with a letter or digit at both ends",
        field=field,
    )
