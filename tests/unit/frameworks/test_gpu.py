from __future__ import annotations

import ctypes
from typing import Any

import pytest

from frameworks import gpu
from frameworks.gpu import Gpu, describe, find_gpu


class Driver:
    """Stands for the driver's library with two cards."""

    def __init__(self, broken: str = "") -> None:
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        if name == f"no {self._broken}":
            raise AttributeError(name)
        return lambda *arguments: 100 if name == self._broken else self._call(name, arguments)

    def _call(self, name: str, arguments: Any) -> int:
        values = {"cuDriverGetVersion": 13020, "cuDeviceGet": 1}
        if name == "cuDeviceGet" and arguments[1].value > 1:
            return 101
        if name == "cuDeviceGetName":
            arguments[0].value = b"NVIDIA H200 (NVL)"
        elif name == "cuDeviceGetAttribute":
            _set(arguments[0], {75: 9, 76: 0}[arguments[1].value])
        elif name in values:
            _set(arguments[0], values[name])
        return 0


def _set(reference: Any, value: int) -> None:
    ctypes.cast(reference, ctypes.POINTER(ctypes.c_int))[0] = value


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", "libno-such-driver.so.1")
    assert find_gpu() is None


def test_a_card_is_described_by_its_driver() -> None:
    assert describe(Driver(), 1) == Gpu("NVIDIA H200 (NVL)", "9.0", "13.2", 1)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_number_without_a_card_is_none(index: int) -> None:
    assert describe(Driver(), index) is None


@pytest.mark.parametrize(
    "function",
    [
        "cuInit",
        "cuDriverGetVersion",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceGetAttribute",
    ],
)
def test_a_driver_that_refuses_anything_means_no_gpu(function: str) -> None:
    assert describe(Driver(function), 0) is None


def test_a_library_without_the_functions_means_no_gpu() -> None:
    assert describe(object(), 0) is None


def test_the_key_tells_cards_capabilities_and_drivers_apart() -> None:
    card = Gpu("NVIDIA H200 (NVL)", "9.0", "13.2", 0)
    assert card.card_key() == "nvidia-h200-nvl-sm90-cuda13.2"
    others = [
        Gpu("NVIDIA L4", "9.0", "13.2", 0),
        Gpu(card.name, "8.9", "13.2", 0),
        Gpu(card.name, "9.0", "13.0", 0),
    ]
    assert len({card.card_key(), *(other.card_key() for other in others)}) == 4
    assert Gpu(card.name, "9.0", "13.2", 5).card_key() == card.card_key()
