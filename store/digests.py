"""SHA-256 digests of a model's files: made when it is published, compared when it is loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from store.errors import CorruptArtifact
from store.manifest import FILE_NAME


def digest_file(path: Path) -> str:
    """Return ``sha256:<hex>`` of a file's content.

    Complexity: reads the whole file, in constant memory.
    """
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def digest_tree(root: Path) -> dict[str, str]:
    """Return the digest of every file below ``root`` except the manifest, by relative path, sorted.

    Raises:
        CorruptArtifact: something there is neither a file nor a folder; a link could lead out of the model.
    """
    return {name: digest_file(root / name) for name in sorted(file_names(root))}


def check_tree(root: Path, digests: Mapping[str, str]) -> None:
    """Compare every file below ``root`` with its digest.

    Raises:
        CorruptArtifact: a file differs, is missing or is not listed; the field names it.
    """
    names = set(file_names(root))
    for name, expected in digests.items():
        if name not in names:
            raise CorruptArtifact(f"{root / name} is missing", field=name)
        check_file(root, name, expected)
    # A file that nobody listed could be one that a loader picks up, such as pickled custom objects.
    for name in sorted(names - digests.keys()):
        raise CorruptArtifact(f"{root / name} is not in the manifest", field=name)


def check_file(root: Path, name: str, expected: str) -> None:
    """Compare one file with its digest.

    Raises:
        CorruptArtifact: the content differs, or the file cannot be read.
    """
    try:
        actual = digest_file(root / name)
    except OSError as error:
        raise CorruptArtifact(f"{root / name} cannot be read: {error}", field=name) from error
    if actual != expected:
        raise CorruptArtifact(f"{root / name} has digest {actual}, the manifest says {expected}", field=name)


def file_names(root: Path) -> Iterator[str]:
    """Yield the relative path of every file below ``root`` except the manifest.

    Raises:
        CorruptArtifact: something there is neither a file nor a folder, or a folder cannot be read.
    """
    pending = [root]
    while pending:
        for entry in _entries(pending.pop()):
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif not entry.is_file(follow_symlinks=False):
                raise CorruptArtifact(f"{path} is neither a file nor a folder", field=name)
            elif name != FILE_NAME:
                yield name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise CorruptArtifact(f"{folder} cannot be read: {error}", field=str(folder)) from error
