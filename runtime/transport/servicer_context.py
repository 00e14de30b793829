"""The ``grpc.ServicerContext`` that generated servicers get from ``servicers``."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

import grpc

from runtime.transport.fence import guarded
from runtime.transport.interface import Metadata, StreamCall


class Aborted(Exception):
    """Raised by ``Context.abort`` to leave the servicer's method."""


class Context(grpc.ServicerContext):  # type: ignore[misc]
    """State that a servicer's method may set; it is read when the method ends.

    Concurrency: one thread runs the method; callbacks come on the transport's thread.
    """

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._is_over = False
        self._lock = threading.Lock()
        call.on_done(self._finished)

    def end(self, default: grpc.StatusCode, details: str = "") -> None:
        """Send the status: what the method set, or else the default."""
        code = self._code or default
        if code is grpc.StatusCode.OK:
            self._call.finish(self._trailing)
        else:
            self._call.fail(code, self._details or details, self._trailing)

    def _finished(self, _cancelled: bool) -> None:
        with self._lock:
            self._is_over = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            guarded(callback)

    # -- grpc.RpcContext ----------------------------------------------------------------------------

    def is_active(self) -> bool:
        """Whether the RPC is still going on."""
        return self._call.is_active()

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        left = self._call.time_remaining()
        return None if left == math.inf else left

    def cancel(self) -> None:
        """Break the RPC off."""
        self._call.cancel()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called when the RPC is over; False if it is already."""
        with self._lock:
            if self._is_over:
                return False
            self._callbacks.append(callback)
            return True

    # -- grpc.ServicerContext: the caller -----------------------------------------------------------

    def invocation_metadata(self) -> Metadata:
        """What the client sent."""
        return self._call.metadata

    def peer(self) -> str:
        """The client's address."""
        return self._call.peer()

    def auth_context(self) -> dict[str, list[bytes]]:
        """What TLS knows of the peer."""
        return {key.decode(): value for key, value in self._call.auth_context().items()}

    def peer_identity_key(self) -> str | None:
        """The name of the property that identifies the peer."""
        known = self.auth_context()
        return next(
            (key for key in ("x509_subject_alternative_name", "x509_common_name") if key in known), None
        )

    def peer_identities(self) -> Sequence[bytes] | None:
        """The values of that property."""
        key = self.peer_identity_key()
        return self.auth_context()[key] if key else None

    # -- grpc.ServicerContext: the answer -----------------------------------------------------------

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing: the server compresses for whoever accepts it, or not at all."""

    def disable_next_message_compression(self) -> None:
        """Nothing, likewise."""

    def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Send metadata ahead of the first message."""
        self._call.set_initial_metadata(initial_metadata)
        self._call.send_initial_metadata()

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set what goes out with the status."""
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Metadata | None:
        """What was set."""
        return self._trailing

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End with an error.

        Raises:
            Aborted: always.
        """
        self._code = grpc.StatusCode.UNKNOWN if code is grpc.StatusCode.OK else code
        self._details = details
        raise Aborted

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End with an error, details and metadata.

        Raises:
            Aborted: always.
        """
        self._trailing = status.trailing_metadata
        self.abort(status.code, status.details)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that the method will end with."""
        self._code = code

    def code(self) -> grpc.StatusCode | None:
        """What was set."""
        return self._code

    def set_details(self, details: str) -> None:
        """Set the text of the status."""
        self._details = details

    def details(self) -> str:
        """What was set."""
        return self._details
