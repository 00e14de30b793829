"""Reading mappings that people write: every key known, or the nearest one named."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from store.errors import InvalidSignature


def read(value: object, known: Sequence[str], what: str) -> Mapping[str, object]:
    """Return the mapping if it has no unknown key.

    Args:
        value: what was written.
        known: the keys that may be there.
        what: it is, for messages (``a signature``).

    Raises:
        InvalidSignature: it is no mapping, or has an unknown key, for which the nearest known one is named.
    """
    if not isinstance(value, Mapping):
        raise InvalidSignature(f"{what} must be a mapping, not {value!r}")
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
            raise InvalidSignature(f"{what} has the unknown key {key!r}; {hint}", field=str(key))
    return value


def is_int(value: object) -> bool:
    """Whether a value is a whole number and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)
