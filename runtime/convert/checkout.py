"""The caller's checkout, for the record: which code has made these results."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from store.plain import Plain

_SECONDS: Final = 10
"""That git may take; a huge or remote checkout is not worth more."""


def describe(folder: Path) -> dict[str, Plain]:
    """Return commit, branch and whether files differ; empty where git or a checkout is missing."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    return {
        "commit": commit,
        "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": _git(folder, "status", "--porcelain", "--untracked-files=no") != "",
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
