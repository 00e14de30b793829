"""Check metadata before it is handed to the C library, whose own refusal comes too late or aborts.

Source: the ASCII header rules of gRPC over HTTP/2 (PROTOCOL-HTTP2, Custom-Metadata).
"""

from __future__ import annotations

import re

from runtime.transport.interface import Metadata

_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")


def checked(metadata: Metadata) -> tuple[tuple[str, str | bytes], ...]:
    """Return the metadata as a tuple, ready to be sent.

    Raises:
        TypeError: a key or value is of the wrong type; binary values need keys that end in ``-bin``.
        ValueError: a key or value holds characters that a header cannot carry.
    """
    pairs = tuple(metadata)
    for key, value in pairs:
        if not isinstance(key, str):
            raise TypeError(f"metadata key {key!r} is no str")
        if not _KEY.fullmatch(key):
            raise ValueError(f"metadata key {key!r} has other characters than 0-9 a-z _ . -")
        if key.endswith("-bin"):
            if not isinstance(value, bytes):
                raise TypeError(f"the value of {key} must be bytes")
        elif not isinstance(value, str):
            raise TypeError(f"the value of {key} must be str")
        elif not _VALUE.fullmatch(value):
            raise ValueError(f"the value of {key} is not printable ASCII")
    return pairs
