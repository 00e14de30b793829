"""Messages between the supervisor and its processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from runtime.runner import control
from runtime.runner.order import Order


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = control.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    messages: list[control.Message] = [
        {"type": "a"},
        {"type": "b", "text": "ä" * 50_000, "list": [1, None, True]},
    ]
    for message in messages:
        control.send(ours, message)
    assert [control.receive(theirs) for _ in messages] == [(message, []) for message in messages]


def test_descriptors_come_along_as_duplicates_that_are_not_inherited(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    inputs, output = os.pipe()
    control.send(ours, {"type": "attach"}, (inputs, output))
    os.close(inputs)
    received = control.receive(theirs)
    assert received is not None
    message, (theirs_in, theirs_out) = received
    os.write(output, b"x")
    assert os.read(theirs_in, 1) == b"x"
    assert message == {"type": "attach"}
    assert not os.get_inheritable(theirs_in)
    for descriptor in (output, theirs_in, theirs_out):
        os.close(descriptor)


def test_the_end_of_the_other_side_is_none(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    ours.shutdown(socket.SHUT_WR)
    assert control.receive(theirs) is None
    control.send(theirs, {"type": "last"})
    assert control.receive(ours) == ({"type": "last"}, [])


def test_a_reset_is_the_end_as_well(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    control.send(theirs, {"type": "never read"})
    ours.close()
    assert control.receive(theirs) is None


def test_sending_to_nobody_is_an_os_error(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.close()
    with pytest.raises(OSError, match="Broken pipe"):
        control.send(ours, {"type": "a"})


def test_an_order_is_a_flat_record() -> None:
    order = Order(store="/s", tag="m:1", instance="m:1#0")
    assert (order.device, order.threads, order.max_batch_size) == ("cpu", 1, 64)
