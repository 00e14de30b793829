"""Ports: taken ones, shared ones, several processes."""

from __future__ import annotations

import contextlib
import socket

import grpc
import pytest

from runtime.transport.options import TransportOptions
from tests.transport.rig import OWN_CONNECTION, WAIT_S, Child, Rig

FRONT = """
import sys, threading
from runtime.transport.options import TransportOptions
from runtime.transport.selfcheck import choose
server = choose(sys.argv[1])(TransportOptions(reuse_port=True))
server.add_unary("/t.T/Who", lambda call: call.respond(sys.argv[3].encode()))
server.add_port("127.0.0.1:" + sys.argv[2])
server.start()
print("up", flush=True)
threading.Event().wait()
"""


def test_taken_port_is_an_os_error(rig, factory):
    server = factory(TransportOptions())
    with pytest.raises(OSError, match="cannot bind"):
        server.add_port(rig.target)
    assert server.stop(None).wait(WAIT_S)


def test_port_can_be_shared_when_both_ask_for_it(factory, make_rig):
    first = make_rig(reuse_port=True)
    second = Rig(factory, reuse_port=True, address=first.target)
    assert second.port == first.port
    assert second.server.stop(None).wait(WAIT_S)


def test_port_is_free_after_the_stop(factory):
    first = Rig(factory)
    assert first.server.stop(None).wait(WAIT_S)
    second = Rig(factory, address=f"127.0.0.1:{first.port}")
    assert second.port == first.port
    assert second.server.stop(None).wait(WAIT_S)


def test_several_processes_share_a_port(implementation):
    with socket.socket() as probe, contextlib.ExitStack() as stack:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("127.0.0.1", 0))  # keeps the port for our processes
        port = probe.getsockname()[1]
        fronts = [stack.enter_context(Child(FRONT, implementation, str(port), name)) for name in "ab"]
        assert [front.read() for front in fronts] == ["up", "up"]
        seen = set()
        for _ in range(60):
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=(OWN_CONNECTION,)) as channel:
                seen.add(channel.unary_unary("/t.T/Who")(b"", timeout=WAIT_S))
            if len(seen) == len(fronts):
                break
    assert seen == {b"a", b"b"}
