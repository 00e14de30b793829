"""The worker's end of a connection: its arena, and models that keep what they were given."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from runtime.errors import InvalidInput, WorkerLost
from runtime.runner.executor import Share
from runtime.runner.link import INLINE_BYTES
from runtime.runner.peer import Peer
from runtime.tensors import arena
from runtime.tensors.arena import Arena
from runtime.tensors.frame import KEPT, Decoder, Frame, Kind, Timing, encode

ROOM = 4 * INLINE_BYTES
LARGE = bytes(INLINE_BYTES + 1)


class Service:
    """The other end, by hand."""

    def __init__(self, sock: socket.socket, outgoing: Arena) -> None:
        self.sock = sock
        self.outgoing = outgoing

    def place(self, data: bytes, offset: int = 0) -> Frame:
        self.outgoing.view[offset : offset + len(data)] = data
        return Frame(Kind.EXECUTE, 1, b"h", (1,), (), b"", offset, len(data))

    def ack(self, count: int) -> None:
        self.sock.send(encode(Frame(Kind.EXECUTE, 1, b"h", (1,), ack=count)))


@pytest.fixture
def connected() -> Iterator[tuple[Peer, Service]]:
    ours, theirs = socket.socketpair()
    incoming = arena.create(ROOM)
    duplicate = Arena(os.dup(incoming))
    peer = Peer("service", ours, incoming, arena.create(ROOM))
    yield peer, Service(theirs, duplicate)
    peer.close()
    theirs.close()
    duplicate.close()


def answer(data: bytes) -> Frame:
    decoder = Decoder(len(data))
    room = decoder.buffer()
    room[: len(data)] = data
    room.release()
    (frame,) = decoder.received(len(data))
    return frame


def share(data: bytes) -> Share:
    return Share(b"out", [], [data])


def test_small_outputs_are_inline_and_large_ones_in_the_arena(connected: tuple[Peer, Service]) -> None:
    peer, _ = connected
    small = answer(
        peer.store(Share(b"out", [1, 2], [b"a", b"bc"])).frame(5, (3, 4), Timing(1, 2, 3, 4, 5), kept=False)
    )
    assert small == Frame(
        Kind.RESULT, 5, b"out", (3, 4), (1, 2), bytearray(b"abc"), length=3, timing=Timing(1, 2, 3, 4, 5)
    )
    large = answer(peer.store(share(LARGE)).frame(6, (3, 3), Timing(), kept=True))
    assert (large.offset, large.length, large.payload, large.flags) == (0, len(LARGE), b"", KEPT)


def test_acknowledged_space_is_used_again_and_no_other(connected: tuple[Peer, Service]) -> None:
    peer, service = connected
    first = peer.store(share(LARGE))
    peer.refusal(1, InvalidInput("no"), Timing())  # an answer without a place
    second = peer.store(share(LARGE))
    third = peer.store(share(LARGE))
    assert len({first.offset, second.offset, third.offset}) == 3
    assert peer.store(share(LARGE)).kind is Kind.FAILURE
    service.ack(2)
    peer.receive()
    again = peer.store(share(LARGE))
    assert (again.kind, again.offset) == (Kind.RESULT, first.offset)
    assert peer.store(share(LARGE)).kind is Kind.FAILURE
    service.ack(5)  # the failures were answers too
    peer.receive()
    assert [peer.store(share(LARGE)).offset for _ in range(2)] == [second.offset, third.offset]


def test_outputs_that_do_not_fit_are_a_failure_with_figures(connected: tuple[Peer, Service]) -> None:
    peer, _ = connected
    stored = peer.store(share(bytes(ROOM + 1)))
    assert stored.kind is Kind.FAILURE
    report = json.loads(stored.head)
    assert report["reason"] == "memory_exhausted"
    assert str(ROOM + 1) in report["message"]


def test_a_refusal_tells_reason_message_and_field(connected: tuple[Peer, Service]) -> None:
    peer, _ = connected
    frame = answer(peer.refusal(9, InvalidInput("wrong", field="x"), Timing(1, 1, 2, 2), kept=True))
    assert (frame.kind, frame.batch, frame.flags) == (Kind.FAILURE, 9, KEPT)
    assert json.loads(frame.head) == {"reason": "invalid_input", "message": "wrong", "field": "x"}


def test_the_end_of_the_service_is_worker_lost(connected: tuple[Peer, Service]) -> None:
    peer, service = connected
    service.sock.close()
    with pytest.raises(WorkerLost):
        peer.receive()


def test_inputs_are_read_where_they_lie_until_a_model_keeps_them(connected: tuple[Peer, Service]) -> None:
    peer, service = connected
    frame = service.place(b"abc")
    payload = peer.payload(frame)
    assert isinstance(payload, memoryview)
    array = np.frombuffer(payload, np.uint8)
    assert array.tolist() == list(b"abc")
    del array
    assert not peer.is_kept(frame, payload)
    payload = peer.payload(frame)
    array = np.frombuffer(payload, np.uint8)
    assert peer.is_kept(frame, payload)
    copied = peer.payload(frame)
    assert copied == bytearray(b"abc")
    assert isinstance(copied, bytearray)
    assert not peer.is_kept(frame, copied)
    assert array.tolist() == list(b"abc")
    del array


def test_inputs_held_only_by_a_cycle_are_not_kept(connected: tuple[Peer, Service]) -> None:
    peer, service = connected
    frame = service.place(b"abc")
    payload = peer.payload(frame)
    cycle: list[object] = [np.frombuffer(payload, np.uint8)]
    cycle.append(cycle)
    del cycle
    assert not peer.is_kept(frame, payload)
    assert isinstance(peer.payload(frame), memoryview)


def test_inline_inputs_belong_to_whoever_has_them(connected: tuple[Peer, Service]) -> None:
    peer, _ = connected
    frame = Frame(Kind.EXECUTE, 1, b"h", (1,), (), bytearray(b"abc"), length=3)
    payload = peer.payload(frame)
    assert payload is frame.payload
    assert not peer.is_kept(frame, payload)
