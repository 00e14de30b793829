"""One thread that waits on the channels to all workers of a service process."""

from __future__ import annotations

import logging
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable

from runtime.errors import WorkerLost
from runtime.runner.channel import Channel

log = logging.getLogger(__name__)


class Reader:
    """Reads answers, flushes what could not be sent at once, and notices lost workers.

    Args:
        on_lost: called on the reader's thread after a channel was closed.
    """

    def __init__(self, on_lost: Callable[[Channel], None]) -> None:
        self._on_lost = on_lost
        self._selector = selectors.DefaultSelector()
        self._channels: set[Channel] = set()
        self._errands: deque[Callable[[], None]] = deque()
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._stopping = False
        self._thread.start()

    def add(self, channel: Channel) -> None:
        """Watch a channel from now on."""
        channel.on_unsent = self._watch_writes
        self._do(lambda: self._register(channel))

    def remove(self, channel: Channel) -> None:
        """Stop watching a channel and close it; what it has not answered runs elsewhere."""
        self._do(lambda: self._lose(channel))

    def stop(self) -> None:
        """End the thread; channels stay as they are."""
        self._stopping = True
        self._do(_nothing)
        self._thread.join()
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    # -- reader's thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            for key, events in self._selector.select():
                if key.data is None:
                    os.read(self._wake_in, 4096)
                else:
                    self._serve(key.data, events)
            while self._errands:
                self._errands.popleft()()

    def _serve(self, channel: Channel, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                channel.link.flush()
                if not channel.link.wants_write:
                    self._selector.modify(channel.link, selectors.EVENT_READ, channel)
            if events & selectors.EVENT_READ:
                channel.read()
        except WorkerLost as error:
            log.warning("instance_lost", extra={"instance": channel.name, "cause": str(error)})
            self._lose(channel)
        except Exception:  # a fence: one channel's trouble must not stop the others'
            log.exception("channel_failed", extra={"instance": channel.name})
            self._lose(channel)

    def _register(self, channel: Channel) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.link.wants_write else 0)
        self._channels.add(channel)
        self._selector.register(channel.link, events, channel)

    def _lose(self, channel: Channel) -> None:
        if channel not in self._channels:
            return
        self._channels.remove(channel)
        self._selector.unregister(channel.link)
        channel.closed()
        self._on_lost(channel)

    def _watch_writes(self, channel: Channel) -> None:
        def watch() -> None:
            if channel in self._channels:
                self._selector.modify(channel.link, selectors.EVENT_READ | selectors.EVENT_WRITE, channel)

        self._do(watch)

    def _do(self, errand: Callable[[], None]) -> None:
        self._errands.append(errand)
        os.write(self._wake_out, b".")


def _nothing() -> None:
    """Only wakes the thread."""
