"""Generates the ``*_pb2`` modules and their stubs from the ``.proto`` files.

The compiler is pinned to the oldest release whose output runs on every protobuf runtime that the
package supports: generated code refuses a runtime older than its compiler. That release cannot be
installed beside the newest protobuf, so it gets an environment of its own, made once in the user's
cache folder.

Run ``python protos/generate.py`` to rewrite the modules, with ``--check`` to compare them: exit status
0 when they are what the compiler makes, 1 with a summary of the differences when they are not.
"""

from __future__ import annotations

import argparse
import difflib
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

TOOLS: Final = "grpcio-tools==1.76.0"
SUFFIXES: Final = ("_pb2.py", "_pb2.pyi")
SUMMARY_LINES: Final = 20

_FOLDER: Final = Path(__file__).resolve().parent


def compiler() -> Path:
    """Return the interpreter that has the pinned compiler; make its environment if there is none.

    The environment is built under a temporary name and renamed when it is complete, so neither a run
    that was cut short nor one beside this leaves half of it behind.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runtime-serving"
    home = cache / f"{TOOLS.replace('==', '-')}-python{sys.version_info.major}.{sys.version_info.minor}"
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as parent:
            _move(_install(Path(parent) / home.name), home)
    return home / "bin" / "python"


def _install(home: Path) -> Path:
    venv.create(home, with_pip=True, symlinks=True)
    # "-m pip", never the script: its first line names a folder that is about to be renamed.
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", TOOLS]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return home


def _move(made: Path, home: Path) -> None:
    try:
        made.rename(home)
    except OSError:
        if not home.exists():  # otherwise another run was first, and its environment is as good
            raise


def generate(python: Path, folder: Path) -> dict[str, bytes]:
    """Compile the ``.proto`` files of ``folder`` and return the generated files by name.

    Raises:
        subprocess.CalledProcessError: the compiler refused a file; it said why on stderr.
    """
    sources = sorted(f"{folder.name}/{source.name}" for source in folder.glob("*.proto"))
    with tempfile.TemporaryDirectory() as out:
        outputs = [f"--python_out={out}", f"--pyi_out={out}"]
        command = [str(python), "-m", "grpc_tools.protoc", f"-I{folder.parent}", *outputs, *sources]
        subprocess.run(command, check=True, cwd=folder.parent)
        made = (Path(out) / folder.name).iterdir()
        return {file.name: file.read_bytes() for file in made}


def committed(folder: Path) -> dict[str, bytes]:
    """Return the generated files that ``folder`` holds, by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(SUFFIXES)}


def differences(have: dict[str, bytes], want: dict[str, bytes]) -> list[str]:
    """Say in lines of text how the files at hand differ from the wanted ones; empty when they do not."""
    lines: list[str] = []
    for name in sorted(have.keys() | want.keys()):
        if name not in have:
            lines.append(f"{name}: missing")
        elif name not in want:
            lines.append(f"{name}: no .proto file makes it")
        elif have[name] != want[name]:
            lines.append(f"{name}: differs from what the compiler makes")
            lines += _excerpt(have[name], want[name])
    return lines


def _excerpt(have: bytes, want: bytes) -> list[str]:
    old, new = have.decode().splitlines(), want.decode().splitlines()
    changes = [line[:200] for line in difflib.unified_diff(old, new, "committed", "generated", "", "", 0, "")]
    more = len(changes) - SUMMARY_LINES
    return changes[:SUMMARY_LINES] + ([f"... {more} more lines"] if more > 0 else [])


def write(folder: Path, have: dict[str, bytes], want: dict[str, bytes]) -> None:
    """Make the generated files of ``folder`` the wanted ones."""
    for name in have.keys() - want.keys():
        (folder / name).unlink()
    for name, content in want.items():
        if have.get(name) != content:
            (folder / name).write_bytes(content)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Generate the protobuf modules.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--compiler", type=Path, help=f"an interpreter that has {TOOLS}")
    options = parser.parse_args(arguments)
    have = committed(_FOLDER)
    want = generate(options.compiler or compiler(), _FOLDER)
    if not options.check:
        write(_FOLDER, have, want)
        return 0
    lines = differences(have, want)
    if lines:
        sys.stdout.write("\n".join([*lines, "run: python protos/generate.py", ""]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
