"""Looking into a ``.pt2`` file before it is loaded: what it holds, whether it runs code, and where.

A ``.pt2`` file is a zip archive. It holds an exported program (a graph and its weights) or what AOTInductor
compiled of one: a shared library, which crashes the process on a CPU without the instructions that it uses.
Nothing here runs anything from the file.
"""

from __future__ import annotations

import io
import json
import pickle
import platform
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from frameworks import base
from frameworks.errors import InvalidModel

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

CPU_FLAGS: Final = "cpu_flags"
"""Key of a package's own data: the CPU flags of the machine that compiled it, separated by blanks."""

_COMPILED: Final = "data/aotinductor/"
_PROGRAMS: Final = "models/"
_SAMPLES: Final = "data/sample_inputs/"
_CONFIGS: Final = ("data/weights/", "data/constants/")
_PICKLED_OBJECTS: Final = ("custom_obj", "opaque_obj")
"""Start of the names of constants that are objects. Source: torch 2.13, ``export/pt2_archive``."""

_FLAGS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "AVX2": ("avx2", "fma"),
    "AVX512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"),
    "AVX512_VNNI": ("avx512_vnni",),
    "AMX_TILE": ("amx_tile", "amx_bf16", "amx_int8"),
}
"""CPU flags behind the words that torch itself records. Source: torch 2.13, ``_inductor/cpu_vec_isa.py``."""

_INSTRUCTIONS: Final = re.compile(r"(avx|amx|sse|ssse|fma|f16c|bmi|abm$|gfni|popcnt|movbe|adx)")
"""Flags of instructions that a compiler chooses by itself; the others are the operating system's business."""


@dataclass(frozen=True, slots=True)
class Archive:
    """What a ``.pt2`` file holds.

    Args:
        compiled: it is an AOTInductor package; else an exported program.
        runs_code: loading it runs code from it: machine code, or pickled objects.
        uses_tensorrt: the program has parts that only torch_tensorrt can run.
        build: of a package: what torch and the caller recorded when it was compiled.
    """

    compiled: bool
    runs_code: bool
    uses_tensorrt: bool
    build: Mapping[str, str]

    @classmethod
    def of(cls, path: Path) -> Archive:
        """Read a file.

        Raises:
            InvalidModel: it is no ``.pt2`` file, or holds several models.
        """
        try:
            with zipfile.ZipFile(path) as file:
                # The first part of each name is the archive's own.
                members = {name.partition("/")[2]: name for name in file.namelist()}
                return _read(path, file, members)
        except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
            raise InvalidModel(f"{path} is no .pt2 file: {error}", field="model") from error

    def check_machine(self, device: torch.device) -> None:
        """Make sure that this machine can run the package; a program runs anywhere.

        Raises:
            InvalidModel: compiled for another device, system or CPU; the message says which instructions are
                missing.
        """
        if not self.compiled:
            return
        made_for, key = self.build.get("AOTI_DEVICE_KEY", "cpu"), "AOTI_COMPUTE_CAPABILITY"
        if made_for != device.type:
            raise InvalidModel(
                f"the AOTInductor package was compiled for device {made_for!r}, not for {device.type!r}; "
                "compile the exported program again for that",
                field="device",
            )
        here = {"AOTI_MACHINE": platform.machine()}
        if device.type == "cuda":
            here[key] = "".join(str(part) for part in torch.cuda.get_device_capability(device))
        for word, value in here.items():
            if self.build.get(word, value) != value:
                raise InvalidModel(
                    f"the AOTInductor package was compiled for {self.build[word]}, and this is {value}; "
                    "compile the exported program again here",
                    field="model",
                )
        missing = sorted(self._needed_flags() - cpu_flags())
        if missing and cpu_flags():
            raise InvalidModel(
                f"the AOTInductor package was compiled for a CPU with {', '.join(missing)}, which this one "
                "lacks; compile the exported program again here",
                field="model",
            )

    def _needed_flags(self) -> frozenset[str]:
        if CPU_FLAGS in self.build:
            return frozenset(self.build[CPU_FLAGS].split())
        words = self.build.get("AOTI_CPU_ISA", "").split()
        return frozenset(flag for word in words for flag in _FLAGS_OF.get(word, ()))


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the names of the instructions that this CPU has; empty where the system does not tell.

    Args:
        path: where Linux lists them.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        word, _, value = line.partition(":")
        if word.strip() == "flags":
            return frozenset(flag for flag in value.split() if _INSTRUCTIONS.match(flag))
        if word.strip() == "Features":  # ARM lists nothing else
            return frozenset(value.split())
    return frozenset()


def _read(path: Path, file: zipfile.ZipFile, members: Mapping[str, str]) -> Archive:
    packages = {name.split("/")[2] for name in members if name.startswith(_COMPILED)}
    programs = [name for name in members if name.startswith(_PROGRAMS)]
    count = len(packages) + len(programs)
    if count != 1:
        what = "no exported program" if count == 0 else f"{count} models; save each in a file of its own"
        raise InvalidModel(f"{path} holds {what}", field="model")
    if not packages:
        return Archive(
            compiled=False,
            runs_code=_has_pickles(file, members),
            uses_tensorrt=b'"tensorrt' in file.read(members[programs[0]]),
            build={},
        )
    build: dict[str, str] = {}
    for name, full in members.items():
        if name.startswith(_COMPILED) and name.endswith("_metadata.json"):
            build.update(json.loads(file.read(full)))
    return Archive(compiled=True, runs_code=True, uses_tensorrt=False, build=build)


def _has_pickles(file: zipfile.ZipFile, members: Mapping[str, str]) -> bool:
    """Return whether torch would unpickle arbitrary objects; tensors' own bytes are none."""
    for name, full in members.items():
        if name.startswith(_CONFIGS) and name.endswith("_config.json"):
            entries = json.loads(file.read(full))["config"].values()
            if any(one["use_pickle"] or one["path_name"].startswith(_PICKLED_OBJECTS) for one in entries):
                return True
        elif name.startswith(_CONFIGS) and name.endswith(".pt"):
            return True  # the layout of older releases
        elif name.startswith(_SAMPLES):
            data = file.read(full)
            try:
                if data:
                    torch.load(io.BytesIO(data), weights_only=True)
            except (pickle.UnpicklingError, RuntimeError):
                return True  # torch falls back to reading everything
    return False
