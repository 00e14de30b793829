"""The frame connection: nothing waits, nothing is lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from runtime.errors import WorkerLost
from runtime.runner.link import Link
from runtime.tensors.frame import Frame, Kind, encode


@pytest.fixture
def links() -> Iterator[tuple[Link, Link]]:
    one, other = map(Link, socket.socketpair())
    yield one, other
    one.close()
    other.close()


def batch(number: int, size: int = 10) -> Frame:
    return Frame(Kind.EXECUTE, number, b"h", (1,), (), bytes([number % 256]) * size, length=size)


def test_frames_arrive_in_the_order_they_were_sent(links: tuple[Link, Link]) -> None:
    one, other = links
    for number in range(3):
        one.send(encode(batch(number)))
    assert other.receive() == [batch(number) for number in range(3)]
    assert not one.wants_write


def test_nothing_to_receive_is_an_empty_list(links: tuple[Link, Link]) -> None:
    assert links[0].receive() == []


def test_what_the_kernel_does_not_take_is_kept_and_flushed(links: tuple[Link, Link]) -> None:
    one, other = links
    count, size = 60, 100_000
    for number in range(count):
        one.send(encode(batch(number, size)))
    assert one.wants_write
    got: list[Frame] = []
    while len(got) < count:
        got += other.receive()
        one.flush()
    assert got == [batch(number, size) for number in range(count)]
    assert not one.wants_write
    one.flush()
    assert other.receive() == []


def test_the_end_of_the_other_side_is_worker_lost(links: tuple[Link, Link]) -> None:
    one, other = links
    other.close()
    with pytest.raises(WorkerLost, match="closed"):
        one.receive()
    with pytest.raises(WorkerLost, match="broke"):
        one.send(b"x")


def test_what_was_sent_before_the_end_still_arrives(links: tuple[Link, Link]) -> None:
    one, other = links
    one.send(encode(batch(1)))
    one.close()
    assert other.receive() == [batch(1)]
    with pytest.raises(WorkerLost):
        other.receive()


def test_a_reset_is_worker_lost(links: tuple[Link, Link]) -> None:
    one, other = links
    one.send(b"unread")
    other.close()  # with unread data: the peer sees a reset
    with pytest.raises(WorkerLost):
        one.receive()


def test_nonsense_is_worker_lost(links: tuple[Link, Link]) -> None:
    one, other = links
    one.send(b"\xff" * 100)
    with pytest.raises(WorkerLost, match="no frame"):
        other.receive()


def test_flushing_to_a_dead_side_is_worker_lost(links: tuple[Link, Link]) -> None:
    one, other = links
    while not one.wants_write:
        one.send(bytes(1 << 20))
    other.close()
    with pytest.raises(WorkerLost):
        one.flush()
