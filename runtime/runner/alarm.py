"""A timer of the kernel that rings on the reader's thread, for a scheduler that has to decide at an instant.

Setting it wakes nobody, which is the point of a timerfd: the thread that sets it, which holds the scheduler's
lock, goes on, and the reader's thread sleeps until the instant has come. Waking that thread to hand it a new
timeout would cost both of them many times as much.

Source: timerfd_create(2). Python has it from 3.13 on, but gives up the interpreter's lock around each call,
which a busy thread may keep for milliseconds; ctypes' ``PyDLL`` does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from typing import Final

from runtime.clock import SECOND

_libc = ctypes.PyDLL(None, use_errno=True)
_Spec = ctypes.c_long * 4  # struct itimerspec: seconds and nanoseconds of the interval, and of the instant
_libc.timerfd_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_long), ctypes.c_void_p)
_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC
"""TFD_NONBLOCK and TFD_CLOEXEC, which are defined to be these."""


class Alarm:
    """Rings once at the instant that it was set to last.

    Register it with :meth:`runtime.runner.reader.Reader.add_alarm`.

    Attributes:
        on_ring: called on the reader's thread.

    Concurrency: :meth:`set` on any thread; the rest belongs to the reader.
    """

    def __init__(self) -> None:
        self.on_ring: Callable[[], object] = _ignore
        self._descriptor: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _Spec()
        self._at_ns = 0  # when to ring
        self._timer_ns = 0  # what the kernel was told: this or, if it was put off, an earlier instant
        self._lock = threading.Lock()  # guards the three above

    def fileno(self) -> int:
        """For selectors; -1 once it is closed."""
        return self._descriptor

    def set(self, at_ns: int) -> None:
        """Ring at this instant of the monotonic clock; at once if it has passed; 0 does not ring any more.

        To put it off costs no system call: the kernel's timer runs off when it was told to, and is told the
        later instant then.
        """
        with self._lock:
            self._at_ns = at_ns
            timer_ns = self._timer_ns
            if at_ns != timer_ns and not 0 < timer_ns <= at_ns:
                self._tell_kernel(at_ns)

    def ring(self) -> None:
        """Call whoever waits, if it is time: the alarm may have been set anew since the timer ran off."""
        with self._lock:
            try:
                os.read(self._descriptor, 8)
            except BlockingIOError:
                return
            if self._at_ns > self._timer_ns:
                self._tell_kernel(self._at_ns)
                return
            self._at_ns = self._timer_ns = 0
        self.on_ring()

    def _tell_kernel(self, at_ns: int) -> None:
        if self._descriptor < 0:
            return
        self._spec[2], self._spec[3] = divmod(at_ns, SECOND)
        if _libc.timerfd_settime(self._descriptor, _ABSOLUTE, self._spec, None):
            raise OSError(ctypes.get_errno(), f"the alarm cannot be set to {at_ns}")
        self._timer_ns = at_ns

    def close(self) -> None:
        """Never ring again; setting it has no effect any more."""
        with self._lock, contextlib.suppress(OSError):
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _ignore() -> None:
    """Nobody waits."""
