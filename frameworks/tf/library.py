"""TensorFlow, imported without what it prints then; every other module takes ``tf`` from here.

It writes lines about its build to the standard error stream at import, below Python's and its own log levels.
The stream goes to a file for as long as the import runs. Lines that others wrote meanwhile are passed on, and
TensorFlow's own go into the error where the import fails.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from frameworks import base
from frameworks.errors import MissingFramework

_STDERR: Final = 2
"""Number of the file that C++ code writes to."""

_CHATTER: Final = re.compile(
    rb"(?:[IWE]\d{4} |\d{4}-\d\d-\d\d .*: [IWE] |WARNING: All log messages before absl"
    rb"|To enable the following)"
)
"""How the lines of its log begin, and those that follow them."""


def import_quietly(name: str) -> Any:
    """Return the module, importing it with the standard error stream put aside.

    Raises:
        ModuleNotFoundError: there is none of this name, or it needs one that is not there.
        MissingFramework: it is there and cannot be imported; the message has what it printed.
    """
    known = sys.modules.get(name)
    if known is not None:
        return known
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "stderr"
        try:
            with stderr_into(kept):
                module = importlib.import_module(name)
        except ModuleNotFoundError:
            raise
        except Exception as error:
            printed = _read(kept).decode(errors="replace").strip()
            raise MissingFramework(
                f"{name} is installed and cannot be imported: {error!r}"
                + (f"; it printed: {printed}" if printed else ""),
                field=name,
            ) from error
        _pass_on(_read(kept))
    return module


@contextmanager
def stderr_into(path: Path) -> Iterator[None]:
    """Send what the process writes to its standard error stream to a file instead.

    Concurrency: of the whole process; other threads' lines go there too. The stream is restored also when
    the block raises. A process without such a stream is left alone.
    """
    try:
        original = os.dup(_STDERR)
    except OSError:  # closed, as some services have it
        yield
        return
    try:
        with path.open("wb") as file:
            _flush()
            os.dup2(file.fileno(), _STDERR)
            try:
                yield
            finally:
                _flush()
                os.dup2(original, _STDERR)
    finally:
        os.close(original)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _pass_on(printed: bytes) -> None:
    others = b"".join(line for line in printed.splitlines(keepends=True) if not _CHATTER.match(line))
    if others:
        os.write(_STDERR, others)


try:
    tf = import_quietly("tensorflow")
except ModuleNotFoundError as error:
    raise base.missing("tensorflow", "tensorflow") from error

VERSIONS: Final = {"tensorflow": str(tf.__version__)}
