"""One thread that waits on the channels to all workers of a service process, and for alarms."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable

from runtime.errors import WorkerLost
from runtime.runner.alarm import Alarm
from runtime.runner.channel import Channel
from runtime.runner.poller import READABLE, WRITABLE, Poller

log = logging.getLogger(__name__)


class Reader:
    """Reads answers, flushes what could not be sent at once, and notices lost workers.

    Args:
        on_lost: called after a channel was closed, on the thread that handled its last answer.
    """

    def __init__(self, on_lost: Callable[[Channel], None]) -> None:
        self._on_lost = on_lost
        self._poller: Poller[Channel | Alarm | None] = Poller()
        self._errands: deque[Callable[[], None]] = deque()
        self._wake_in, self._wake_out = os.pipe()
        for end in (self._wake_in, self._wake_out):
            os.set_blocking(end, False)
        self._poller.add(self._wake_in, None)
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._stopping = False
        self._thread.start()

    def add(self, channel: Channel) -> None:
        """Watch a channel from now on."""
        channel.on_unsent = self._watch_writes
        channel.on_lost = self._on_lost
        self._do(lambda: self._register(channel))

    def remove(self, channel: Channel) -> None:
        """Stop watching a channel and close it; what it has not answered runs elsewhere."""
        self._do(lambda: self._lose(channel))

    def add_alarm(self, alarm: Alarm, on_ring: Callable[[], object]) -> None:
        """Have an alarm ring from now on; at once if its instant has passed meanwhile."""
        alarm.on_ring = on_ring
        self._do(lambda: self._poller.add(alarm.fileno(), alarm))

    def remove_alarm(self, alarm: Alarm) -> None:
        """Close an alarm; it may still ring until the thread has seen to it."""
        self._do(lambda: self._silence(alarm))

    def stop(self) -> None:
        """End the thread; channels and alarms stay as they are."""
        self._stopping = True
        self._do(_nothing)
        self._thread.join()
        self._poller.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    # -- reader's thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            for owner, events in self._poller.wait():
                if isinstance(owner, Channel):
                    self._serve(owner, events)
                elif owner is None:
                    os.read(self._wake_in, 4096)
                else:
                    self._ring(owner)
            while self._errands:
                errand = self._errands.popleft()
                try:
                    errand()
                except Exception:  # a fence: the thread must go on
                    log.exception("errand_failed")

    def _serve(self, channel: Channel, events: int) -> None:
        try:
            if events & WRITABLE:
                channel.link.flush()
                self._poller.watch(channel.link)
            if events & READABLE:
                channel.read()
        except WorkerLost as error:
            log.warning("instance_lost", extra={"instance": channel.name, "cause": str(error)})
            self._lose(channel)
        except Exception:  # a fence: one channel's trouble must not stop the others'
            log.exception("channel_failed", extra={"instance": channel.name})
            self._lose(channel)

    def _ring(self, alarm: Alarm) -> None:
        try:
            alarm.ring()
        except Exception:  # a fence: the thread must go on
            log.exception("alarm_failed")

    def _silence(self, alarm: Alarm) -> None:
        if alarm.fileno() in self._poller:
            self._poller.remove(alarm.fileno())
            alarm.close()

    def _register(self, channel: Channel) -> None:
        self._poller.add(channel.link.fileno(), channel)
        self._poller.watch(channel.link)

    def _lose(self, channel: Channel) -> None:
        if channel.link.fileno() in self._poller:  # it may be lost and removed at the same time
            self._poller.remove(channel.link.fileno())
            channel.link.hang_up()
            channel.lose()

    def _watch_writes(self, channel: Channel) -> None:
        def watch() -> None:
            if channel.link.fileno() in self._poller:
                self._poller.watch(channel.link)

        self._do(watch)

    def _do(self, errand: Callable[[], None]) -> None:
        self._errands.append(errand)
        with contextlib.suppress(BlockingIOError):  # the pipe is full: the thread will wake
            os.write(self._wake_out, b".")


def _nothing() -> None:
    """Only wakes the thread."""
