"""What a server knows of a model's speed before its first call: the curve of the newest stored profile.

A hint, which the first batches correct. A profile that is damaged, or none at all, is no reason not to serve.
"""

from __future__ import annotations

import logging
import math

from store import Model, StoreError
from store.profiles import ProfileStore

log = logging.getLogger(__name__)


def stored_curve(model: Model) -> dict[str, float]:
    """Return rows of a batch (as text, as JSON has them) to milliseconds of one execution; empty if unknown.

    Looks for the newest result of this version that has a curve: not each measurement makes one.
    """
    tag = model.tag
    profiles = ProfileStore.beside(model.path.parent.parent)
    for path in profiles.list(tag):
        try:
            found = profiles.load(path).get("curve")
            if found:
                curve = _checked(found)
                log.info("profile_used", extra={"tag": str(tag), "profile": path.name})
                return curve
        except (StoreError, ValueError) as error:
            log.warning(
                "profile_passed_over", extra={"tag": str(tag), "profile": path.name, "cause": str(error)}
            )
    return {}


def _checked(found: object) -> dict[str, float]:
    """A curve of positive rows and times.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(found, dict):
        raise ValueError(f"the curve is no table, but {found!r}")  # noqa: TRY004  # what a file has
    for rows, ms in found.items():
        if not rows.isdecimal() or int(rows) < 1 or not _is_duration(ms):
            raise ValueError(f"the curve has {ms!r} for {rows!r} rows")
    return found


def _is_duration(ms: object) -> bool:
    return isinstance(ms, int | float) and not isinstance(ms, bool) and 0 < ms < math.inf
