"""What a conversion has measured, kept as profiles of the models: a server's first guess at their times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from frameworks.convert.plainform import to_plain
from frameworks.convert.records import Performance
from runtime.profiling.environment import fingerprint
from runtime.profiling.store import Result
from store import StoreError, Tag
from store.profiles import ProfileStore

FACTS: Final = "conversion"
"""Where the figures stand among the facts of a profile."""


def curve(performance: Sequence[Performance]) -> dict[str, float]:
    """Return rows of a batch, as text, to milliseconds of one execution: what a server begins with."""
    return {str(one.batch_size): one.median_ms for one in performance if one.median_ms > 0}


class Profiles:
    """Keeps what was measured with the models; the same figures only once.

    Args:
        profiles: where to.
        source: what was converted, for the record.
    """

    def __init__(self, profiles: ProfileStore, source: Tag) -> None:
        self._profiles = profiles
        self._command = ["runtime", "convert", str(source)]
        self._environment = fingerprint()

    def keep(self, tag: Tag, performance: Sequence[Performance], facts: Mapping[str, Any]) -> None:
        """Write a profile, unless there is nothing new in it.

        Args:
            tag: of the model.
            performance: its figures.
            facts: what else is known of them.
        """
        found = curve(performance)
        if not found or found in self._curves(tag):
            return
        result = Result(
            command=self._command,
            environment=self._environment,
            model=str(tag),
            facts={FACTS: {**facts, "performance": to_plain(list(performance))}},
            curve=found,
        )
        self._profiles.save(tag, result.to_dict())

    def _curves(self, tag: Tag) -> Iterator[object]:
        """Yield the curves that are kept with a model; what cannot be read is passed over."""
        for path in self._profiles.list(tag):
            with suppress(StoreError):
                yield self._profiles.load(path).get("curve")
