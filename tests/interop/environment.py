"""The environment of foreign clients: stock libraries that force another protobuf than ours.

It holds tritonclient and this package (editable), lies in ``.venv-interop`` beside the sources unless
``RUNTIME_INTEROP_VENV`` names another place, and is made on first use. Run as a script to make it ahead
of the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
REQUIREMENTS: Final = ("tritonclient[grpc]==2.73.0",)
_STAMP: Final = "requirements.sha256"


def interop_python() -> Path:
    """Return the environment's interpreter; make or update the environment when requirements changed.

    Concurrency: safe between processes; the second waits for the first.
    """
    home = Path(os.environ.get("RUNTIME_INTEROP_VENV") or ROOT / ".venv-interop")
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = home / _STAMP
        if not stamp.exists() or stamp.read_text() != _wanted():
            _install(home)
            stamp.write_text(_wanted())
    return home / "bin" / "python"


def _wanted() -> str:
    """Return a digest of all that decides what is installed."""
    parts = [sys.version, *REQUIREMENTS, (ROOT / "pyproject.toml").read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _install(home: Path) -> None:
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True, symlinks=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS, "--editable", str(ROOT)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def run(script: str, *arguments: str) -> str:
    """Run Python code there, warnings being errors, and return what it printed.

    Raises:
        AssertionError: it failed; the message is its stderr.
    """
    command = [str(interop_python()), "-W", "error", "-c", script, *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


if __name__ == "__main__":
    interop_python()
