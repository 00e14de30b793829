"""The environments of the peers: outside the repository, one for each set of requirements, made once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

INSTALL_S: Final = 1200.0
_STAMP: Final = "installed"
_LIST: Final = """
import sys
from importlib import metadata
print("\\n".join(f"{name} {metadata.version(name)}" for name in sys.argv[1:]))
"""


class InstallFailed(Exception):
    """A peer's packages could not be installed; the message is the end of what pip said."""


def home() -> Path:
    """Where the environments lie."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "runtime-serving" / "peers"


def folder_name(name: str, requirements: Sequence[str]) -> str:
    """Return the folder of an environment: another one for other requirements or another Python."""
    parts = [sys.version, *sorted(requirements)]
    return f"{name}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"


def install(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of a peer's environment; make it if it is not complete.

    Raises:
        InstallFailed: pip did not succeed; nothing is left behind.

    Concurrency: safe between processes; the second waits for the first.
    """
    folder = home() / folder_name(name, requirements)
    with _locked(folder):
        if not (folder / _STAMP).exists():
            try:
                _fill(folder, requirements)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            (folder / _STAMP).write_text("\n".join(requirements))
    return folder / "bin" / "python"


def versions(python: Path, packages: Sequence[str]) -> str:
    """Return the installed versions of packages, in one line."""
    done = subprocess.run([python, "-c", _LIST, *packages], check=True, capture_output=True, text=True)
    return ", ".join(done.stdout.split("\n")[:-1])


def _fill(folder: Path, requirements: Sequence[str]) -> None:
    venv.create(folder, with_pip=True, symlinks=True, clear=True)
    command = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    try:
        done = subprocess.run(
            [*command, *requirements], check=False, capture_output=True, text=True, timeout=INSTALL_S
        )
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"pip needed more than {INSTALL_S:.0f} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InstallFailed(" ".join(errors)[-400:] or done.stderr[-400:])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
