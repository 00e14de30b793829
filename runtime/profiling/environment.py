"""Where a result was measured: what must be equal before two results may be compared.

Everything here is read, nothing is changed, and what a machine does not tell is left out. Callers are the
command line and whoever writes result files.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil

DISTRIBUTIONS: Final = (
    "runtime-serving", "grpcio", "protobuf", "numpy", "uvloop", "torch", "onnxruntime", "scikit-learn",
    "tensorflow",
)  # fmt: skip
"""Libraries whose versions move the figures; those that are not installed are left out."""

COMPARED: Final = ("cpu", "cores", "affinity", "cpu_limit", "governor", "kernel", "python", "versions")
"""Fields that must agree for a comparison to be fair; the others vary from run to run."""

BUSY_SHARE: Final = 0.5
"""Load average per core above which others disturb a measurement: every second request meets one of them."""

_CPUINFO: Final = Path("/proc/cpuinfo")
_GOVERNOR: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")


def fingerprint() -> dict[str, Any]:
    """Return the machine, the interpreter, the libraries and the load at this moment, as plain values.

    Concurrency: any thread; reads a few small files.
    """
    found: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "cpu": cpu_model(_text(_CPUINFO)) or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=True),
        "physical_cores": psutil.cpu_count(logical=False),
        "affinity": sorted(os.sched_getaffinity(0)),
        "cpu_limit": cpu_limit(_text(_CPU_MAX)),
        "governor": _text(_GOVERNOR).strip() or None,
        "virtual": "hypervisor" in _text(_CPUINFO),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": versions(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }
    return {name: value for name, value in found.items() if value is not None}


def versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed, without importing any."""
    return dict(_versions())


def cpu_model(cpuinfo: str) -> str:
    """Return the processor's name from the text of ``/proc/cpuinfo``; empty when it is not there."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() in {"model name", "Model", "Hardware"}:
            return " ".join(value.split())
    return ""


def cpu_limit(cpu_max: str) -> float | None:
    """Return the cores that the control group allows, from the text of ``cpu.max``; None without a limit."""
    quota, _, period = cpu_max.partition(" ")
    if not quota.isdecimal() or not period.strip().isdecimal() or not int(period):
        return None
    return round(int(quota) / int(period), 2)


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return one line for each field that makes two results hard to compare.

    Args:
        first: a fingerprint.
        second: another one.
    """
    lines = []
    for name in COMPARED:
        before, after = first.get(name), second.get(name)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
            lines += [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed]
        else:
            lines.append(f"{name}: {before} -> {after}")
    return lines


def warnings(found: Mapping[str, Any]) -> list[str]:
    """Return what about a machine makes its figures doubtful, one line each."""
    lines = []
    busy, cores = found["load_average"][0], len(found["affinity"])
    if busy > BUSY_SHARE * cores:
        lines.append(
            f"the machine was busy before: {busy:g} processes wanted its {cores} core{'s' * (cores > 1)}"
        )
    governor = found.get("governor", "performance")
    if governor != "performance":
        lines.append(f"the processor changes its frequency: its governor is {governor!r}, not 'performance'")
    return lines


def _versions() -> Iterator[tuple[str, str]]:
    for name in DISTRIBUTIONS:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _text(path: Path) -> str:
    """Return a small file's text; empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
