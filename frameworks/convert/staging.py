"""Making a workspace whole or not at all: it is written aside and moved into its place by one rename.

So a failed export or a bad package leaves what was there before, and nothing half made in its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frameworks.convert.workspace import SUFFIX
from frameworks.errors import FrameworkError
from store import publish


class PathTaken(FrameworkError):
    """What is to be written exists already (FAILED_PRECONDITION)."""

    reason = "path_taken"


def workspace_path(workdir: Path, model_name: str) -> Path:
    """Return where the workspace of a model lies."""
    return workdir.expanduser().absolute() / f"{model_name}{SUFFIX}"


def check_free(target: Path, *, override: bool) -> None:
    """Make sure that a workspace may be made.

    Raises:
        PathTaken: something is there and is not to be replaced.
    """
    if override or not (target.exists() or target.is_symlink()):
        return
    raise PathTaken(
        f"the workspace {target} exists; give override_workdir=True to replace it, "
        "or another workdir or model_name",
        field="override_workdir",
    )


@contextmanager
def staged(target: Path, *, override: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` when the block ends well, and vanishes otherwise.

    Args:
        target: the workspace to make; its parents are made.
        override: replace what is there; that stays until the block has ended well.

    Raises:
        PathTaken: something is there and is not to be replaced; looked up first, and again at the end.
    """
    check_free(target, override=override)
    publish.sweep(target.parent)
    with publish.workplace(target.parent) as folder, publish.workplace(target.parent) as old:
        folder.mkdir()
        yield folder
        check_free(target, override=override)
        with suppress(FileNotFoundError):
            target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            with suppress(OSError):
                old.rename(target)
            raise
