"""Is there an NVIDIA GPU, and which one? Asked of the driver itself, so that no library is needed for it.

Libraries that were built for GPUs say so on any machine, and some of them crash without a driver: whoever
wants to use one asks here first. Nothing here raises: no driver, an old one and no card all mean None.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import Any, Final

DRIVER: Final = "libcuda.so.1"

NO_GPU: Final = f"this machine has no NVIDIA GPU that can be used (asked of the driver library {DRIVER})"
"""For messages."""

_SUCCESS: Final = 0
_MAJOR: Final = 75
_MINOR: Final = 76
"""Attributes of a device: its compute capability. Source: cuda.h, ``CUdevice_attribute``."""
_NAME_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card as this process sees it.

    Args:
        name: of the product, such as ``NVIDIA L4``.
        capability: compute capability, such as ``8.9``.
        driver: newest CUDA version that the driver can serve, such as ``13.0``.
        index: its number among the visible cards.
    """

    name: str
    capability: str
    driver: str
    index: int

    def card_key(self) -> str:
        """Return what compiled code depends on, as a file name: equal keys mean equal cards and drivers."""
        name = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return f"{name}-sm{self.capability.replace('.', '')}-cuda{self.driver}"


def find_gpu(index: int = 0) -> Gpu | None:
    """Return the card, or None when there is no such card or no driver for it.

    The first call starts the CUDA driver in this process; do not fork afterwards.

    Args:
        index: counts the cards that ``CUDA_VISIBLE_DEVICES`` leaves visible.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    return describe(driver, index)


def describe(driver: Any, index: int) -> Gpu | None:
    """Return what the driver library says of a card; None when it refuses anything.

    Args:
        driver: the loaded library.
        index: see ``find_gpu``.
    """
    if index < 0:
        return None
    device, version = ctypes.c_int(), ctypes.c_int()
    major, minor = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("cuInit", (ctypes.c_uint(0),)),
        ("cuDriverGetVersion", (ctypes.byref(version),)),
        ("cuDeviceGet", (ctypes.byref(device), ctypes.c_int(index))),
        ("cuDeviceGetName", (name, ctypes.c_int(_NAME_BYTES), device)),
        ("cuDeviceGetAttribute", (ctypes.byref(major), ctypes.c_int(_MAJOR), device)),
        ("cuDeviceGetAttribute", (ctypes.byref(minor), ctypes.c_int(_MINOR), device)),
    )
    for function, arguments in calls:
        try:
            code = getattr(driver, function)(*arguments)
        except AttributeError:  # a stub of the library, or one that is far too old
            return None
        if code != _SUCCESS:
            return None
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=f"{major.value}.{minor.value}",
        driver=f"{version.value // 1000}.{version.value % 1000 // 10}",
        index=index,
    )
