"""Messages between the supervisor and the processes it keeps: JSON with file descriptors.

A control connection is a ``SOCK_SEQPACKET`` pair, so that a message arrives whole or not at all and the
end of either process is seen as the end of the stream. Nothing is ever unpickled.
"""

from __future__ import annotations

import array
import ctypes
import json
import signal
import socket
from collections.abc import Sequence
from typing import Any, Final

Message = dict[str, Any]

_MAX_BYTES: Final = 1 << 20
_MAX_DESCRIPTORS: Final = 16
_PR_SET_PDEATHSIG: Final = 1


def pair() -> tuple[socket.socket, socket.socket]:
    """A connection: the supervisor's end and the child's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_BYTES)
    return ours, theirs


def send(sock: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message; the descriptors are duplicated, the caller's stay open.

    Raises:
        OSError: the other side is gone.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([json.dumps(message).encode()], rights, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message with the descriptors that came along; None at the end of the stream."""
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
    try:
        data, ancillary, _, _ = sock.recvmsg(_MAX_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if not data:
        return None
    return json.loads(data), list(descriptors)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, even in the middle of a long batch."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
