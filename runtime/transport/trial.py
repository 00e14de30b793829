"""The trial of the completion-queue server; ``selfcheck`` runs it in a child process.

It fails, hangs or dies if anything is not as the transport expects, so it checks by raising.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable

import grpc

from runtime.runner import control
from runtime.transport.completion_queue import Server
from runtime.transport.interface import Call, StreamCall
from runtime.transport.options import TransportOptions

_WAIT_S = 5.0
_NOT_FOUND = 5


def main() -> None:
    """Serve every operation to a stock client, then stop."""
    rounds = threading.Semaphore(0)
    held: list[Call] = []
    control.die_with_parent()
    address = f"unix-abstract:runtime-trial-{secrets.token_hex(16)}"  # leaves no file, however it ends
    server = Server(TransportOptions(keepalive_time_ms=1000))
    server.after_drain.append(rounds.release)
    cancelled, arrived = _add_methods(server, held)
    server.add_port(address)
    server.start()
    with grpc.insecure_channel(address) as channel:
        _unary(channel)
        _streams(channel)
        future = channel.unary_unary("/t.T/Hold").future(b"", timeout=60)
        _demand(arrived.wait(_WAIT_S) and 50 < held[0].time_remaining() < 65, "deadline")
        future.cancel()
        _demand(cancelled.wait(_WAIT_S) and not held[0].respond(b""), "cancellation")
    _demand(rounds.acquire(timeout=_WAIT_S), "hooks")
    _demand(server.stop(1).wait(_WAIT_S) and server.active == 0, "stop")
    os._exit(0)  # the verdict is in; what the interpreter would tidy up does not matter


def _add_methods(server: Server, held: list[Call]) -> tuple[threading.Event, threading.Event]:
    cancelled, arrived = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        call.on_done(lambda was_cancelled: cancelled.set() if was_cancelled else None)
        held.append(call)
        arrived.set()

    def later(call: Call) -> None:
        def answer() -> None:
            call.respond(call.peer().encode())

        def elsewhere() -> None:
            if not call.post(answer):
                answer()

        threading.Thread(target=elsewhere, daemon=True).start()

    server.add_unary(
        "/t.T/Echo", lambda call: call.respond(call.request, [m for m in call.metadata if m[0] == "a"])
    )
    server.add_unary("/t.T/Fail", lambda call: call.fail(_NOT_FOUND, "no", (("k-bin", b"v"),)))
    server.add_unary("/t.T/Later", later)
    server.add_unary("/t.T/Hold", hold)
    server.add_stream("/t.T/Stream", _echo_stream)
    return cancelled, arrived


def _echo_stream(call: StreamCall) -> None:
    def message(data: bytes | None) -> None:
        if data is None:
            call.finish()
        else:
            call.send(data)
            call.read()

    call.set_initial_metadata((("i", "1"),))
    call.send_initial_metadata()
    call.on_message = message
    call.read()


def _unary(channel: grpc.Channel) -> None:
    echo: Callable[..., tuple[bytes, grpc.Call]] = channel.unary_unary("/t.T/Echo").with_call
    reply, call = echo(bytes(100_000), metadata=(("a", "b"),))
    _demand(reply == bytes(100_000) and dict(call.trailing_metadata())["a"] == "b", "echo")
    _demand(channel.unary_unary("/t.T/Later")(b"").startswith(b"unix:"), "answer from another thread")
    try:
        channel.unary_unary("/t.T/Fail")(b"")
    except grpc.RpcError as error:
        _demand(error.code() is grpc.StatusCode.NOT_FOUND and error.details() == "no", "error status")
    else:
        raise RuntimeError("an RPC that fails succeeded")


def _streams(channel: grpc.Channel) -> None:
    replies = channel.stream_stream("/t.T/Stream")(iter([b"1", b"2"]))
    _demand(dict(replies.initial_metadata()).get("i") == "1", "initial metadata")
    _demand(list(replies) == [b"1", b"2"], "stream")


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise RuntimeError(f"{what} is not as expected")
