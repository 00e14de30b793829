"""One service process: the gRPC front-end, started again when it ends, on the same port."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Final

from runtime.clock import SECOND, now_ns
from runtime.lifecycle.backoff import Backoff
from runtime.lifecycle.child import Child
from runtime.runner.control import Message

log = logging.getLogger(__name__)

SERVICE: Final = "runtime.service.process"
ENDING_S: Final = 5.0
"""How long a process may take to end, beyond the grace, before it is killed."""


class Frontend:
    """Keeps one service process alive.

    Args:
        name: of the process, for logs and metrics.
        settings: sent to the process as its first message.
        on_start: called after each start, to tell the process what it serves.
        on_question: called with each message of the process that is no reply.

    Attributes:
        port: what it listens on, 0 until it does.
        restarts: how often it was started again.
    """

    def __init__(
        self,
        name: str,
        settings: Message,
        on_start: Callable[[Frontend], None],
        on_question: Callable[[Frontend, Message], None] | None = None,
    ) -> None:
        self.name = name
        self.port = 0
        self.restarts = 0
        self.child: Child | None = None
        self._settings = settings
        self._on_start = on_start
        self._on_question = on_question
        self._backoff = Backoff()
        self._stopping = False
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self.ended = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the process and tell it what it serves."""
        self.child = Child(self.name, SERVICE, {}, on_message=self._heard, on_end=self._ended)
        self.child.send({"type": "configure", "name": self.name, **self._settings})
        self._on_start(self)

    async def listen(self, port: int) -> int:
        """Bind the port, 0 for a free one, and begin to serve; returns the port.

        Raises:
            OSError: the address cannot be bound, or the process ended.
        """
        reply = await self.ask({"type": "listen", "address": address(self._settings["host"], port)})
        if "port" not in reply:
            raise OSError(reply.get("error", "the service process ended"))
        self.port = int(reply["port"])
        return self.port

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message that wants no reply."""
        if self.child is not None:
            self.child.send(message, descriptors)

    async def ask(self, message: Message) -> Message:
        """Send a message and wait for its reply; an empty one if the process ends first."""
        if self.child is None:
            return {}
        number = next(self._numbers)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        self.child.send({**message, "number": number})
        return await future

    async def stop(self, grace_s: float) -> None:
        """Finish what was accepted, for at most ``grace_s``, then end. A second call may shorten it."""
        self._stopping = True
        if self.child is None:
            return
        try:
            async with asyncio.timeout(grace_s + ENDING_S):
                await self.ask({"type": "stop", "grace_s": grace_s})
                if self.child is not None:
                    self.child.close()
                    await self.ended.wait()
        except TimeoutError:
            log.warning("service_killed", extra={"service": self.name})
            if self.child is not None:
                self.child.kill()
                await self.ended.wait()

    def _heard(self, message: Message) -> None:
        if message["type"] != "reply":
            if self._on_question is not None:
                self._on_question(self, message)
            return
        future = self._replies.pop(message.get("number", 0), None)
        if future is not None and not future.done():
            future.set_result(message)

    def _ended(self, status: int) -> None:
        lived = now_ns() - self.child.started_ns if self.child is not None else 0
        self.child = None
        for future in self._replies.values():
            if not future.done():
                future.set_result({})
        self._replies.clear()
        if self._stopping or not self.port:
            self.ended.set()
            return
        log.error("service_ended", extra={"service": self.name, "status": status})
        delay = self._backoff.next_delay_ns(lived)
        asyncio.get_running_loop().call_later(delay / SECOND, self._restart)

    def _restart(self) -> None:
        if self._stopping:
            self.ended.set()
            return
        self.restarts += 1
        self.start()
        self._listening = asyncio.get_running_loop().create_task(self._listen_again())

    async def _listen_again(self) -> None:
        """Take the port again; a process that cannot is of no use, and its end leads to the next attempt."""
        try:
            await self.listen(self.port)
        except OSError as error:
            log.error("service_cannot_listen", extra={"service": self.name, "cause": str(error)})  # noqa: TRY400
            if self.child is not None:
                self.child.kill()


def address(host: str, port: int) -> str:
    """``host:port`` as gRPC and people write it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
