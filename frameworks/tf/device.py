"""Threads and devices of TensorFlow: settings of the whole process, fixed at its first computation.

A worker sets them before it loads its model. A process that has computed already keeps its threads, which is
logged once; a device is then chosen by running inside ``tf.device``.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Final

from frameworks.base import LoadOptions
from frameworks.errors import InvalidModel
from frameworks.tf.library import tf

_logger = logging.getLogger(__name__)

CPU: Final = "/CPU:0"


def prepare(options: LoadOptions) -> str | None:
    """Give the process its threads and its one device.

    Returns:
        The device to run on by ``tf.device``; None where it is the only one that the process sees, or comes
        before all others by itself.

    Raises:
        InvalidModel: TensorFlow does not know the device, or it is not there.
    """
    card = find_card(options.device)
    _set_threads(options.threads)
    wanted = [] if card is None else [card]
    try:
        tf.config.set_visible_devices(wanted, "GPU")
        if card is not None:
            tf.config.experimental.set_memory_growth(card, True)
    except RuntimeError:  # it has computed already: its devices are what they are
        return scope_of(options.device)
    return None


def scope_of(device: str) -> str | None:
    """Return what to run inside of so that the device is used, as devices stand; None if there is no choice.

    Raises:
        InvalidModel: TensorFlow does not know the device, it is not there, or it was hidden earlier.
    """
    card = find_card(device)
    visible = tf.config.get_visible_devices("GPU")
    if card is None:
        return CPU if visible else None
    if card not in visible:
        raise InvalidModel(
            f"device {device!r} was hidden from TensorFlow when this process first computed; "
            "open the model in a process of its own",
            field="device",
        )
    return f"/GPU:{visible.index(card)}"


def find_card(device: str) -> Any:
    """Return TensorFlow's record of the GPU; None for the CPU.

    Raises:
        InvalidModel: TensorFlow does not know the device, or it is not there.
    """
    kind, _, index = device.partition(":")
    if kind == "cpu" and not index:
        return None
    if kind != "cuda" or (index and not index.isdecimal()):
        raise InvalidModel(
            f"TensorFlow knows no device {device!r}; use 'cpu', 'cuda' or 'cuda:N'", field="device"
        )
    cards = tf.config.list_physical_devices("GPU")
    number = int(index or "0")
    if number >= len(cards):
        built = tf.test.is_built_with_cuda()
        hint = "" if built else "; it is built without CUDA: install tensorflow[and-cuda] instead"
        raise InvalidModel(
            f"device {device!r} is not there; TensorFlow sees {len(cards)} GPUs{hint}", field="device"
        )
    return cards[number]


def _set_threads(threads: int) -> None:
    # Operators run one after the other, each with all threads: more at a time would go over the budget.
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        _say_once(threads, tf.config.threading.get_intra_op_parallelism_threads())


@functools.cache
def _say_once(wanted: int, actual: int) -> None:
    _logger.warning(
        "tensorflow_threads_fixed wanted=%d actual=%s: this process has computed already",
        wanted,
        actual or "all cores",
    )
