"""One process that the supervisor keeps: started by spawn, spoken to over its control connection.

The end of a child is seen as the end of its control connection, whatever the cause; the child in turn
ends when the supervisor's side closes, and is killed by the kernel should the supervisor be killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from runtime.clock import now_ns
from runtime.runner import control
from runtime.runner.control import Message

log = logging.getLogger(__name__)

_MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_TOP_PAD_": str(4 << 20),
}
"""Has glibc keep the memory of large messages instead of returning it after each: without it a request of
600 kB costs a hundred page faults, a fifth of its CPU. Other C libraries ignore it."""


class Child:
    """A running process ``python -m MODULE FD``.

    Args:
        name: for logs.
        module: what to run.
        environment: variables on top of the supervisor's own.
        on_message: called with each message of the child.
        on_end: called once with the exit status, negative for a signal.

    Concurrency: belongs to the event loop in which it was made.
    """

    def __init__(
        self, name: str, module: str, environment: Mapping[str, str], *,
        on_message: Callable[[Message], None], on_end: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.started_ns = now_ns()
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._control, theirs = control.pair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**_MALLOC, **os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),  # the supervisor's stdout carries the ready line and nothing else
            )
        self._open = True
        self._loop.add_reader(self._control.fileno(), self._readable)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message; to a child that is ending it is lost, which its end will tell."""
        if self._open:
            try:
                control.send(self._control, message, descriptors)
            except OSError:
                log.debug("message_lost", extra={"child": self.name, "type": message["type"]})

    def close(self) -> None:
        """Close the control connection: the child ends by itself."""
        if self._open:
            self._control.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End the child now."""
        self._process.kill()

    def _readable(self) -> None:
        received = control.receive(self._control)
        if received is not None:
            self._on_message(received[0])
            return
        self._open = False
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._loop.create_task(self._reap())

    async def _reap(self) -> None:
        """Wait for the exit status; who has closed the connection but does not end is killed."""
        for _ in range(200):
            if self._process.poll() is not None:
                break
            await asyncio.sleep(0.005)
        else:
            self._process.kill()
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        self._on_end(self._process.returncode)
