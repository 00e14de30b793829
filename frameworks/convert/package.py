"""The ``.nav`` package: a workspace in one file, to hand on, to keep, and to take up again elsewhere.

A zip that holds the workspace's files as they are, and ``package.json`` with the digest of each. The source
model and the log stay behind, and so does the code of its maker, except for what AOTInductor has compiled.

Packages come from anywhere: a member is unpacked only if its path stays inside, it is a plain file that
``package.json`` lists, and it is as long as the zip's directory says and has the digest that is listed.
Writing and reading are atomic: a file or folder is complete, or not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, Protocol

from frameworks.convert.staging import PathTaken, staged, workspace_path
from frameworks.convert.workspace import INPUTS, LOG, OUTPUTS
from frameworks.errors import FrameworkError
from store import InvalidTag, StoreError, Tag
from store.digests import digest_file, file_names

CONTENTS: Final = "package.json"
FORMAT_VERSION: Final = "1"

_DATA: Final = (INPUTS, OUTPUTS)
_CHUNK_BYTES: Final = 1 << 20
_MAX_CONTENTS_BYTES: Final = 16 << 20
"""Of ``package.json``: a hundred thousand members; it is read into memory."""

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first date of a zip: the same results make the same package, byte by byte."""


class InvalidPackage(FrameworkError):
    """A file is no package, or it is damaged or hostile (FAILED_PRECONDITION)."""

    reason = "invalid_package"


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Member:
    """What ``package.json`` says of one file.

    Args:
        digest: ``sha256:<hex>`` of its content.
        size: its bytes.
    """

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The content of ``package.json``.

    Args:
        model_name: of the source; the workspace is named after it.
        members: by path, with ``/``.
    """

    model_name: str
    members: Mapping[str, Member]


def write(
    workspace: Path, path: Path, *, model_name: str, override: bool = False, save_data: bool = True
) -> None:
    """Write a workspace into a package file, durably.

    Args:
        workspace: its folder.
        path: the file to write.
        model_name: of the source.
        override: replace a file that exists.
        save_data: keep samples and reference outputs; without them correctness cannot be checked again.

    Raises:
        PathTaken: the file exists and is not to be replaced, or it is a folder.
        FrameworkError: there is no workspace.
    """
    if not workspace.is_dir():
        raise FrameworkError(f"there is no workspace at {workspace}; was it removed?", field="workspace")
    if path.is_dir() or (path.exists() and not override):
        raise PathTaken(f"{path} exists; give override=True or another path", field="path")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with unfinished.open("xb") as file:
            _write_members(file, workspace, model_name, save_data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync(path.parent)


def unpack(path: Path, workdir: Path, *, override: bool = False) -> Path:
    """Unpack a package into a new workspace below a folder; return the workspace's folder.

    A workspace that is there already, and is file by file what the package was made of, is left as it is.

    Args:
        path: the package.
        workdir: where workspaces lie; made when it is not there.
        override: replace the workspace of that model.

    Raises:
        InvalidPackage: it cannot be trusted or read; nothing was changed.
        PathTaken: the workspace exists and is not to be replaced.
    """
    if not path.is_file():
        raise InvalidPackage(f"there is no package at {path}", field="path")
    try:
        with zipfile.ZipFile(path) as archive:
            contents = _read_contents(archive, path)
            members = _checked(archive, contents, path)
            target = workspace_path(workdir, contents.model_name)
            if not override and _is_same(target, contents):
                return target
            with staged(target, override=override) as folder:
                _check_space(folder, contents)
                for info in members:
                    _extract(archive, info, contents.members[info.filename], folder)
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise InvalidPackage(f"{path} is no .nav package, or it is damaged: {error}", field="path") from error
    return target


def _write_members(file: IO[bytes], workspace: Path, model_name: str, save_data: bool) -> None:
    left_out = (LOG,) if save_data else (LOG, *_DATA)
    listed: dict[str, dict[str, object]] = {}
    # Stored, not deflated: weights hardly become smaller, and the samples are zips themselves.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in _packed(workspace, left_out):
            digest, size = _add(archive, workspace / name, name)
            listed[name] = {"sha256": digest, "bytes": size}
        document = {"format_version": FORMAT_VERSION, "model_name": model_name, "members": listed}
        archive.writestr(_entry(CONTENTS), json.dumps(document, indent=1))


def _packed(workspace: Path, left_out: Collection[str] = (LOG,)) -> list[str]:
    """Return the files of a workspace that go into its package, sorted."""
    tops = {name: name.partition("/")[0] for name in sorted(file_names(workspace))}
    return [name for name, top in tops.items() if top not in left_out and not top.startswith(".")]


def _is_same(workspace: Path, contents: Contents) -> bool:
    """Return whether a package made of the workspace would have these members."""
    if workspace.is_symlink() or not workspace.is_dir():
        return False
    try:
        return _packed(workspace) == sorted(contents.members) and all(
            digest_file(workspace / name) == member.digest for name, member in contents.members.items()
        )
    except (StoreError, OSError):
        return False  # odd files are no workspace of ours


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> tuple[str, int]:
    digest = hashlib.sha256()
    with path.open("rb") as source, archive.open(_entry(name), "w", force_zip64=True) as target:
        return _copy(source, target, digest)


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _copy(source: IO[bytes], target: IO[bytes], digest: _Hash, most: int | None = None) -> tuple[str, int]:
    """Copy, and return the digest and the bytes; stops one chunk after ``most`` bytes."""
    size = 0
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        target.write(chunk)
        if most is not None and size > most:
            break
    return f"sha256:{digest.hexdigest()}", size


def _read_contents(archive: zipfile.ZipFile, path: Path) -> Contents:
    try:
        info = archive.getinfo(CONTENTS)
    except KeyError:
        raise InvalidPackage(f"{path} has no {CONTENTS}: it is no .nav package", field="path") from None
    if info.file_size > _MAX_CONTENTS_BYTES:
        raise InvalidPackage(f"{CONTENTS} of {path} has {info.file_size} bytes", field=CONTENTS)
    try:
        document = json.loads(archive.read(info))
    except (ValueError, RecursionError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InvalidPackage(f"{CONTENTS} of {path} cannot be read: {error}", field=CONTENTS) from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise InvalidPackage(
            f"{path} has the format version {version!r}; this release reads {FORMAT_VERSION!r}",
            field="format_version",
        )
    try:
        members = {
            name: Member(digest=str(one["sha256"]), size=int(one["bytes"]))
            for name, one in document["members"].items()
        }
        # The name becomes a folder's name: the rules of the store keep it inside the workdir.
        return Contents(Tag(document["model_name"]).name, members)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidTag) as error:
        raise InvalidPackage(f"{CONTENTS} of {path} is wrong: {error!r}", field=CONTENTS) from error


def _checked(archive: zipfile.ZipFile, contents: Contents, path: Path) -> list[zipfile.ZipInfo]:
    """Return the members to unpack: those that are listed, each once; refuse every other kind."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if info.is_dir() or name == CONTENTS:
            continue
        listed = contents.members.get(name)
        problem = _problem(info)
        if listed is None:
            problem = problem or f"is not listed in {CONTENTS}"
        elif info.file_size != listed.size:
            problem = problem or f"has {info.file_size} bytes, {CONTENTS} says {listed.size}"
        if name in found:
            problem = problem or "is there twice"
        if problem:
            raise InvalidPackage(f"member {name!r} of {path} {problem}", field=name)
        found[name] = info
    for name in contents.members:
        if name not in found:
            raise InvalidPackage(f"member {name!r} of {path} is missing", field=name)
    return list(found.values())


def _problem(info: zipfile.ZipInfo) -> str:
    """Say why a member must not be unpacked; empty when it may."""
    name = info.filename
    pure = PurePosixPath(name)
    if (
        pure.is_absolute()
        or str(pure) != name  # doubled or trailing slashes, "." parts
        or ".." in pure.parts
        or name.startswith(".")
        or any(character in name for character in "\\:\0")
    ):
        return "has a path that may lead out of the workspace"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is no plain file"
    if info.flag_bits & 0x1:
        return "is encrypted"
    return ""


def _check_space(folder: Path, contents: Contents) -> None:
    needed = sum(member.size for member in contents.members.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InvalidPackage(
            f"the package unpacks to {needed} bytes; {folder.parent} has {free} left", field="workdir"
        )


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, listed: Member, folder: Path) -> None:
    target = folder / info.filename
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, target.open("xb") as file:
            digest, size = _copy(source, file, hashlib.sha256(), listed.size)
            file.flush()
            os.fsync(file.fileno())
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidPackage(
            f"member {info.filename!r} is a file and a folder at once", field=info.filename
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise InvalidPackage(
            f"member {info.filename!r} cannot be read: {error}", field=info.filename
        ) from error
    if size != listed.size or digest != listed.digest:
        raise InvalidPackage(
            f"member {info.filename!r} has digest {digest}, {CONTENTS} says {listed.digest}",
            field=info.filename,
        )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
