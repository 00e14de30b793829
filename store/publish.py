"""Atomic publication and deletion of model folders, on one filesystem, safe against SIGKILL at any step.

Layout below the store's root::

    <name>/<version>/       a published model: complete, or not there
    .work/<id>/             a folder that is being written or being removed
    .work/<id>.lock         held by flock for as long as its owner lives

Invariants: a model folder appears and disappears by one rename, never file by file. An entry of ``.work``
whose lock nobody holds has no owner: it is swept by the next write operation of anyone. The lock file is
made before its folder and removed after it, so that no folder in use is ever without a lock.

Concurrency: any number of processes and threads; readers take no lock.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from store.errors import ModelMissing, TagExists
from store.tag import Tag

WORK_FOLDER: Final = ".work"

_LOCK_SUFFIX: Final = ".lock"
_RENAME_TRIES: Final = 100
"""Each failed try means that someone removed the empty name folder in between."""

_logger = logging.getLogger(__name__)


@contextmanager
def workplace(root: Path) -> Iterator[Path]:
    """Yield a path in ``.work`` that belongs to the caller until the block ends; nothing is there yet.

    Whatever stands at the path when the block ends is removed. A crash leaves it to the next sweep.
    """
    work = root / WORK_FOLDER
    work.mkdir(parents=True, exist_ok=True)
    while True:
        path = work / secrets.token_hex(8)
        lock = _locked(path, os.O_EXCL)
        if lock is not None:
            break
    try:
        yield path
    finally:
        _clear(path, lock)


def sweep(root: Path) -> int:
    """Remove what dead owners left in ``.work``; return how many entries were removed."""
    try:
        found = [path.name for path in (root / WORK_FOLDER).iterdir()]
    except FileNotFoundError:
        return 0
    removed = 0
    for entry in sorted({name.removesuffix(_LOCK_SUFFIX) for name in found}):
        path = root / WORK_FOLDER / entry
        try:
            lock = _locked(path)
        except PermissionError:
            continue  # another user's entry in a shared store: theirs to sweep
        if lock is not None:
            _clear(path, lock)
            removed += 1
            _logger.debug("store_swept entry=%s", entry)
    return removed


def publish(staged: Path, root: Path, tag: Tag) -> Path:
    """Make a complete staged folder visible as ``<name>/<version>``, durably; return its new path.

    Raises:
        TagExists: that version was published before; the staged folder is left as it is.
    """
    _sync_tree(staged)
    target = root / tag.name / tag.version
    for _ in range(_RENAME_TRIES):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            staged.rename(target)
        except FileNotFoundError:
            continue  # a deleter removed the name folder after our mkdir
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise TagExists(f"model {tag} exists; versions never change", field="version") from None
            raise
        _sync(target.parent)
        _sync(root)
        return target
    raise OSError(errno.EAGAIN, f"the folder {target.parent} keeps vanishing")


def remove(root: Path, tag: Tag) -> None:
    """Take ``<name>/<version>`` out of sight by one rename, then remove its files.

    Raises:
        ModelMissing: there is no such version.
    """
    target = root / tag.name / tag.version
    with workplace(root) as doomed:
        try:
            target.rename(doomed)
        except (FileNotFoundError, NotADirectoryError):
            raise ModelMissing(f"model {tag} is not in {root}", field="version") from None
        _sync(target.parent)
        with suppress(OSError):  # not empty: other versions live there
            target.parent.rmdir()


def _locked(path: Path, flags: int = 0) -> int | None:
    """Lock the entry and return the lock's descriptor; None when somebody else has or had it."""
    try:
        lock = os.open(f"{path}{_LOCK_SUFFIX}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except FileExistsError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if os.fstat(lock).st_nlink == 0:  # removed between open and flock: another sweeper was quicker
        os.close(lock)
        return None
    return lock


def _clear(path: Path, lock: int) -> None:
    """Remove the entry, folder first and lock file last, and release the lock."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        Path(f"{path}{_LOCK_SUFFIX}").unlink(missing_ok=True)
    except OSError as error:
        _logger.warning("store_sweep_failed entry=%s error=%s", path.name, error)
    finally:
        os.close(lock)


def _sync_tree(root: Path) -> None:
    """Flush files, then folders from the leaves up, so that no crash publishes names without content."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    with suppress(FileNotFoundError):  # a name folder that was removed again needs no flush
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
