"""One load generator process: ``python -m runtime.profiling.generator FD``, which the engine starts.

It imports neither numpy nor any framework, encodes nothing, and ends with the engine. See ``link`` for what
the two say to each other and ``drive`` for what it does.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import signal
import socket
import sys
from typing import Any, Final

from runtime.profiling import link, recording
from runtime.profiling.drive import ClosedLoop, Drive, OpenLoop, Plan
from runtime.profiling.recording import Deck
from runtime.profiling.records import Load
from runtime.profiling.sender import Sender
from runtime.profiling.target import Target
from runtime.runner import control

_PR_SET_TIMERSLACK: Final = 29
_SWITCH_S: Final = 0.001


def main() -> None:
    """Carry out one order."""
    control.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine stops us
    sock = socket.socket(fileno=int(sys.argv[1]))
    received = link.receive(sock)
    if received is None:
        return
    order = link.read_document(received[1][0])
    deck = _read_deck(received[1][1], order["deck_order"])
    try:
        sender = _connected(order)
    except ConnectionError as error:
        control.send(sock, {"type": "failed", "kind": "connection", "reason": str(error)})
        return
    except Exception as error:  # noqa: BLE001 - of a private binding: the engine logs it and does without
        control.send(sock, {"type": "failed", "kind": "sender", "reason": repr(error)})
        return
    _prepare_process()
    control.send(sock, {"type": "ready"})
    start = link.receive(sock)
    if start is None or isinstance(start[0], link.Tick) or start[0]["type"] != "start":
        return
    load = Load.from_dict(order["load"])
    plan = Plan(load=load, share=order["share"], start_ns=start[0]["at_ns"], window_ns=order["window_ns"])
    kind = OpenLoop if load.mode == "open" else ClosedLoop
    drive = kind(sender, plan, deck, _Reporter(sock))
    _send_result(sock, drive, drive.run())
    sys.stderr.flush()
    os._exit(0)  # the taker still waits inside the C library


def _connected(order: dict[str, Any]) -> Sender:
    """A sender whose server takes calls."""
    target = Target.from_dict(order["target"])
    if order["sender"] == "public":
        from runtime.profiling.sender_public import PublicSender

        public = PublicSender(target)
        public.connect(order["connect_s"])
        return public
    from runtime.profiling.sender import CoreSender, trial

    trial()
    core = CoreSender(target)
    core.connect(order["connect_s"])
    return core


def _read_deck(descriptor: int, order: list[int]) -> Deck:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return Deck(tuple(recording.read(io.BufferedReader(file.raw))), tuple(order))


def _prepare_process() -> None:
    """Have sleeps end in time, and nothing pause the process.

    Calls leave no reference cycles behind, so that without the collector memory stays level.
    """
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.disable()


class _Reporter:
    """Sends ticks without ever waiting: what the engine has no room for goes with a later one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unsent: list[bytes] = []

    def __call__(self, tick: link.Tick) -> bool:
        self._unsent.extend(tick.encode())
        while self._unsent:
            try:
                self._sock.send(self._unsent[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            del self._unsent[0]
        return not self._has_word()

    def _has_word(self) -> bool:
        """Whether the engine said something, which can only be stop, or is gone."""
        try:
            self._sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            return False
        return True


def _send_result(sock: socket.socket, drive: Drive, ended_ns: int) -> None:
    result = {"ended_ns": ended_ns, "windows": [window.to_dict() for window in drive.ledger.windows]}
    link.send_document(sock, {"type": "result"}, json.dumps(result).encode())


if __name__ == "__main__":
    main()
